"""The store in a local folder: written under `.partial/`, synced, then renamed or linked to its final name.

The one rule: a file is on the disk before its name is. What a killed process leaves lies in `.partial/` only.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hefjoin.artifacts import CHUNK_BYTES, Ref, file_sha256
from hefjoin.stores import Leftover, Store, changed, object_name, partial_file, store_error

_PARTIAL = ".partial/"
_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}


class LocalStore(Store):
    """Artifacts and records below a folder, which the first write makes; objects are read-only files."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.uri = self._root.as_uri()

    def _is_intact(self, ref: Ref) -> bool:
        return self._size_bytes(ref) == ref.size_bytes and file_sha256(self._object(ref)) == ref.sha256

    def _add(self, path: Path, ref: Ref, before: os.stat_result) -> None:
        with self._partial() as partial:
            if _copy(path, partial) != (ref.sha256, before.st_size):
                raise changed(path, self.uri)
            self._rename(partial, self._object(ref))

    def _fetch(self, ref: Ref, partial: Path) -> tuple[str, int] | None:
        """Hard-link the object, or copy it where the file system or its owner does not let us link."""
        try:
            partial.hardlink_to(self._object(ref))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            shutil.copyfile(self._object(ref), partial)
        return file_sha256(partial), partial.stat().st_size

    def _size_bytes(self, ref: Ref) -> int | None:
        try:
            return self._object(ref).stat().st_size
        except FileNotFoundError:
            return None

    def _create(self, name: str, body: bytes) -> bool:
        """Link the finished file to its name: unlike a rename, a link fails where the name exists."""
        final = self._root / name
        with self._partial() as partial:
            _write(body, partial)
            _make_folder(final.parent)
            try:
                final.hardlink_to(partial)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _CANNOT_LINK:
                    raise
                message = (
                    f"cannot create {final}: its file system refuses hard links ({error.strerror}), on which "
                    "records rest. Choose a folder on a file system that has them, as ext4 or XFS."
                )
                raise store_error(message, "unsupported", self.uri) from error
            _sync_folder(final.parent)
        return True

    def _replace(self, name: str, body: bytes) -> None:
        with self._partial() as partial:
            _write(body, partial)
            self._rename(partial, self._root / name)

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def _files(self, folder: str) -> Iterator[tuple[str, int]]:
        for parent, _, files in os.walk(self._root / folder, onerror=_raise_unless_missing):
            for file in files:
                path = Path(parent, file)
                with suppress(FileNotFoundError):  # removed meanwhile
                    yield path.relative_to(self._root).as_posix(), path.stat().st_size

    def _remove(self, name: str) -> None:
        path = self._root / name
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_folder(path.parent)

    def _leftovers(self) -> Iterator[Leftover]:
        for name, size_bytes in self._files(_PARTIAL):
            with suppress(FileNotFoundError):  # renamed meanwhile
                age_s = max(0.0, time.time() - (self._root / name).stat().st_mtime)
                yield Leftover(name, size_bytes, age_s)

    def _remove_leftover(self, leftover: Leftover) -> None:
        self._remove(_PARTIAL + Path(leftover.name).name)

    def _object(self, ref: Ref) -> Path:
        return self._root / object_name(ref.sha256, ref.media)

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        folder = self._root / _PARTIAL
        _make_folder(folder)
        with partial_file(folder) as partial:
            yield partial

    def _rename(self, partial: Path, final: Path) -> None:
        _make_folder(final.parent)
        partial.replace(final)
        _sync_folder(final.parent)


def _copy(source: Path, destination: Path) -> tuple[str, int]:
    """Copy to a new, synced, read-only file and return the SHA-256 and number of the bytes written to it."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, destination.open("xb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        status = os.fstat(writer.fileno())
        os.fchmod(writer.fileno(), status.st_mode & 0o444)
        os.fsync(writer.fileno())
    return digest.hexdigest(), status.st_size


def _write(body: bytes, destination: Path) -> None:
    with destination.open("xb") as writer:
        writer.write(body)
        writer.flush()
        os.fsync(writer.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in the one that holds it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
