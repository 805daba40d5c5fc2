"""The contract of a stage, and the runner that holds it to it and reuses what is finished.

A stage is a frozen record of all that it reads. The rules:

1. `requires` is checked before anything is done, `ensures` before anything is kept.
2. Its key is the digest of its name, its version and its fields, artifacts and sources by content. Equal keys
   mean equal work: the record of the earlier run is taken, once every artifact it names is found intact. While another
   build is at it, it is waited for.
3. It works in a directory of its own, which is gone afterwards; a failed run leaves its logs there.
4. What it made lies in the store before its record does. A run that dies leaves no record, and neither does one
   whose result is not final.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from hefjoin.artifacts import Record, Ref, by_content, canonical_json, leaves, refs
from hefjoin.errors import StoreError
from hefjoin.manifest import StageRun
from hefjoin.sdk.log import Progress
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stores import Store
from hefjoin.stores.claims import Owner, claimed
from hefjoin.stores.pins import pin

logger = logging.getLogger("hefjoin.stages")

ResultT = TypeVar("ResultT", bound=Record)

NO_KEY = "none"
OTHER_VERSION = "built, because its record is from another version of hefjoin"


@dataclass(frozen=True)
class Workplace:
    """Where stages work: the store they end in, the folder they work under, the compiler they use."""

    store: Store
    root: Path
    toolchain: Toolchain
    force: bool = False
    """Build everything anew."""
    on_progress: Callable[[Progress], None] | None = None
    earlier_keys: dict[str, str] = field(default_factory=dict)
    """Keys of the stages of the latest build of this name, by title, to say what changed since."""
    build: str = ""
    """What this build pins artifacts with (`hefjoin.stores.pins`); empty where nothing is removed meanwhile."""

    @property
    def checkpoints(self) -> Path:
        """Where a step keeps how far it came; it outlives the stage's own directory, whatever ends that."""
        return self.root / "checkpoints"

    def put(self, path: Path, media: str) -> Ref:
        """Leave a file in the store, where it stays as long as this build runs; raises as `Store.put` does."""
        return self.store.put(path, media, announce=lambda ref: self.pin([ref]))

    def pin(self, needed: Iterable[Ref]) -> None:
        """Keep artifacts in the store as long as this build runs."""
        if self.build:
            tell = "waiting for %s, which removes what nothing needs"
            pin(self.store, self.build, needed, lambda owner: logger.info(tell, owner))


class Stage(Record, ABC, Generic[ResultT]):
    """A step of a build; its fields are all that it reads."""

    stage: ClassVar[str]
    version: ClassVar[int]
    """Raised when the same fields would give another result."""
    result: ClassVar[type[Any]]

    @property
    def subject(self) -> str:
        """The model this run is for; empty where there is one run per build."""
        return ""

    @property
    def title(self) -> str:
        """Name for people: `parse resnet_a`."""
        return f"{self.stage} {self.subject}".rstrip()

    @property
    def key(self) -> str:
        """Digest of all that decides the result."""
        content = {"stage": self.stage, "version": self.version, **by_content(self.model_dump(mode="json"))}
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    def requires(self) -> None:
        """Raise an InputError unless the fields allow the stage to begin."""

    @abstractmethod
    def run(self, work: Path, place: Workplace) -> ResultT:
        """Do the work in the directory `work`, leave artifacts in the store, return the result."""

    @abstractmethod
    def ensures(self, result: ResultT) -> None:
        """Raise unless the result is what the stage promises."""

    def is_final(self, result: ResultT) -> bool:
        """Return whether the same fields would give the same again; what is not final is not kept for the next run."""
        del result
        return True


class Outcome(Record, Generic[ResultT]):
    """What a stage gave and how it came to it."""

    value: ResultT
    run: StageRun


class Finished(Record):
    """What a run leaves under its key, for the next one."""

    stage: str
    subject: str
    built_at: str
    """UTC, for people."""
    seconds: float
    inputs: dict[str, Any]
    result: dict[str, Any]


def perform(stage: Stage[ResultT], place: Workplace) -> Outcome[ResultT]:
    """Hold a stage to its contract and return its outcome, reused where the same work was done before."""
    stage.requires()
    reused, _ = _reusable(stage, place)
    if reused is not None:
        return reused
    with claimed(place.store, f"{stage.stage}/{stage.key}", stage.title, _teller(stage)):
        reused, reason = _reusable(stage, place)  # by whom was waited for
        return reused or _build(stage, place, reason)


