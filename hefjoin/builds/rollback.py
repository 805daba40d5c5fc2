"""Makes an earlier build the latest of its name again, by a new record.

The rules:

1. Nothing is overwritten: who reads the row later sees the build, the rollback and when it was.
2. Without a build to go to, it goes to the one that was latest before the current one. Twice goes two back, not back
   and forth: a build that was taken back is not "before" any more.
3. Only a build goes there that passed its gates, was latest once, and whose every byte is intact.
"""

from __future__ import annotations

import platform
import time

from hefjoin.builds.find import read_manifest
from hefjoin.builds.rows import PROVIDERS, add_to_row, builds_of, latest, read, read_row
from hefjoin.builds.verify import OnHashed, verify
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Published
from hefjoin.results.sources import Provider
from hefjoin.stores import Store

SHOWN = 10


def provider_of(store: Store, name: str, asked: Provider | None = None) -> Provider:
    """Return whose row of a name is meant.

    Raises:
        InputError: The name has no row, or one of each compiler and none was asked for.
    """
    found = [provider for provider in PROVIDERS if builds_of(store, provider, name)]
    if asked in found or (asked is None and len(found) == 1):
        return asked or found[0]
    if asked is None and found:
        raise InputError(f"{name} in {store.uri} has builds of both compilers; say which with --sdk dfc or emulator")
    if found:
        raise InputError(f"{name} in {store.uri} has builds by the {found[0]} only; leave --sdk {asked} out")
    names = sorted({key.split("/")[2] for key in store.list_records("builds") if key.count("/") == 3})
    there = f"it has {', '.join(names[:SHOWN])}{' and others' if names[SHOWN:] else ''}" if names else "it has none"
    raise InputError(f"{store.uri} has no builds of the name {name!r}; {there}")


def standing(row: list[Published]) -> list[str]:
    """Return the builds that were latest one after the other, without those that were taken back; the last is latest.

    Args:
        row: The records of a name, in order.
    """
    stack: list[str] = []
    for record in row:
        if record.took_back and record.build_id in stack:
            del stack[stack.index(record.build_id) + 1 :]
        elif stack[-1:] != [record.build_id]:
            stack.append(record.build_id)
    return stack


def roll_back(
    store: Store, name: str, provider: Provider, to: str = "", on_hashed: OnHashed | None = None
) -> tuple[Published, Published]:
    """Make an earlier build the latest of its name; return the record that was latest and the new one.

    Args:
        store: Where the name is.
        name: The name.
        provider: Whose row.
        to: The build's id, or how it begins; empty: the one that was latest before.
        on_hashed: For the progress of verifying it.

    Raises:
        InputError: There is no such build, it is latest already, a gate failed, or it was never latest.
        StoreError: Something that belongs to it is missing or damaged.
    """
    current = latest(store, provider, name)
    if current is None:
        raise InputError(f"no build of {name} by the {provider} passed its gates yet: there is nothing to roll back")
    row = read_row(store, provider, name)
    wanted = _chosen(store, name, provider, to) if to else _before(row, name)
    _require_promoted(store, row, current, wanted)
    if findings := [each for each in verify(store, wanted, on_hashed).findings if each.kind == "artifact"]:
        raise StoreError(
            f"build {wanted.build_id} is not whole: {findings[0].uses[0]} is {findings[0].problem}"
            f"{f', and {len(findings) - 1} more' if findings[1:] else ''}. `hefjoin verify {wanted.build_id}` lists "
            "it; build its spec again to mend it",
            reason="damaged",
            uri=findings[0].uri,
        )
    taken = [each for each in (current.build_id, *current.took_back) if each != wanted.build_id]
    record = wanted.model_copy(update={"took_back": tuple(taken), "created_at": _now(), "host": platform.node()})
    return current, add_to_row(store, record)


def _before(row: list[Published], name: str) -> Published:
    stack = standing(row)
    if len(stack) < 2:
        raise InputError(f"{name} has no build before {stack[-1]} to go back to")
    return next(record for record in reversed(row) if record.build_id == stack[-2])


def _chosen(store: Store, name: str, provider: Provider, to: str) -> Published:
    keys = builds_of(store, provider, name)
    ids = [key.rpartition("/")[2] for key in keys]
    found = [each for each in ids if each == to] or [each for each in ids if each.startswith(to)]
    if len(found) > 1:
        raise InputError(f"{to!r} is how {len(found)} builds of {name} begin: {', '.join(found[:SHOWN])}")
    published = read(store, keys[ids.index(found[0])]) if found else None
    if published is None:
        raise InputError(f"{to!r} is no build of {name} by the {provider}; `hefjoin history {name}` lists them")
    return published


def _require_promoted(store: Store, row: list[Published], current: Published, wanted: Published) -> None:
    if wanted.build_id == current.build_id:
        raise InputError(f"build {wanted.build_id} is the latest of {wanted.name} already")
    if any(record.build_id == wanted.build_id for record in row):
        return
    failed = [gate for gate in read_manifest(store, wanted).gates if gate.verdict == "failed"]
    reasons = "; ".join(f"{gate.name} wanted {gate.wanted}, found {gate.found}, {gate.missed}" for gate in failed)
    raise InputError(
        f"build {wanted.build_id} was never the latest of {wanted.name}: "
        f"{reasons or 'it ended before it could be named; build its spec again'}"
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
