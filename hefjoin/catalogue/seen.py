"""Digests of files on this machine that were hashed before, so that what did not change is not read again.

The rule: a digest is taken for that of the file only while device, inode, size, time of writing and time of change are
those of then, and those times were seconds past when the file was hashed. The last of them is set by the system at
every write and cannot be set back, and within seconds a second write could carry the same one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pydantic import ValidationError

from hefjoin.artifacts import Record, Sha256, file_sha256
from hefjoin.calibration import images_sha256
from hefjoin.calibration_sources import images_in
from hefjoin.stores import os_errors, partial_file

SETTLED_NS = 3_000_000_000
"""FAT keeps times in steps of 2 s."""


class Stamp(NamedTuple):
    """What a file system says of a file without reading it."""

    device: int
    inode: int
    size_bytes: int
    written_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return that of a file."""
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Hashed(Record):
    """A file when it was hashed."""

    stamp: Stamp
    sha256: Sha256
    hashed_ns: int
    """When; nanoseconds since 1970."""

    @property
    def is_settled(self) -> bool:
        """Its times were seconds past, so that whatever was written to it since has changed them."""
        return max(self.stamp.written_ns, self.stamp.changed_ns) < self.hashed_ns - SETTLED_NS


class Source(Record):
    """The files of one source, by their paths below it; of a file that is one itself, by nothing."""

    path: str
    files: dict[str, Hashed]


class Once:
    """Values that are made once, by who asks for them first; the others wait. Safe for threads."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[Hashable, Lock] = {}
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key; what `make` raises is raised, and the next one makes it again."""
        with self._guard:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]


class Seen:
    """What is known of files; each source is looked at once in the life of this object."""

    def __init__(self, folder: Path) -> None:
        """Keep what was hashed in `folder`, which is made when there is something to keep."""
        self._folder = folder
        self._once = Once()

    def sha256(self, source: Path) -> str:
        """Return the digest of a file or of a set of images, as `hefjoin.calibration.set_sha256` does.

        Raises:
            StoreError: It cannot be read, or what was hashed cannot be kept.
        """
        found: str = self._once.get(source, lambda: self._look_at(source))
        return found

    def _look_at(self, source: Path) -> str:
        with os_errors(f"read {source}", str(source)):
            paths = images_in(source) if source.is_dir() else {"": source}
            before = self._read(source)
            hashed = {name: _hashed(path, before.get(name)) for name, path in paths.items()}
        self._keep(source, before, hashed)
        if "" in hashed:
            return hashed[""].sha256
        return images_sha256({name: each.sha256 for name, each in hashed.items()})

    def _keep(self, source: Path, before: Mapping[str, Hashed], hashed: Mapping[str, Hashed]) -> None:
        settled = {name: each for name, each in hashed.items() if each.is_settled}
        with os_errors(f"keep digests in {self._folder}", str(self._folder)):
            if settled == before:
                if before:
                    self._record(source).touch()  # its last use
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial_file(self._folder) as partial:
                partial.write_text(Source(path=str(source), files=settled).model_dump_json(), encoding="utf-8")
                partial.replace(self._record(source))

    def _read(self, source: Path) -> dict[str, Hashed]:
        try:
            return Source.model_validate_json(self._record(source).read_bytes()).files
        except (FileNotFoundError, ValidationError):
            return {}

    def _record(self, source: Path) -> Path:
        return self._folder / f"{hashlib.sha256(str(source).encode()).hexdigest()}.json"


def _hashed(path: Path, before: Hashed | None) -> Hashed:
    stamp = Stamp.of(path)  # before it is read: what is written meanwhile has another one
    if before is not None and before.stamp == stamp:
        return before
    return Hashed(stamp=stamp, hashed_ns=time.time_ns(), sha256=file_sha256(path))