def _teller(stage: Stage[Any]) -> Callable[[Owner], None]:
    return lambda owner: logger.info("%s: being built by %s; waiting for it", stage.title, owner)


def _build(stage: Stage[ResultT], place: Workplace, reason: str) -> Outcome[ResultT]:
    logger.info("%s: %s", stage.title, reason)
    start = time.monotonic()
    with own_directory(place, stage.title) as work:
        result = stage.run(work, place)
        stage.ensures(result)
    seconds = round(time.monotonic() - start, 3)
    finished = Finished(
        stage=stage.stage,
        subject=stage.subject,
        built_at=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        seconds=seconds,
        inputs=stage.model_dump(mode="json"),
        result=result.model_dump(mode="json"),
    )
    if stage.is_final(result):
        place.store.replace_record(f"reuse/{stage.stage}/{stage.key}", finished.model_dump(mode="json"))
    logger.info("%s: done in %.1f s", stage.title, seconds)
    return Outcome(value=result, run=_stage_run(stage, seconds, reason, is_reused=False))


def _reusable(stage: Stage[ResultT], place: Workplace) -> tuple[Outcome[ResultT] | None, str]:
    """Return an earlier run's outcome, or None with the reason why the stage has to be built."""
    if place.force:
        return None, "forced"
    found, reason = earlier_run(stage.stage, stage.key, place)
    if found is None:
        return None, reason or f"built, because {what_changed(stage, place)}"
    try:
        result = stage.result.model_validate(found.result)
    except ValidationError:
        return None, OTHER_VERSION
    needed = list(refs(result))
    place.pin(needed)
    for ref in needed:
        if not place.store.is_intact(ref):
            return None, f"built, because its {ref.media} {ref.sha256[:12]} is missing or damaged in the store"
    run = _stage_run(stage, found.seconds, f"same inputs as on {found.built_at}", is_reused=True)
    logger.info("%s: reused", stage.title)
    return Outcome(value=result, run=run), ""


def earlier_run(stage: str, key: str, place: Workplace) -> tuple[Finished | None, str]:
    """Return what a run left under a key; None where there is nothing, or nothing readable and why."""
    try:
        record = place.store.read_record(f"reuse/{stage}/{key}")
        return None if record is None else Finished.model_validate(record), ""
    except StoreError as error:
        if error.attributes.get("reason") != "damaged":
            raise
        return None, "built, because its record is damaged"
    except ValidationError:
        return None, OTHER_VERSION


def what_changed(stage: Stage[Any], place: Workplace) -> str:
    """Return, in words, what the stage would read that the latest build of its name did not."""
    earlier, _ = earlier_run(stage.stage, place.earlier_keys.get(stage.title, NO_KEY), place)
    if earlier is None:
        return "it is new"
    now, then = (leaves(by_content(fields)) for fields in (stage.model_dump(mode="json"), earlier.inputs))
    changed = sorted(path for path in {*now, *then} if now.get(path) != then.get(path))
    if not changed:
        return "the stage itself changed"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{', '.join(changed[:3])}{more} changed"


@contextmanager
def own_directory(place: Workplace, title: str) -> Iterator[Path]:
    """Yield a new directory that is gone afterwards; where the work in it failed, its logs stay.

    Raises:
        StoreError: The directory cannot be made or written; the disk may be full.
    """
    work = place.root / f"{title.replace(' ', '-')}-{uuid4().hex[:12]}"
    try:
        work.mkdir(parents=True)
        yield work
    except BaseException as error:
        _leave_logs_only(work)
        if isinstance(error, OSError):
            raise StoreError(
                f"{title}: cannot work in {work}: {error.strerror or error}. Free space there, or set another folder "
                "in HEFJOIN_WORK",
                reason="full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "refused",
                uri=str(work),
                is_transient=False,
            ) from error
        raise
    shutil.rmtree(work, ignore_errors=True)


def _leave_logs_only(work: Path) -> None:
    if not work.exists():
        return
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".log":
            path.unlink(missing_ok=True)
    if not any(work.iterdir()):
        work.rmdir()


def _stage_run(stage: Stage[Any], seconds: float, reason: str, *, is_reused: bool) -> StageRun:
    return StageRun(
        stage=stage.stage, subject=stage.subject, key=stage.key, seconds=seconds, is_reused=is_reused, reason=reason
    )
