"""Seam 3, where artifacts lie: a content-addressed store of immutable files, and small records that name them.

The one rule: what can be seen under its final name is whole. An artifact is
`objects/sha256/<first two digits>/<sha256>.<media>`, a record is `<key>.json`, both below the store's URI,
in a local folder and in S3 alike. Nothing that is read is trusted before its digest was computed: a Ref has an
artifact's, a record carries its own.

Errors of the operating system and of boto3 become `StoreError` here and nowhere else. `StoreError.reason` is

| reason | meaning | transient |
|---|---|---|
| `missing`, `damaged` | it is not there; its bytes are not what its digest says | no |
| `changed` | the source was written to while it was being stored | no |
| `full`, `permission`, `path` | no space; not allowed; a part of the path is a file, or too long | no |
| `credentials`, `clock`, `bucket`, `settings` | S3: key refused; clock off; no such bucket; wrong set-up | no |
| `unsupported` | the server or file system lacks what the store rests on | no |
| `refused` | anything else that trying again will not mend | no |
| `unavailable` | network, time-out, throttling, server fault: try again | yes |
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import uuid4

from hefjoin.artifacts import Ref, file_sha256
from hefjoin.errors import InputError, StoreError
from hefjoin.stores.sealed import seal, unseal

OBJECTS = "objects/sha256/"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_KEY = re.compile(r"(?!objects(?:/|$))[A-Za-z0-9_][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,199})*")
_MEDIA = re.compile(r"[a-z0-9]{1,32}(?:\.[a-z0-9]{1,32})*")
_OBJECT = re.compile(rf"{OBJECTS}([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})\.({_MEDIA.pattern})")

_NOT_WRITABLE = ("permission", "Give this user the right to write there, or choose another place.")
_NO_SPACE = ("full", "Free some space there, or choose another place.")
_WRONG_PATH = ("path", "Correct the path: a part of it is not a folder, or its name is too long.")
_UNAVAILABLE = ("unavailable", "Try again.")
_OS_FAULTS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _NO_SPACE,
    errno.EACCES: _NOT_WRITABLE,
    errno.EPERM: _NOT_WRITABLE,
    errno.EROFS: _NOT_WRITABLE,
    errno.ENOTDIR: _WRONG_PATH,
    errno.EISDIR: _WRONG_PATH,
    errno.EEXIST: _WRONG_PATH,
    errno.ENAMETOOLONG: _WRONG_PATH,
    errno.EBUSY: _UNAVAILABLE,
    errno.ESTALE: _UNAVAILABLE,
    errno.ETIMEDOUT: _UNAVAILABLE,
}


class Stored(NamedTuple):
    """An artifact as it lies in a store, its bytes not read."""

    name: str
    """Where it lies, relative to the store: `objects/sha256/…`."""
    sha256: str
    media: str
    size_bytes: int


class Leftover(NamedTuple):
    """What an upload that has not ended left so far: one that was killed, or one that still runs."""

    name: str
    """Local: the file, relative to the store. S3: the object that it would become."""
    size_bytes: int
    age_s: float
    """Local: seconds since it was last written. S3: since it was begun, by the server's clock."""
    upload_id: str = ""
    """S3: what tells it from other uploads of the same object."""


def open_store(uri: str) -> Store:
    """Open the store at a folder (a path or `file:///…`) or at `s3://bucket/prefix`; nothing is written yet.

    Raises:
        InputError: `uri` has none of these forms.
        StoreError: the S3 settings (profile, endpoint) cannot be used.
    """
    from hefjoin.stores.local import LocalStore

    scheme = found[1].lower() if (found := _SCHEME.match(uri)) else ""
    if scheme == "s3":
        from hefjoin.stores.s3 import S3Store

        return S3Store(uri)
    if scheme == "file" and uri[len("file:") :].startswith("///"):
        return LocalStore(Path(unquote(uri[len("file://") :])))
    if uri and not scheme:
        with suppress(RuntimeError):  # `~name` of a user who does not exist: refused below
            return LocalStore(Path(uri).expanduser())
    raise InputError(
        f"{uri!r} is not a store. Write a folder, as `/srv/hefjoin` or `file:///srv/hefjoin`, or `s3://bucket/prefix`."
    )


