"""Writes and reads the archive of a recording, a tar.gz of JSON, text and npz.

    environment.json, answers.json
    cases/<case>/case.json      calls, stages, notes, listings: `Observed`
    cases/<case>/log.txt        what the case printed
    cases/<case>/files/<name>   log files that the SDK wrote beside it
    cases/<case>/numbers.npz    arrays by `<context>.<index>`, float32

An archive comes from somebody else. The one rule: what is read is plain members of expected names and bounded size,
into memory; nothing in the archive names a place on this machine, and no array is made larger than its bytes.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from hefjoin.conformance.recording import Answer, Arrays, Environment, Observed, Recorded, Recording
from hefjoin.errors import InputError, StoreError
from hefjoin.formats.har_guard import GuardedStream

MEMBERS_LIMIT = 500
MEMBER_LIMIT_BYTES = 16 << 20
ALL_LIMIT_BYTES = 64 << 20
ARRAYS_LIMIT = 200
RECORD_AGAIN = "make it again with `hefjoin conformance --out FILE`"

_DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError)
_DAMAGED_NPZ = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, ValueError, EOFError, OverflowError)
_ANSWERS = TypeAdapter(tuple[Answer, ...])
Model = TypeVar("Model", bound=BaseModel)


def write(path: Path, recording: Recording) -> None:
    """Write an archive; an older file is replaced when the new one is whole.

    Raises:
        StoreError: It cannot be written; an older file is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with tarfile.open(temporary, "w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name, content in _members(recording):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; free space or choose another --out",
            reason="failed",
            uri=str(path),
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Recording:
    """Read an archive.

    Raises:
        InputError: It is no archive of this kind, is damaged, or holds more than one may.
    """
    contents = _contents(path)
    with _reading(path):
        environment = _record(path, contents, "environment.json", Environment)
        answers = _ANSWERS.validate_json(contents.get("answers.json", b"[]"))
        names = dict.fromkeys(name.split("/")[1] for name in contents if name.startswith("cases/") and "/" in name[6:])
        cases = {name: _recorded(path, contents, f"cases/{name}/") for name in names}
    return Recording(environment, cases, answers)


def _members(recording: Recording) -> Iterator[tuple[str, bytes]]:
    yield "environment.json", _text(recording.environment)
    yield "answers.json", _ANSWERS.dump_json(recording.answers, indent=1)
    for name, recorded in recording.cases.items():
        folder = f"cases/{name}"
        yield f"{folder}/case.json", _text(recorded.observed)
        yield f"{folder}/log.txt", "".join(f"{line}\n" for line in recorded.log).encode()
        for file, text in recorded.files.items():
            yield f"{folder}/files/{file}", text.encode()
        if recorded.numbers:
            stream = io.BytesIO()
            np.savez_compressed(stream, **cast(dict[str, Any], recorded.numbers))
            yield f"{folder}/numbers.npz", stream.getvalue()


def _text(record: BaseModel) -> bytes:
    return json.dumps(record.model_dump(mode="json"), indent=1).encode()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a foreign archive into an `InputError`."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {error.title} {place}: {first['msg']}; {RECORD_AGAIN}") from error
    except _DAMAGED as error:
        raise InputError(f"{path}: no archive of a recording, or a damaged one ({error}); {RECORD_AGAIN}") from error


def _contents(path: Path) -> dict[str, bytes]:
    """Return all members by name."""
    if not path.is_file():
        raise InputError(f"{path}: no file there; {RECORD_AGAIN}")
    contents: dict[str, bytes] = {}
    with _reading(path), path.open("rb") as plain:
        stream = GuardedStream(path, plain)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            entries = _plain_members(path, archive)
            stream.expect_contents()
            for entry in entries:
                content = archive.extractfile(entry)
                assert content is not None, "only links and directories have none, and they were refused"
                contents[entry.name] = content.read()
    return contents


def _plain_members(path: Path, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    entries: list[tarfile.TarInfo] = []
    total = 0
    for entry in archive:
        total += max(entry.size, 0)
        if not entry.isreg() or entry.issparse() or entry.size < 0:
            raise InputError(f"{path}: member {entry.name!r} is no plain file; a recording holds none: do not trust it")
        if len(entries) == MEMBERS_LIMIT or entry.size > MEMBER_LIMIT_BYTES or total > ALL_LIMIT_BYTES:
            raise InputError(
                f"{path}: {len(entries) + 1} members of {total:,} bytes, the last of {entry.size:,}; a recording has "
                f"at most {MEMBERS_LIMIT} of {MEMBER_LIMIT_BYTES:,} each and {ALL_LIMIT_BYTES:,} in all; {RECORD_AGAIN}"
            )
        entries.append(entry)
    return entries


def _record(path: Path, contents: dict[str, bytes], name: str, model: type[Model]) -> Model:
    if name not in contents:
        raise InputError(f"{path}: no member {name!r}; {RECORD_AGAIN}")
    return model.model_validate_json(contents[name])


def _recorded(path: Path, contents: dict[str, bytes], folder: str) -> Recorded:
    log = contents.get(f"{folder}log.txt", b"").decode("utf-8", "replace")
    files = {
        name.removeprefix(f"{folder}files/"): content.decode("utf-8", "replace")
        for name, content in contents.items()
        if name.startswith(f"{folder}files/")
    }
    return Recorded(
        observed=_record(path, contents, f"{folder}case.json", Observed),
        numbers=_arrays(path, contents[f"{folder}numbers.npz"]) if f"{folder}numbers.npz" in contents else {},
        log=tuple(log.splitlines()),
        files=files,
    )


def _arrays(path: Path, content: bytes) -> Arrays:
    """Return the arrays of an npz, none of them made before its bytes are there."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if len(entries) > ARRAYS_LIMIT or total > ALL_LIMIT_BYTES:
                raise InputError(
                    f"{path}: {len(entries)} arrays of {total:,} bytes in one case; at most {ARRAYS_LIMIT} of "
                    f"{ALL_LIMIT_BYTES:,} bytes are read; {RECORD_AGAIN}"
                )
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except _DAMAGED_NPZ as error:
        raise InputError(f"{path}: arrays that cannot be read ({error}); {RECORD_AGAIN}") from error


def _array(content: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a .npy's array of float32 (NumPy format 1.0, C order)."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not of NumPy's format 1.0")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = stream.read()
    if dtype != np.float32 or is_fortran or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{len(body):,} bytes are no {dtype} of shape {shape}")
    return np.frombuffer(body, np.float32).reshape(shape)
