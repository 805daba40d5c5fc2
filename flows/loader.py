"""Finds the manifest of a build and writes its loader, for `hefjoin loader`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pydantic import ValidationError

from hefjoin.errors import InputError
from hefjoin.loader import module_name, render
from hefjoin.manifest import Manifest, Provider, Published
from hefjoin.spec import NAME_PATTERN
from hefjoin.stages.publish import latest
from hefjoin.stores import Store, os_errors, partial_file

PROVIDERS: tuple[Provider, ...] = ("dfc", "emulator")
"""In the order in which a name is looked up: a real build before an emulated one."""
NAMES_SHOWN = 10


def find_manifest(build: str, store: Store) -> Manifest:
    """Return the manifest of a build.

    Args:
        build: A manifest.json; a folder with one; a build id; or a name, for its latest build.
        store: Where ids and names are looked up.

    Raises:
        InputError: There is none, or it was written by another version of hefjoin.
        StoreError: The store cannot be read, or has lost the manifest.
    """
    path = Path(build)
    if path.is_dir() and (path / "manifest.json").is_file():
        path = path / "manifest.json"
    if path.is_file():
        return _read(path, str(path))
    published = _published(build, store) if re.match(NAME_PATTERN, build) else None
    if published is None:
        raise InputError(
            f"{build!r} is no manifest, no folder with a manifest.json, and no build or name in {store.uri}, which has "
            f"{_names(store)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        return _read(store.get(published.manifest, Path(folder) / "manifest.json"), published.manifest.uri)


def write(manifest: Manifest, out: Path | None = None) -> Path:
    """Write the loader of a build, in the place of an older one; return where it lies.

    Args:
        manifest: The build.
        out: The file; None for the module's own name, in the working directory.

    Raises:
        StoreError: The file cannot be written.
    """
    path = out or Path(f"{module_name(manifest)}.py")
    text = render(manifest)
    with os_errors(f"write {path}", str(path.parent)), partial_file(path.parent) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return path


def _published(build: str, store: Store) -> Published | None:
    record = store.read_record(f"builds/{build}")
    if record is not None:
        return Published.model_validate(record)
    found = (latest(store, provider, build) for provider in PROVIDERS)
    return next((published for published in found if published is not None), None)


def _read(path: Path, where: str) -> Manifest:
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
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return "the names " + ", ".join(names[:NAMES_SHOWN]) + more if names else "no names"
