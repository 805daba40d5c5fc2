"""What a source in S3 names: one object, the images below a prefix, or a list of images.

The rule: everything that is wrong with a source is told at once, each problem with its field and its line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hefjoin.calibration_sources import IMAGE_SUFFIXES, is_image
from hefjoin.errors import InputError, Problem, StoreError
from hefjoin.service import source_refusal
from hefjoin.sources.bucket import Server, Version
from hefjoin.stores.s3 import split_uri

S3 = "s3://"
LIST_SUFFIX = ".txt"
ARRAY_SUFFIXES = (".npy", ".npz")
THREADS = 16
NAME_BYTES = 255
"""Longest name of a file on the usual file systems."""

Complain = Callable[[str, str], None]
"""(where in the field: `[3]` or nothing, what is wrong)"""


@dataclass(frozen=True)
class Found:
    """The objects that a source names."""

    source: str
    """Its address: an object, a prefix, or the folder under which all objects of a list lie."""
    files: dict[str, Version]
    """By the path that each has below the folder of a set."""
    is_folder: bool


def is_afar(source: str) -> bool:
    """Return whether a source must be asked of a server: in S3, or a list of what lies there."""
    return source.startswith(S3) or "\n" in source or source.lower().endswith(LIST_SUFFIX)


def find(
    where: str, source: str, server: Server, problems: list[Problem], *, with_entries: bool = True
) -> Found | None:
    """Ask the server for what a source names; None where `problems` got a reason.

    Args:
        where: The field: `calibration.source`.
        source: What it says.
        server: Whom to ask.
        problems: Where to tell what is wrong.
        with_entries: Ask for each entry of a list, which takes a second for some hundreds. Else it is read only.

    Raises:
        StoreError: The server is out of reach, or refuses.
    """

    def complain(place: str, message: str) -> None:
        problems.append(Problem(f"{where}{place}", message))

    try:
        if where.startswith("models"):
            return _object(source, server, complain)
        if "\n" in source or source.lower().endswith((LIST_SUFFIX, *IMAGE_SUFFIXES)):
            return _listed(source, server, complain, with_entries)
        if source.endswith("/"):
            return _prefix(source, server, complain)
        if source.lower().endswith(ARRAY_SUFFIXES):
            return _object(source, server, complain)
        _refuse(source, server, complain)
    except InputError as error:
        complain("", error.message)
    except StoreError as error:
        if error.attributes.get("reason") != "bucket":
            raise
        complain("", error.message)
    return None


def beside(model_uri: str, files: Sequence[str], server: Server, complain: Complain) -> dict[str, Version]:
    """Return the files beside a model in S3, by their paths below its folder.

    Raises:
        StoreError: The server is out of reach, or refuses.
    """
    folder = model_uri.rpartition("/")[0]
    return _look_up({f"{folder}/{file}": file for file in files}, {}, server, complain)


def _object(uri: str, server: Server, complain: Complain) -> Found | None:
    version = server.version(uri)
    if version is None:
        complain("", f"{uri} does not exist")
        return None
    return Found(uri, {uri.rpartition("/")[2]: version}, is_folder=False)


def _refuse(uri: str, server: Server, complain: Complain) -> None:
    below = sum(1 for _ in server.listed(f"{uri}/"))
    kinds = f"a set is a prefix with a slash at its end, a {', '.join(ARRAY_SUFFIXES)} or a list of images"
    if below:
        complain("", f"{below:,} objects lie below {uri}/: write it so, with the slash")
    else:
        complain("", f"{uri} is no set of images, and nothing lies below {uri}/; {kinds}")


def _prefix(uri: str, server: Server, complain: Complain) -> Found | None:
    prefix = split_uri(uri)[1]
    listed = list(server.listed(uri))
    images = {version.key.removeprefix(prefix): version for version in listed}
    images = {name: version for name, version in images.items() if is_image(name)}
    if not images:
        held = f"holds {len(listed):,} objects, but no image" if listed else "holds nothing"
        complain("", f"{uri} {held} ({', '.join(IMAGE_SUFFIXES)})")
        return None
    return Found(uri, images, is_folder=True) if _are_files(images, complain) else None


def _are_files(names: dict[str, Version], complain: Complain) -> bool:
    """Tell of keys that cannot be files of one folder."""
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    wrong = []
    for name, version in names.items():
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > NAME_BYTES for part in parts):
            wrong.append(f"{version.uri} makes no name of a file")
        elif name in folders:
            wrong.append(f"{version.uri} is an object, and others lie below it")
    for message in wrong:
        complain("", message)
    return not wrong


def _listed(source: str, server: Server, complain: Complain, with_entries: bool) -> Found | None:
    lines = _lines(source, server, complain)
    if lines is None:
        return None
    is_sound = True
    entries: dict[str, tuple[str, str]] = {}
    for place, line_name, uri in lines:
        message = _wrong(uri, entries)
        if message:
            complain(place, f"{line_name}{message}")
            is_sound = False
        else:
            entries[uri] = (place, line_name)
    if not (entries or lines):
        complain("", f"{source} lists nothing")
    if not entries:
        return None
    folder = _common_folder(list(entries))
    names = {uri: uri.removeprefix(folder) for uri in entries}
    versions = _look_up(names, entries, server, complain) if with_entries else {}
    is_sound = is_sound and _are_files(versions, complain) and (len(versions) == len(names) or not with_entries)
    return Found(folder, versions, is_folder=True) if is_sound else None


def _lines(source: str, server: Server, complain: Complain) -> list[tuple[str, str, str]] | None:
    """Return (place in the field, line in words, URI) of each entry; None where the list cannot be read."""
    if "\n" in source:
        lines = source.split("\n")
        return [(f"[{index}]", "", line.strip()) for index, line in enumerate(lines) if line.strip()]
    if not source.lower().endswith(LIST_SUFFIX):
        return [("", "", source)]
    try:
        text = server.text(source) if source.startswith(S3) else Path(source).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        complain("", f"{source} cannot be read: {error}")
        return None
    if text is None:
        complain("", f"{source} does not exist")
        return None
    bucket = f"{S3}{split_uri(source)[0]}/" if source.startswith(S3) else ""
    name = source.rpartition("/")[2]
    return [
        ("", f"{name} line {number}: ", line if line.startswith(S3) else f"{bucket}{line}")
        for number, line in enumerate((line.strip() for line in text.splitlines()), 1)
        if line
    ]


def _wrong(uri: str, entries: dict[str, tuple[str, str]]) -> str:
    if not uri.startswith(S3):
        return f"{uri!r} is no s3://bucket/key; a bare key stands only in a list that lies in S3 itself"
    if not split_uri(uri)[1]:
        return f"{uri!r} names no key"
    if refusal := source_refusal(uri):
        return refusal
    if not is_image(uri.rpartition("/")[2]):
        return f"{uri} is no image ({', '.join(IMAGE_SUFFIXES)})"
    return f"{uri} stands there twice" if uri in entries else ""


def _common_folder(uris: Sequence[str]) -> str:
    """Return what all addresses begin with, up to a slash.

    >>> _common_folder(["s3://b/day/1.png", "s3://b/dawn/1.png"])
    's3://b/'
    """
    folders = [uri.split("/")[:-1] for uri in uris]
    first, last = min(folders), max(folders)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return "/".join(first[:shared]) + "/"


def _look_up(
    names: dict[str, str], entries: dict[str, tuple[str, str]], server: Server, complain: Complain
) -> dict[str, Version]:
    """Return what lies at each address, by name, asked for in parallel; what is missing is told."""
    found = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for (uri, name), version in zip(names.items(), pool.map(server.version, names), strict=True):
            if version is None:
                place, line_name = entries.get(uri, ("", ""))
                complain(place, f"{line_name}{uri} does not exist")
            else:
                found[name] = version
    return found
