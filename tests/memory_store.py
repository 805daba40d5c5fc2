"""A store in memory: the least that keeps the contract, with nothing of a disk or a server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from hefjoin.artifacts import Ref
from hefjoin.stores import Leftover, Store, changed, object_name


class MemoryStore(Store):
    """Files by name in a dictionary, which several stores may share as they would a folder."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.uri = "memory://store"
        self.files = {} if files is None else files
        self._lock = Lock()

    def _is_intact(self, ref: Ref) -> bool:
        body = self.files.get(object_name(ref.sha256, ref.media))
        return body is not None and hashlib.sha256(body).hexdigest() == ref.sha256

    def _add(self, path: Path, ref: Ref, before: os.stat_result) -> None:
        body = path.read_bytes()
        if (hashlib.sha256(body).hexdigest(), len(body)) != (ref.sha256, before.st_size):
            raise changed(path, self.uri)
        self.files[object_name(ref.sha256, ref.media)] = body

    def _fetch(self, ref: Ref, partial: Path) -> tuple[str, int] | None:
        body = self.files.get(object_name(ref.sha256, ref.media))
        if body is None:
            return None
        partial.write_bytes(body)
        return hashlib.sha256(body).hexdigest(), len(body)

    def _size_bytes(self, ref: Ref) -> int | None:
        body = self.files.get(object_name(ref.sha256, ref.media))
        return None if body is None else len(body)

    def _create(self, name: str, body: bytes) -> bool:
        with self._lock:
            return self.files.setdefault(name, body) is body

    def _replace(self, name: str, body: bytes) -> None:
        self.files[name] = body

    def _read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def _files(self, folder: str) -> Iterator[tuple[str, int]]:
        return ((name, len(body)) for name, body in list(self.files.items()) if name.startswith(folder))

    def _remove(self, name: str) -> None:
        self.files.pop(name, None)

    def _leftovers(self) -> Iterator[Leftover]:
        return (Leftover(name, size_bytes, age_s=0) for name, size_bytes in self._files(".partial/"))

    def _remove_leftover(self, leftover: Leftover) -> None:
        self._remove(leftover.name)
