"""Which specs a catalogue holds, and which of them use a source."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from hefjoin.errors import InputError
from hefjoin.service import source_refusal
from hefjoin.sources.bucket import Server
from hefjoin.sources.find import LIST_SUFFIX, S3
from hefjoin.spec import BuildSpec
from hefjoin.stores import os_errors

SUFFIXES = (".yaml", ".yml", ".json")


def specs_in(place: str) -> list[str]:
    """Return where the specs of a catalogue lie, in the order of their names.

    Args:
        place: A folder or an S3 prefix: the spec files right in it, but hidden ones, are meant, not those further
            below, where a spec's own files lie. Or one spec file.

    Raises:
        InputError: Nothing lies there, or a service may not read it.
        StoreError: It cannot be read.
    """
    if refusal := source_refusal(place):
        raise InputError(refusal)
    if _is_spec(place):
        return [place]
    found = _in_prefix(place) if place.startswith(S3) else _in_folder(place)
    if not found:
        raise InputError(f"{place} holds no specs ({', '.join(SUFFIXES)})")
    return sorted(found)


def listed(text: str) -> list[str]:
    """Return the specs that a text names, one spec, folder or prefix a line; each once.

    Raises:
        InputError: It names none, or lines of it lead nowhere; all of these are told.
        StoreError: A line's place cannot be read.
    """
    found: dict[str, None] = {}
    problems: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            found |= dict.fromkeys(specs_in(line))
        except InputError as error:
            problems.append(error.message)
    if problems:
        raise InputError("\n".join(problems))
    if not found:
        raise InputError(f"no specs are named; write one a line: a spec ({', '.join(SUFFIXES)}), a folder, or a prefix")
    return list(found)


def is_used(spec: BuildSpec, uri: str) -> bool:
    """Return whether a spec uses what lies at a path or address: by name, in a list, or below a folder or prefix.

    Entries of a `.txt` are not looked at, the `.txt` itself is.
    """
    wanted = _plain(uri)
    sources = [*(model.source for model in spec.models), spec.calibration.source, spec.evaluation.source]
    return any(_covers(line, wanted) for source in sources for line in source.split("\n") if line)


def _covers(source: str, wanted: str) -> bool:
    source = _plain(source)
    if source == wanted:
        return True
    if source.endswith((LIST_SUFFIX, ".npy", ".npz", ".onnx", ".har")):
        return False
    return wanted.startswith(source if source.endswith("/") or not source else f"{source}/")


def _plain(uri: str) -> str:
    """Return a path as specs have them once they are read, absolute; an address as it is."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _is_spec(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file.lower().endswith(SUFFIXES) and not file.startswith(".")


def _in_folder(place: str) -> list[str]:
    folder = Path(_plain(place))
    with os_errors(f"list {folder}", str(folder)):
        if not folder.is_dir():
            raise InputError(f"{place} is no folder of specs and no spec ({', '.join(SUFFIXES)})")
        return [str(path) for path in folder.iterdir() if _is_spec(path.name) and path.is_file()]


def _in_prefix(place: str) -> list[str]:
    prefix = f"{place.rstrip('/')}/"
    return [version.uri for version in Server(prefix).listed(prefix, is_deep=False) if _is_spec(version.key)]
