"""Finds a build by what a person calls it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pydantic import ValidationError

from hefjoin.artifacts import Record
from hefjoin.builds.rows import PROVIDERS, builds_key, builds_of, latest, read, row_key
from hefjoin.errors import InputError, StoreError
from hefjoin.manifest import Manifest, Published
from hefjoin.results.sources import Provider
from hefjoin.spec import NAME_PATTERN
from hefjoin.stores import Store, os_errors

SHOWN = 10
LOST = ("missing", "damaged")
"""Reasons of a StoreError that say something of what is stored and nothing of the store."""


class Build(Record):
    """A build as it lies in a store."""

    published: Published
    manifest: Manifest


def latest_build(store: Store, provider: Provider, name: str) -> Build | None:
    """Return the latest build of a name; None where there is none, or where it is lost, damaged or another version's.

    A build that finds it damaged is then made and published anew.
    """
    try:
        published = latest(store, provider, name)
        return None if published is None else _whole(store, published)
    except InputError:
        return None
    except StoreError as error:
        if error.reason not in LOST:
            raise
        return None


def _whole(store: Store, published: Published) -> Build | None:
    """Return the build of a record, unless its manifest or report is lost."""
    if not (store.has(published.manifest) and store.is_intact(published.report)):
        return None
    return Build(published=published, manifest=read_manifest(store, published))


def repeated_build(store: Store, before: Build | None, manifest: Manifest) -> Build | None:
    """Return the build that a new one repeats, or None.

    That may be the latest, one that was taken back for it, or the newest, which a gate may have kept from being named.

    Args:
        store: Where builds are.
        before: The latest build of the name.
        manifest: The new build.
    """
    if before is not None and manifest.repeats(before.manifest):
        return before
    for key in besides_latest(store, manifest.sdk.provider, manifest.spec.name, before.published if before else None):
        try:
            published = read(store, key)
            found = _whole(store, published) if published else None
        except (InputError, StoreError):
            continue  # what cannot be read is not repeated: it is made and published anew
        if found is not None and manifest.repeats(found.manifest):
            return found
    return None


def besides_latest(store: Store, provider: Provider, name: str, latest: Published | None) -> list[str]:
    """Return the records of those builds that a new one may repeat, besides the latest: taken back, or the newest."""
    folder = builds_key(provider, name)
    taken_back = [f"{folder}/{build_id}" for build_id in latest.took_back] if latest else []
    return list(dict.fromkeys([*taken_back, *builds_of(store, provider, name)[-1:]]))


def find_manifest(build: str, store: Store) -> Manifest:
    """Return the manifest of a build.

    Args:
        build: A manifest.json; a folder with one; or what `find_published` takes.
        store: Where ids and names are looked up.

    Raises:
        InputError: There is none, there are several, or it was written by another version of hefjoin.
        StoreError: The store cannot be read, or has lost the manifest.
    """
    path = manifest_file(build)
    return _parse(path, str(path)) if path else read_manifest(store, find_published(build, store))


def manifest_file(build: str) -> Path | None:
    """Return the manifest that lies at a path, or in the folder there; None where none does."""
    path = Path(build)
    if path.is_dir():
        path = path / "manifest.json"
    return path if path.is_file() else None


def find_published(build: str, store: Store) -> Published:
    """Return the record of a build.

    Args:
        build: A build id or how a single one begins; a name, for its latest build; `name@3`, for its third record.
        store: Where it is looked up.

    Raises:
        InputError: There is none, or there are several.
    """
    name, _, number = build.partition("@")
    if number.isdecimal() and re.match(NAME_PATTERN, name):
        return _numbered(name, int(number), store)
    keys = store.list_records("builds") if re.match(NAME_PATTERN, build) else []
    whole = [key for key in keys if key.rpartition("/")[2] == build]
    named = [] if whole or not keys else [latest(store, provider, build) for provider in PROVIDERS]
    if found := next((published for published in named if published is not None), None):
        return found
    begun = whole or [key for key in keys if key.rpartition("/")[2].startswith(build)]
    if len(begun) > 1:
        ids = ", ".join(key.rpartition("/")[2] for key in begun[:SHOWN])
        raise InputError(f"{build!r} is how {len(begun)} builds in {store.uri} begin: {ids}; write more of the id")
    if begun and (found := read(store, begun[0])):
        return found
    raise InputError(
        f"{build!r} is no manifest, no folder with a manifest.json, and no build or name in {store.uri}, which has "
        f"{_names(store)}"
    )


def record_of(store: Store, manifest: Manifest) -> Published | None:
    """Return the record of the build that a manifest is of; None where the store has none."""
    return read(store, f"{builds_key(manifest.sdk.provider, manifest.spec.name)}/{manifest.build_id}")


def _numbered(name: str, number: int, store: Store) -> Published:
    for provider in PROVIDERS:
        if found := read(store, f"{row_key(provider, name)}/{number:06d}"):
            return found
    raise InputError(f"{name} in {store.uri} has no record {number}; `hefjoin history {name}` lists them")


def read_manifest(store: Store, published: Published) -> Manifest:
    """Return the manifest of a build, verified.

    Raises:
        InputError: It was written by another version of hefjoin.
        StoreError: The store cannot be read, or the manifest is missing or damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _parse(store.get(published.manifest, Path(folder) / "manifest.json"), published.manifest.uri)


def _parse(path: Path, where: str) -> Manifest:
    with os_errors(f"read {where}", where):
        content = path.read_bytes()
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{where} is no manifest that this version of hefjoin reads: {field}: {first['msg']}"
            f"{f', and {error.error_count() - 1} more' if error.error_count() > 1 else ''}; build it again"
        ) from error


def _names(store: Store) -> str:
    """Return the names of the store's builds, in words."""
    names = sorted({key.split("/")[2] for key in store.list_records("names")})
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "the names " + ", ".join(names[:SHOWN]) + more if names else "no names"
