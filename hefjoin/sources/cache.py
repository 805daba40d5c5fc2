"""The cache of downloaded objects: bytes by their sha256, and of each object the sha256 of the version last seen.

Below its folder `objects/<2 digits>/<sha256>` are the bytes, a file's time of change is its last use;
`index/<2 digits>/<digest of endpoint and address>.json` says what an object was; `in-use/` has the folders of
running builds. Every file comes to its name whole, so any number of processes may work here at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from hefjoin.artifacts import Record, Sha256, file_sha256
from hefjoin.errors import InputError
from hefjoin.sources.bucket import Server, Version
from hefjoin.sources.held import hold, remove_dead
from hefjoin.stores import os_errors, partial_file

logger = logging.getLogger("hefjoin.stages")

LIMIT = "HEFJOIN_CACHE_GB"
DEFAULT_GB = 20.0
THREADS = 16

OnDone = Callable[[int, int], None]
"""(objects that are there, objects in all)"""


class Entry(Record):
    """What an object of a server was when it was downloaded."""

    endpoint: str
    source: str
    """For whose sake it was asked for: an object, a prefix, the folder of a list."""
    version: Version
    sha256: Sha256


class Cached(NamedTuple):
    """The bytes of one or more objects."""

    path: Path
    size_bytes: int
    used_s: float
    """Seconds since 1970."""

    @property
    def sha256(self) -> str:
        """What they hash to, unless they are damaged."""
        return self.path.name


def limit_bytes() -> int:
    """Return how much the cache may keep.

    Raises:
        InputError: `HEFJOIN_CACHE_GB` is no number of 0 or more.
    """
    text = os.environ.get(LIMIT) or str(DEFAULT_GB)
    try:
        gigabytes = float(text)
        if not 0 <= gigabytes < float("inf"):
            raise ValueError(text)
    except ValueError as error:
        raise InputError(f"{LIMIT}={text} is no number of gigabytes; write 0 or more, as 20") from error
    return int(gigabytes * 1e9)


class Cache:
    """The cache in one folder; safe for threads and processes."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """Use the cache in `folder`, which may keep `limit` bytes; `HEFJOIN_CACHE_GB` says it unless given."""
        self.folder = folder
        self.limit_bytes = limit_bytes() if limit is None else limit
        self.in_use = folder / "in-use"

    def own_folder(self) -> Path:
        """Return a new folder for the files of one build, held until it is released or this process ends.

        Raises:
            StoreError: It cannot be made.
        """
        with os_errors(f"work in {self.in_use}", str(self.in_use)):
            return hold(self.in_use)

    def take(
        self,
        files: Mapping[str, Version],
        destination: Path,
        server: Server,
        source: str,
        on_done: OnDone | None = None,
    ) -> None:
        """Lay objects into a folder of `own_folder`, each under its path below it; the files are read-only.

        Raises:
            StoreError: An object cannot be downloaded or a file not written; what was downloaded by then is kept.
        """
        with os_errors(f"work in {destination}", source):
            for folder in {destination / Path(name).parent for name in files}:
                folder.mkdir(parents=True, exist_ok=True)
            absent = sum(v.size_bytes for v in files.values() if self._sha256(server.endpoint, v) is None)
            if absent:
                self.evict(max(0, self.limit_bytes - absent))
        pool = ThreadPoolExecutor(THREADS)
        try:
            bringing = [
                # The context says which task a line of the log belongs to.
                pool.submit(copy_context().run, self._bring, version, destination / name, server, source)
                for name, version in files.items()
            ]
            for done, each in enumerate(bringing, 1):
                each.result()
                if on_done and _is_new_percent(done, len(files)):
                    on_done(done, len(files))
        finally:
            pool.shutdown(cancel_futures=True)
        self.evict(self.limit_bytes)
        self._warn_if_large(files, source)

    def _warn_if_large(self, files: Mapping[str, Version], source: str) -> None:
        size_bytes = sum(version.size_bytes for version in files.values())
        if size_bytes > self.limit_bytes:
            logger.warning(
                "fetch: %s has %.3f GB, %s lets the cache keep %.3f GB: the next build downloads some of it again",
                source, size_bytes / 1e9, LIMIT, self.limit_bytes / 1e9,
            )  # fmt: skip

    def _bring(self, version: Version, path: Path, server: Server, source: str) -> None:
        with os_errors(f"lay {version.uri} ({version.size_bytes:,} bytes) to {path}", version.uri):
            sha256 = self._sha256(server.endpoint, version)
            if sha256 is not None and self._link_intact(sha256, path, version):
                return
            with partial_file(path.parent) as partial:
                sha256 = server.download(version, partial)
                partial.chmod(0o444)
                _link(partial, path)
                cached = self._object(sha256)
                cached.parent.mkdir(parents=True, exist_ok=True)
                os.utime(partial)
                partial.replace(cached)
            entry = Entry(endpoint=server.endpoint, source=source, version=version, sha256=sha256)
            self._write(self._index(server.endpoint, version.uri), entry.model_dump_json().encode())

    def _link_intact(self, sha256: str, path: Path, version: Version) -> bool:
        """Link bytes from the cache; False where they are gone or damaged, which is told."""
        cached = self._object(sha256)
        try:
            _link(cached, path)
            if file_sha256(path) == sha256:
                os.utime(cached)
                return True
            logger.warning("fetch: %s was damaged in the cache (%s): downloading it again", version.uri, cached)
        except FileNotFoundError:
            pass  # evicted, just now perhaps
        else:
            cached.unlink(missing_ok=True)
        if path.exists() and file_sha256(path) == sha256:
            return True  # evicted between the link and its mark of use
        path.unlink(missing_ok=True)
        return False

    def sha256(self, endpoint: str, version: Version) -> str | None:
        """Return what this version hashed to when it was downloaded; None where that is not known."""
        entry = _read(self._index(endpoint, version.uri))
        return entry.sha256 if entry is not None and entry.version == version else None

    def _sha256(self, endpoint: str, version: Version) -> str | None:
        """Return what this version hashed to, where it is known and its bytes are here."""
        sha256 = self.sha256(endpoint, version)
        return sha256 if sha256 is not None and self._object(sha256).exists() else None

    def evict(self, limit: int) -> None:
        """Remove what was not used for longest until `limit` bytes are left; a build's own links stay."""
        remove_dead(self.in_use)
        total = 0
        surplus = []
        for each in sorted(self.objects(), key=lambda each: -each.used_s):
            total += each.size_bytes
            if total > limit:
                surplus.append(each)
        self.remove(surplus)

    def remove(self, objects: list[Cached]) -> None:
        """Remove bytes, and what the index says of objects whose bytes are gone."""
        for each in objects:
            each.path.unlink(missing_ok=True)
        if objects:
            for path, entry in self.entries():
                if not self._object(entry.sha256).exists():
                    path.unlink(missing_ok=True)

    def objects(self) -> Iterator[Cached]:
        """Yield the bytes that are here."""
        for path in (self.folder / "objects").glob("*/*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield Cached(path, stat.st_size, stat.st_mtime)

    def entries(self) -> Iterator[tuple[Path, Entry]]:
        """Yield what the index says."""
        for path in (self.folder / "index").glob("*/*.json"):
            if entry := _read(path):
                yield path, entry

    def _object(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def _index(self, endpoint: str, uri: str) -> Path:
        name = hashlib.sha256(f"{endpoint}\n{uri}".encode()).hexdigest()
        return self.folder / "index" / name[:2] / f"{name}.json"

    def _write(self, path: Path, body: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path.parent) as partial:
            partial.write_bytes(body)
            partial.replace(path)


def _is_new_percent(done: int, total: int) -> bool:
    return done * 100 // total != (done - 1) * 100 // total


def _read(path: Path) -> Entry | None:
    try:
        return Entry.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _link(source: Path, path: Path) -> None:
    """Link a file, or copy it where the file system or its number of links does not allow that."""
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, path)
