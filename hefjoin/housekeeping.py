"""What hefjoin keeps on this machine beside stores, and what of it may go.

The rule: nothing that a running build uses is removed. Sources are read through links of the build's own; a step is
stopped after 24 h, so a folder that nothing was written to for longer is no running stage's; a home of an embedded
Prefect server is locked while it serves.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from hefjoin.artifacts import Record
from hefjoin.folders import cache_folder, seen_folder, sources_folder, work_folder
from hefjoin.sources.cache import Cache
from hefjoin.sources.held import in_use, remove_dead

STEP_SECONDS = 25 * 3600
"""No step runs longer, with an hour to spare."""
DAY_SECONDS = 86400
CHECKPOINTS = "checkpoints"

Kind = Literal["sources", "digests", "work", "checkpoints", "prefect"]


class Source(Record):
    """What the cache has for one source of a spec."""

    uri: str
    objects: int
    size_bytes: int
    """Of its objects; bytes that two share are counted for each."""
    last_use: str
    """ISO 8601, UTC."""


class Folder(Record):
    """One kind of what grows."""

    kind: Kind
    path: str
    files: int
    size_bytes: int


class Usage(Record):
    """All that is kept."""

    folders: tuple[Folder, ...]
    limit_bytes: int
    """For sources."""
    builds_with_sources: int
    """Folders of sources that running builds hold."""
    sources: tuple[Source, ...]


class Removable(NamedTuple):
    """Something that may go."""

    kind: Kind
    what: str
    files: int
    size_bytes: int
    remove: Callable[[], None]


def usage() -> Usage:
    """Return what is kept on this machine.

    Raises:
        InputError: `HEFJOIN_CACHE_GB` is no number of 0 or more.
    """
    cache = Cache(sources_folder())
    kept = [Path(each.path) for each in cache.objects()]
    stages = [path for folder in _stage_folders() for path in _files(folder)]
    return Usage(
        folders=(
            _folder("sources", cache.folder, kept),
            _folder("digests", seen_folder(), list(_files(seen_folder()))),
            _folder("work", work_folder(), stages),
            _folder("checkpoints", work_folder() / CHECKPOINTS, list(_files(work_folder() / CHECKPOINTS))),
            _folder("prefect", cache_folder(), [path for home in _homes() for path in _files(home)]),
        ),
        limit_bytes=cache.limit_bytes,
        builds_with_sources=len(in_use(cache.in_use)),
        sources=tuple(_sources(cache)),
    )


def removable(older_than_days: float = 0.0) -> list[Removable]:
    """Return what no running build uses and was last used longer ago than that.

    Raises:
        InputError: `HEFJOIN_CACHE_GB` is no number of 0 or more.
    """
    before_s = time.time() - older_than_days * DAY_SECONDS
    unused_s = min(before_s, time.time() - STEP_SECONDS)
    cache = Cache(sources_folder())
    old = [each for each in cache.objects() if each.used_s <= before_s]
    found = []
    if old:
        size_bytes = sum(each.size_bytes for each in old)
        found.append(Removable("sources", str(cache.folder), len(old), size_bytes, lambda: cache.remove(old)))
    found += [_digests(path) for path in _below(seen_folder()) if _last_change_s(path) <= before_s]
    checkpoints = _below(work_folder() / CHECKPOINTS)
    found += [_whole("work", path) for path in _stage_folders() if _last_change_s(path) <= unused_s]
    found += [_whole("checkpoints", path) for path in checkpoints if _last_change_s(path) <= unused_s]
    found += [_home(home) for home in _homes() if _last_change_s(home) <= before_s and _is_free(home)]
    return found


def clean(chosen: list[Removable]) -> None:
    """Remove what `removable` gave."""
    for each in chosen:
        each.remove()
    remove_dead(Cache(sources_folder()).in_use)


def _sources(cache: Cache) -> Iterator[Source]:
    known = {each.sha256: each for each in cache.objects()}
    grouped: dict[str, list[str]] = {}
    for _, entry in cache.entries():
        if entry.sha256 in known:
            grouped.setdefault(entry.source, []).append(entry.sha256)
    for uri, digests in sorted(grouped.items()):
        used_s = max(known[each].used_s for each in digests)
        yield Source(
            uri=uri,
            objects=len(digests),
            size_bytes=sum(known[each].size_bytes for each in digests),
            last_use=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(used_s)),
        )


def _folder(kind: Kind, path: Path, files: list[Path]) -> Folder:
    return Folder(kind=kind, path=str(path), files=len(files), size_bytes=sum(_size_bytes(file) for file in files))


def _whole(kind: Kind, path: Path) -> Removable:
    def remove() -> None:
        if _last_change_s(path) > time.time() - STEP_SECONDS:
            return  # taken up again since it was shown
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    files = list(_files(path)) or [path]
    return Removable(kind, str(path), len(files), sum(_size_bytes(file) for file in files), remove)


def _digests(path: Path) -> Removable:
    return Removable("digests", str(path), 1, _size_bytes(path), lambda: path.unlink(missing_ok=True))


def _home(home: Path) -> Removable:
    """Return a Prefect home as something that may go, all but its lock, which others may just be opening."""
    lock_path = home / "lock"

    def remove() -> None:
        with suppress(BlockingIOError), lock_path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in home.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path != lock_path:
                    path.unlink(missing_ok=True)

    files = [path for path in _files(home) if path != lock_path]
    return Removable("prefect", str(home), len(files), sum(_size_bytes(file) for file in files), remove)


def _is_free(home: Path) -> bool:
    if not any(path.name != "lock" for path in home.iterdir()):
        return False  # nothing is left to remove
    try:
        with (home / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _homes() -> list[Path]:
    return sorted(path for path in cache_folder().glob("prefect-*") if path.is_dir())


def _stage_folders() -> list[Path]:
    """Return the folders of stages: all below the work folder whose names end in `-<12 hex digits>`."""
    return [path for path in _below(work_folder()) if path.is_dir() and _is_stage(path.name)]


def _is_stage(name: str) -> bool:
    mark = name.rpartition("-")[2]
    return len(mark) == 12 and set(mark) <= set("0123456789abcdef")


def _below(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _size_bytes(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _last_change_s(path: Path) -> float:
    """Return when anything at or below `path` was last written, in seconds since 1970."""
    last = 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            last = max(last, each.stat().st_mtime)
    return last
