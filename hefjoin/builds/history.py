"""The builds of a name, one after the other: what each is worth, whether it was promoted, what changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record
from hefjoin.builds.figures import Figure, figures
from hefjoin.builds.find import LOST, read_manifest
from hefjoin.builds.rollback import standing
from hefjoin.builds.rows import THREADS, builds_of, read, read_row
from hefjoin.builds.speed import host_of, last_change
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Gate, Manifest, Published
from hefjoin.results.sources import Provider
from hefjoin.results.timed import SpeedChange
from hefjoin.stores import Store

State = Literal["latest", "promoted", "rolled back", "not promoted"]


class Entry(Record):
    """A build in the history of its name."""

    build_id: str
    state: State
    records: tuple[int, ...]
    """Numbers of the records that made it the latest; several where it was gone back to."""
    problem: str = ""
    """Why nothing more is known of it."""
    created_at: str = ""
    compiler: str = ""
    gates: tuple[Gate, ...] = ()
    figures: dict[str, Figure] = Field(default_factory=dict)
    parent: str = ""
    changed: tuple[str, ...] = ()
    """Since the parent."""
    speed: SpeedChange | None = None
    """Against the last listed build before it that was measured on the same machine, in the same way."""
    manifest: Manifest | None = Field(default=None, exclude=True)


def history(store: Store, provider: Provider, name: str, last: int = 0) -> list[Entry]:
    """Return the builds of a name, the newest last; one that cannot be read says so.

    Args:
        store: Where they are.
        provider: Whose builds.
        name: Their name.
        last: How many; 0: all.

    Raises:
        StoreError: The store cannot be read, or a record of the name is damaged.
    """
    row = read_row(store, provider, name)
    stack = standing(row)
    keys = builds_of(store, provider, name)[-last:]
    with ThreadPoolExecutor(THREADS) as pool:
        entries = list(pool.map(lambda key: _entry(store, key, row, stack), keys))
    known = [entry.manifest for entry in entries]
    return [entry.model_copy(update={"speed": _speed(known[:index], entry)}) for index, entry in enumerate(entries)]


def _speed(before: Sequence[Manifest | None], entry: Entry) -> SpeedChange | None:
    if entry.manifest is None:
        return None
    return last_change(filter(None, reversed(before)), entry.manifest.measured, host_of(entry.manifest))


def _entry(store: Store, key: str, row: list[Published], stack: list[str]) -> Entry:
    build_id = key.rpartition("/")[2]
    records = tuple(int(each.record.rpartition("/")[2]) for each in row if each.build_id == build_id)
    state: State = "not promoted" if not records else "promoted" if build_id in stack else "rolled back"
    if stack[-1:] == [build_id]:
        state = "latest"
    try:
        published = read(store, key)
        if published is None:
            raise InputError(f"{store.uri}/{key}.json was removed meanwhile")
        manifest = read_manifest(store, published)
    except (InputError, StoreError) as error:
        if isinstance(error, StoreError) and error.reason not in LOST:
            raise
        return Entry(build_id=build_id, state=state, records=records, problem=error.message)
    return Entry(
        build_id=build_id,
        state=state,
        records=records,
        created_at=manifest.created_at,
        compiler=f"{manifest.sdk.provider} {manifest.sdk.version}",
        gates=manifest.gates,
        figures=figures(manifest),
        parent=manifest.parent,
        changed=manifest.changed,
        manifest=manifest,
    )
