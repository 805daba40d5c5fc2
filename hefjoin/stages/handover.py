"""A benchmark that another machine performs: what is wanted of it and what it gave, left in the store.

The rules:

1. The build leaves `handover/<id>/wanted`; the machine with the device claims `handover/<id>`, performs the stage with
   its own host in the key, and leaves `given`, or `refused` with the error that it came to.
2. The id is made of the run that asks and of what it asks, so a build that is taken up again finds what was given.
3. What is wanted is pinned by the build, and what is given is pinned in its name. A hand-over whose build has died
   means nothing; it is removed with the rest.
"""

from __future__ import annotations

import hashlib
import platform
from typing import Any, Self

from pydantic import ValidationError

from hefjoin import errors
from hefjoin.artifacts import Record, canonical_json, refs
from hefjoin.errors import DeviceError, HefJoinError, InputError
from hefjoin.manifest import DeviceHost, StageRun
from hefjoin.results.measured import Measured
from hefjoin.stages.benchmark import Benchmark, this_host
from hefjoin.stages.contract import Workplace
from hefjoin.stores import Store
from hefjoin.stores.claims import LEASE_SECONDS, Watch, holder
from hefjoin.stores.pins import HANDED_OVER


class Wanted(Record):
    """What a build asks of a machine with a device."""

    build: str
    """Whose pins keep what it needs."""
    name: str
    """Of the build, for people."""
    version: int
    """Of the stage, as the machine that builds knows it."""
    stage: dict[str, Any]
    """The stage's fields without its host."""
    force: bool
    earlier_keys: dict[str, str]
    """Of the latest build's benchmark, where there is one, to say what changed since."""

    def here(self) -> Benchmark:
        """Return the stage as this machine performs it.

        Raises:
            InputError: The machine that builds has another version of hefjoin.
        """
        try:
            if self.version == Benchmark.version:
                return Benchmark.model_validate({**self.stage, "host": this_host()})
        except ValidationError:
            pass
        raise InputError(
            f"{platform.node()} has another version of hefjoin than the machine that builds {self.name} (stage "
            f"{Benchmark.version}, wanted {self.version}); install the same on both"
        )


class Given(Record):
    """What the machine with the device measured."""

    value: Measured
    run: StageRun
    by: DeviceHost


class Refused(Record):
    """The error that the machine with the device came to."""

    kind: str
    message: str
    attributes: dict[str, Any]
    host: str

    @classmethod
    def of(cls, error: HefJoinError) -> Self:
        """Return the record of an error."""
        plain = {name: value for name, value in error.attributes.items() if isinstance(value, str | int | float | bool)}
        return cls(kind=type(error).__name__, message=error.message, attributes=plain, host=platform.node())

    def error(self) -> HefJoinError:
        """Return the error again; it was tried again where that might have helped, so it is final."""
        kind = getattr(errors, self.kind, DeviceError)
        attributes = {**self.attributes, "is_transient": False, "message": f"{self.host}: {self.message}"}
        try:
            if issubclass(kind, HefJoinError):
                return kind(**attributes)
        except TypeError:  # its attributes are no plain values
            pass
        return DeviceError(**attributes)


class Handover:
    """A hand-over in a store, as both sides see it."""

    def __init__(self, store: Store, key: str) -> None:
        """Look at the hand-over with this key: `handover/<id>`."""
        self.store, self.key = store, key
        self._watch, self._dead = Watch(store, LEASE_SECONDS), set[str]()

    @classmethod
    def of(cls, store: Store, asking: str, stage: Benchmark) -> Self:
        """Return the hand-over of a stage by a run; the same for the same."""
        content = {"asking": asking, "version": stage.version, "stage": _without_host(stage)}
        return cls(store, f"{HANDED_OVER}/{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]}")

    def ask(self, stage: Benchmark, place: Workplace) -> None:
        """Say what is wanted, and keep it from being removed.

        It is said before and after the pins, which wait for who removes things: such a one may have taken what lay
        there for a dead build's.
        """
        wanted = Wanted(
            build=place.build,
            name=stage.name,
            version=stage.version,
            stage=_without_host(stage),
            force=place.force,
            earlier_keys={title: key for title, key in place.earlier_keys.items() if title == stage.title},
        )
        self.store.replace_record(f"{self.key}/wanted", wanted.model_dump(mode="json"))
        place.pin([stage.hef, stage.evaluation.npy, stage.outputs])
        self.store.replace_record(f"{self.key}/wanted", wanted.model_dump(mode="json"))
        self.store.remove_record(f"{self.key}/refused")

    def wanted(self) -> Wanted | None:
        """Return what is wanted; None where nobody asks, or asks no more."""
        record = self.store.find_record(f"{self.key}/wanted")
        return None if record is None else Wanted.model_validate(record)

    def give(self, given: Given) -> None:
        """Leave what was measured."""
        self.store.replace_record(f"{self.key}/given", given.model_dump(mode="json"))

    def refuse(self, error: HefJoinError) -> None:
        """Leave the error that was come to."""
        self.store.replace_record(f"{self.key}/refused", Refused.of(error).model_dump(mode="json"))

    def given(self, place: Workplace) -> Given | None:
        """Return what was measured, whole; None where nothing was yet.

        Raises:
            HefJoinError: The error that the machine with the device came to.
        """
        if record := self.store.find_record(f"{self.key}/given"):
            given = Given.model_validate(record)
            needed = list(refs(given.value))
            place.pin(needed)
            if all(self.store.is_intact(ref) for ref in needed):
                return given
        if record := self.store.find_record(f"{self.key}/refused"):
            raise Refused.model_validate(record).error()
        return None

    def is_lost(self) -> bool:
        """Return, of each who was at it once, that he has died; asked time and again."""
        owner = holder(self.store, self.key)
        if owner is None or owner.id in self._dead or self._watch.state(owner) != "gone":
            return False
        self._dead.add(owner.id)
        return True

    def forget(self) -> None:
        """Remove what was only for the hand-over."""
        for name in ("wanted", "given", "refused"):
            self.store.remove_record(f"{self.key}/{name}")


def _without_host(stage: Benchmark) -> dict[str, Any]:
    return stage.model_dump(mode="json", exclude={"host"})