class Store(ABC):
    """Immutable artifacts found by content, and JSON records found by key; safe for threads and processes.

    1. An artifact is looked up by its digest and media in *this* store, so a store may be moved:
       `Ref.uri` says where the artifact lay when it was put.
    2. A record is created at most once, whoever races for it, and is never seen half-written.
    3. A call that fails leaves what was there before and nothing new.

    A key is one or more segments of letters, digits, `.`, `_` and `-`, joined by `/`, none of them starting
    with `.` or `-`, the first not `objects`: `names/emulator/resnet-pair/000042`. A record is any JSON object without
    a member `record_sha256`, which is the store's own.
    """

    uri: str
    """The store's own address, without a slash at its end."""

    def put(self, path: Path, media: str, announce: Callable[[Ref], None] | None = None) -> Ref:
        """Store a file and return its Ref; the same bytes and media give an equal Ref and are stored once.

        An object that is already there is read and hashed, not trusted: a damaged one is written anew.

        Args:
            path: The file.
            media: What it is, as a suffix of lower-case letters and digits: `har`, `emulated.hef`.
            announce: Called with the Ref before the store is looked at; what it raises ends the call.

        Raises:
            InputError: `media` is malformed.
            StoreError: the file cannot be read, changed meanwhile, or the store cannot be written.
        """
        if not _MEDIA.fullmatch(media):
            raise InputError(f"media {media!r} of {path}: write lower-case letters and digits, as `har`.")
        with self._errors(f"store {path} in {self.uri}"):
            before = path.stat()
            sha256 = file_sha256(path)
        uri = f"{self.uri}/{object_name(sha256, media)}"
        ref = Ref(uri=uri, sha256=sha256, size_bytes=before.st_size, media=media)
        if announce:
            announce(ref)
        with self._errors(f"store {path} ({ref.size_bytes:,} bytes) in {self.uri}"):
            if not self._is_intact(ref):
                self._add(path, ref, before)
        return ref

    def get(self, ref: Ref, destination: Path) -> Path:
        """Bring an artifact to the file `destination`, verified; folders are made, an old file is replaced.

        The file may share its bytes with the store: read it, never write into it.

        Raises:
            StoreError: the artifact is `missing` or `damaged`, or `destination` cannot be written.
        """
        uri = self._object_uri(ref)
        with self._errors(f"bring {uri} ({ref.size_bytes:,} bytes) to {destination}"):
            destination.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(destination.parent) as partial:
                found = self._fetch(ref, partial)
                if found is None:
                    raise missing(uri)
                self._require_equal(ref, *found)
                partial.replace(destination)
        return destination

    def has(self, ref: Ref) -> bool:
        """Say whether an artifact of this digest, media and size is there, without reading its bytes."""
        with self._errors(f"look up {self._object_uri(ref)}"):
            return self._size_bytes(ref) == ref.size_bytes

    def is_intact(self, ref: Ref) -> bool:
        """Say whether an artifact is there and its bytes are what its digest says, reading all of them."""
        with self._errors(f"verify {self._object_uri(ref)}"):
            return self._is_intact(ref)

    def objects(self) -> Iterator[Stored]:
        """Yield every artifact in the store, in no order, without reading their bytes."""
        with self._errors(f"list the artifacts of {self.uri}"):
            for name, size_bytes in self._files(OBJECTS):
                if found := _OBJECT.fullmatch(name):
                    yield Stored(name, sha256=found[2], media=found[3], size_bytes=size_bytes)

    def remove_object(self, stored: Stored) -> None:
        """Remove an artifact for good; nothing happens where it is gone already."""
        name = object_name(stored.sha256, stored.media)
        with self._errors(f"remove {self.uri}/{name}"):
            self._remove(name)

    def leftovers(self) -> list[Leftover]:
        """Return what uploads left that have not ended, the oldest first; the young may still be running."""
        with self._errors(f"list unfinished uploads to {self.uri}"):
            return sorted(self._leftovers(), key=lambda leftover: -leftover.age_s)

    def remove_leftover(self, leftover: Leftover) -> None:
        """Remove all that an upload left; nothing happens where it is gone already."""
        with self._errors(f"remove the unfinished upload {leftover.name} in {self.uri}"):
            self._remove_leftover(leftover)

    def create_record(self, key: str, record: dict[str, Any]) -> bool:
        """Write a record under a key that has none; of all who race for it exactly one is told True.

        Raises:
            InputError: `key` is malformed.
            StoreError: the store cannot be written, or cannot promise that exactly one wins.
        """
        with self._errors(f"create record {key} in {self.uri}"):
            return self._create(_record_name(key), seal(record))

    def replace_record(self, key: str, record: dict[str, Any]) -> None:
        """Write a record whether or not there is one, at once: readers see the old or the new, whole."""
        with self._errors(f"replace record {key} in {self.uri}"):
            self._replace(_record_name(key), seal(record))

    def read_record(self, key: str) -> dict[str, Any] | None:
        """Return the record under a key, or None.

        Raises:
            StoreError: with reason `damaged` where what lies there is not what hefjoin wrote, bit for bit.
        """
        with self._errors(f"read record {key} in {self.uri}"):
            body = self._read(_record_name(key))
        if body is None:
            return None
        try:
            return unseal(body)
        except ValueError as error:
            uri = f"{self.uri}/{key}.json"
            message = f"{uri} ({len(body):,} bytes) {error}. Remove it; a build writes its records anew."
            raise store_error(message, "damaged", uri) from error

    def find_record(self, key: str) -> dict[str, Any] | None:
        """Return the record under a key; None also where it is damaged, for what can be made again."""
        try:
            return self.read_record(key)
        except StoreError as error:
            if error.reason != "damaged":
                raise
            return None

    def remove_record(self, key: str) -> None:
        """Remove the record under a key for good; nothing happens where there is none."""
        with self._errors(f"remove record {key} in {self.uri}"):
            self._remove(_record_name(key))

    def list_records(self, prefix: str) -> list[str]:
        """Return the keys of all records below the folder `prefix` (whole segments), sorted."""
        _record_name(prefix)
        with self._errors(f"list records {prefix} in {self.uri}"):
            keys = [name.removesuffix(".json") for name, _ in self._files(f"{prefix}/") if name.endswith(".json")]
        return sorted(key for key in keys if _KEY.fullmatch(key))

    def _object_uri(self, ref: Ref) -> str:
        return f"{self.uri}/{object_name(ref.sha256, ref.media)}"

    def _require_equal(self, ref: Ref, sha256: str, size_bytes: int) -> None:
        if (sha256, size_bytes) != (ref.sha256, ref.size_bytes):
            uri = self._object_uri(ref)
            message = (
                f"{uri} is damaged: it holds {size_bytes:,} bytes with sha256 {sha256}, its reference says "
                f"{ref.size_bytes:,} bytes with sha256 {ref.sha256}. Build it again with --force: "
                "the right bytes then replace it."
            )
            raise store_error(message, "damaged", uri, expected_sha256=ref.sha256, found_sha256=sha256)

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        """Turn foreign errors into a `StoreError` that begins "cannot <doing>"."""
        return os_errors(doing, self.uri)

    @abstractmethod
    def _is_intact(self, ref: Ref) -> bool:
        """Say whether the object is there and its bytes hash to its digest."""

    @abstractmethod
    def _add(self, path: Path, ref: Ref, before: os.stat_result) -> None:
        """Write the file as the object of `ref`, or raise `changed` if it was written to since `before`."""

    @abstractmethod
    def _fetch(self, ref: Ref, partial: Path) -> tuple[str, int] | None:
        """Bring the object's bytes to the new file `partial`.

        Returns their sha256 and number, whatever they should be; None where the object is missing.
        """

    @abstractmethod
    def _size_bytes(self, ref: Ref) -> int | None:
        """Return the object's size, or None where it is missing."""

    @abstractmethod
    def _create(self, name: str, body: bytes) -> bool: ...

    @abstractmethod
    def _replace(self, name: str, body: bytes) -> None: ...

    @abstractmethod
    def _read(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _files(self, folder: str) -> Iterable[tuple[str, int]]:
        """Return name, relative to the store, and size of all files below `folder`, which ends in a slash."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove an object or record for good, if it is there."""

    @abstractmethod
    def _leftovers(self) -> Iterable[Leftover]: ...

    @abstractmethod
    def _remove_leftover(self, leftover: Leftover) -> None: ...


def object_name(sha256: str, media: str) -> str:
    """Return where an artifact lies, relative to its store.

    Raises:
        StoreError: a reference from elsewhere carries a media that would leave the folder.
    """
    if not _MEDIA.fullmatch(media):
        message = f"a reference to {sha256} has the malformed media {media!r}. Build it again with --force."
        raise store_error(message, "refused", uri="")
    return f"{OBJECTS}{sha256[:2]}/{sha256}.{media}"


def _record_name(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InputError(
            f"record key {key!r}: write segments of letters, digits, `.`, `_` and `-` joined by `/`, none starting "
            "with `.` or `-` or longer than 200, the first not `objects`; as `names/emulator/resnet-pair/000042`."
        )
    return f"{key}.json"


def store_error(message: str, reason: str, uri: str, **attributes: str) -> StoreError:
    """Return a `StoreError` for one of the module's reasons, of which only `unavailable` is transient."""
    return StoreError(message, reason=reason, uri=uri, is_transient=reason == "unavailable", **attributes)


def missing(uri: str) -> StoreError:
    """Return the error that says that nothing lies at `uri`."""
    message = f"{uri} is missing. Put it there; if it was made by a build, run that again with --force."
    return store_error(message, "missing", uri)


def changed(path: Path, uri: str) -> StoreError:
    """Return the error that says that a file was written to while it was being stored."""
    message = f"{path} changed while it was being stored in {uri}. Run again when nothing writes to it."
    return store_error(message, "changed", uri)


@contextmanager
def partial_file(folder: Path) -> Iterator[Path]:
    """Yield a new name in `folder`; a file still there under it at the end is removed."""
    partial = folder / f".partial-{uuid4().hex}"
    try:
        yield partial
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def os_errors(doing: str, uri: str) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` that begins "cannot <doing>"."""
    try:
        yield
    except OSError as error:
        reason, next_step = _OS_FAULTS.get(error.errno or 0, ("refused", "Check the path and the disk."))
        raise store_error(f"cannot {doing}: {error}. {next_step}", reason, uri) from error
