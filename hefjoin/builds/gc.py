"""What nothing in a store needs any more, and its removal.

The rules:

1. Kept are the latest of each name, the builds last promoted and the newest, and all that their manifests point to;
   and as many of the newest pages that tell of several builds.
   A stage's record stays as long as a kept build has that stage, or all artifacts that it names stay.
2. What a running build has pinned stays (`hefjoin.stores.pins`), and so does what was being removed when it began.
3. Records go before what they name: a removal that is killed leaves what the next one finds, never a record of
   something that is gone.
4. Manifests of all versions are understood, because only the digests in them are looked at.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hefjoin.artifacts import Record, Ref
from hefjoin.errors import StoreError
from hefjoin.stores import Leftover, Store, Stored, store_error
from hefjoin.stores.claims import LEASE_SECONDS, Owner, claimed, owners
from hefjoin.stores.pins import HANDED_OVER, REMOVING, RUNNING, pinned

THREADS = 8
STALE_UPLOAD_S = 86_400.0
"""An upload that is older was killed, even where a build runs that might be at it."""

Artifact = tuple[str, str]
"""Digest and media."""


class Keep(Record):
    """What stays, besides the latest of each name."""

    builds: int
    """Of each name: so many that were promoted last, and so many that were made last."""
    days: float = 0.0
    """Stages that were built within so many days stay, whether a build that is kept has them or not."""


class Waste(NamedTuple):
    """What nothing needs, in the order in which it is removed."""

    records: tuple[str, ...]
    """Of builds, of names and of stages; claims of builds that died, and what they handed over."""
    objects: tuple[Stored, ...]
    leftovers: tuple[Leftover, ...]
    running: tuple[Owner, ...]
    """The builds that run, which keep what they use."""
    lost: tuple[str, ...]
    """Builds that are kept and whose manifest is missing or damaged, so that only what else is known of them stays."""

    @property
    def builds(self) -> tuple[str, ...]:
        """Ids of the builds that go."""
        return tuple(key.rpartition("/")[2] for key in self.records if key.startswith("builds/"))

    @property
    def stages(self) -> int:
        """How many stages can no longer be reused."""
        return sum(key.startswith("reuse/") for key in self.records)

    @property
    def size_bytes(self) -> int:
        """What is freed."""
        return sum(each.size_bytes for each in self.objects) + sum(each.size_bytes for each in self.leftovers)

    @property
    def is_empty(self) -> bool:
        """Nothing is to be removed."""
        return not (self.records or self.objects or self.leftovers)


def waste(store: Store, keep: Keep, lease_s: float = LEASE_SECONDS) -> Waste:
    """Return what nothing in a store needs; nothing is changed.

    Raises:
        StoreError: The store cannot be read.
    """
    beats, pins = store.list_records("beats"), store.list_records("pins")  # each belongs to a claim made before
    handed_over = _handed_over(store)
    living, lapsed = owners(store, lease_s)
    builds = {key.rpartition("/")[2]: owner for key, owner in living.items() if key.startswith(f"{RUNNING}/")}
    needed = pinned(store, builds)
    kept, gone = _divided(store, keep)
    pages, old_pages = _pages(store, keep)
    needed |= pages
    lost, stages = [], set()
    with ThreadPoolExecutor(THREADS) as threads:
        for key, (manifest, artifacts) in zip(kept, threads.map(lambda key: _needs(store, key), kept), strict=True):
            needed |= artifacts
            stages |= {f"reuse/{each['stage']}/{each['key']}" for each in manifest.get("stages", ())}
            if not manifest:
                lost.append(key.rpartition("/")[2])
    stale, further = _stages(store, keep, stages, needed)
    needed |= further
    hearts = {f"beats/{owner.id}" for owner in living.values()}
    dead = [*lapsed, *(key for key in beats if key not in hearts), *(k for k in pins if k.split("/")[1] not in builds)]
    dead += [key for key, build in handed_over.items() if build not in builds]
    return Waste(
        records=(*gone, *old_pages, *stale, *dead),
        objects=tuple(each for each in store.objects() if (each.sha256, each.media) not in needed),
        leftovers=tuple(each for each in store.leftovers() if not builds or each.age_s > STALE_UPLOAD_S),
        running=tuple(builds.values()),
        lost=tuple(lost),
    )


def remove(store: Store, shown: Waste, keep: Keep, on_removed: Callable[[int, int], None] | None = None) -> Waste:
    """Remove what was shown and is still needed by nobody; return what was removed.

    Args:
        store: Where from.
        shown: What `waste` returned and a person has agreed to.
        keep: As for `waste`.
        on_removed: Called with the number of things that are removed by now, and that of all.

    Raises:
        StoreError: The store cannot be read or written; what was not removed is found again.
    """
    with claimed(store, REMOVING, "remove what nothing needs"):
        now = waste(store, keep)
        agreed = Waste(
            records=tuple(key for key in now.records if key in set(shown.records)),
            objects=tuple(each for each in now.objects if each in set(shown.objects)),
            leftovers=tuple(each for each in now.leftovers if each.name in {old.name for old in shown.leftovers}),
            running=now.running,
            lost=now.lost,
        )
        total = len(agreed.records) + len(agreed.objects) + len(agreed.leftovers)
        with ThreadPoolExecutor(THREADS) as threads:
            for number, _ in enumerate(_removed(store, agreed, threads), 1):
                if on_removed:
                    on_removed(number, total)
    return agreed


def _removed(store: Store, agreed: Waste, threads: ThreadPoolExecutor) -> Iterator[None]:
    """Remove one kind after the other, as long as the claim to do so cannot have lapsed."""
    pulse = time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps

    def held(remove_one: Callable[[Any], None], item: Any) -> None:
        nonlocal pulse
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        if now - pulse > LEASE_SECONDS / 2:
            message = (
                f"removing from {store.uri} stood still for {now - pulse:.0f} s; builds may run by now. Try again."
            )
            raise store_error(message, "unavailable", store.uri)
        pulse = now
        remove_one(item)

    yield from threads.map(partial(held, store.remove_record), agreed.records)
    yield from threads.map(partial(held, store.remove_object), agreed.objects)
    yield from threads.map(partial(held, store.remove_leftover), agreed.leftovers)


def _divided(store: Store, keep: Keep) -> tuple[list[str], list[str]]:
    """Return the records of builds that stay, and all records of builds and names that go."""
    builds, names = _by_folder(store.list_records("builds")), _by_folder(store.list_records("names"))
    kept, gone = [], []
    for name in dict.fromkeys((*builds, *names)):
        of_build = {key: key.rpartition("/")[2] for key in builds.get(name, ())}
        row = {key: _build_id(store, key) for key in names.get(name, ())}
        promoted = list(dict.fromkeys(reversed(row.values())))
        newest = list(reversed(of_build.values()))
        stay = {*promoted[: max(keep.builds, 1)], *newest[: keep.builds]}
        kept += [key for key, build_id in of_build.items() if build_id in stay]
        kept += [key for key in list(row)[-1:] if row[key] not in of_build.values()]
        gone += [key for key, build_id in list(row.items())[:-1] if build_id not in stay]
        gone += [key for key, build_id in of_build.items() if build_id not in stay]
    return kept, gone


def _pages(store: Store, keep: Keep) -> tuple[set[Artifact], list[str]]:
    """Return what the newest pages of each kind are, `fleet` and `rebuild`, and the records of the others."""
    kinds = _by_folder(store.list_records("pages")).values()
    kept = [key for keys in kinds for key in keys[-keep.builds :]]
    gone = [key for keys in kinds for key in keys[: -keep.builds]]
    return {each for key in kept for each in _artifacts(store.find_record(key))}, gone


def _handed_over(store: Store) -> dict[str, str]:
    """Return the records of hand-overs, each with the build that handed over; nothing where that is not said."""
    keys = store.list_records(HANDED_OVER)
    wanted = {key.rpartition("/")[0]: store.find_record(key) or {} for key in keys if key.endswith("/wanted")}
    return {key: str(wanted.get(key.rpartition("/")[0], {}).get("build", "")) for key in keys}


def _by_folder(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return keys by provider and name, in their order."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault("/".join(key.split("/")[1:-1]), []).append(key)
    return found


def _build_id(store: Store, key: str) -> str:
    return str((store.find_record(key) or {}).get("build_id", ""))


def _needs(store: Store, key: str) -> tuple[dict[str, Any], set[Artifact]]:
    """Return a build's manifest as plain JSON, empty where it is lost, and all artifacts that the build needs."""
    published = store.find_record(key) or {}
    manifest: dict[str, Any] = {}
    try:
        ref = Ref.model_validate(published.get("manifest"))
        with tempfile.TemporaryDirectory() as folder:
            manifest = json.loads(store.get(ref, Path(folder) / "manifest.json").read_bytes())
    except ValueError:  # not a reference, or not JSON: pydantic's error is one
        pass
    except StoreError as error:
        if error.reason not in ("missing", "damaged"):
            raise
    return manifest, {*_artifacts(published), *_artifacts(manifest)}


def _artifacts(value: Any) -> Iterator[Artifact]:
    """Yield all that JSON refers to, by digest and media."""
    if isinstance(value, dict):
        if "sha256" in value and "media" in value:
            yield value["sha256"], value["media"]
        for item in value.values():
            yield from _artifacts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _artifacts(item)


def _stages(store: Store, keep: Keep, kept: set[str], needed: set[Artifact]) -> tuple[list[str], set[Artifact]]:
    """Return the records of stages that go, and the artifacts that those need which stay though no build has them.

    What a compiler decided for a graph (`auto`) is such a record too.
    """
    keys = [key for folder in ("reuse", "auto") for key in store.list_records(folder) if key not in kept]
    oldest = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time.time() - 86_400 * keep.days))
    gone: list[str] = []
    further: set[Artifact] = set()
    with ThreadPoolExecutor(THREADS) as threads:
        for key, found in zip(keys, threads.map(store.find_record, keys), strict=True):
            record = found or {}
            made = set(_artifacts(record.get("result", record)))
            if keep.days and record.get("built_at", "") >= oldest:
                further |= made
            elif not made or not made <= needed:
                gone.append(key)
    return gone, further
