"""Put a model or a set of frames where specs look for it.

The rule: what is there afterwards is whole, and is what was read here. A file that no build could use is refused, one
that changes meanwhile too; one whose bytes are there already is left alone.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from hefjoin.artifacts import Record, file_sha256
from hefjoin.errors import InputError
from hefjoin.formats import har, onnx_file, onnx_weights
from hefjoin.sources.bucket import Server
from hefjoin.sources.find import S3
from hefjoin.stores import changed, os_errors, partial_file

SUFFIXES = (".onnx", ".har", ".npy", ".npz")


class Put(Record):
    """A file where it was put."""

    uri: str
    sha256: str
    size_bytes: int
    is_new: bool
    """Other bytes, or none, were there before."""


def put(path: Path, uri: str) -> tuple[Put, ...]:
    """Put a file, and those beside it that hold weights of it; these come first, the file itself is last.

    Args:
        path: An ONNX model, a HAR, a .npy or a .npz.
        uri: `s3://bucket/key` or a path; with a slash at its end the folder or prefix for a file of the same name.

    Raises:
        InputError: The file cannot be used, or the place is none for it.
        StoreError: It cannot be written, or the file changed meanwhile.
    """
    beside = _require_usable(path)
    target = _target(path, uri)
    folder = target.rpartition("/")[0]
    return (*(_put(path.parent / file, f"{folder}/{file}") for file in beside), _put(path, target))


def _require_usable(path: Path) -> list[str]:
    """Return the files beside a model that hold its weights.

    Raises:
        InputError: It is no file that a build can read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is none of {', '.join(SUFFIXES)}; nothing else is a model or a set in one file")
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    if suffix == ".onnx":
        model = onnx_file.load(path)
        onnx_weights.refuse_unless_whole(model, path)
        return onnx_weights.files(model)
    if suffix == ".har":
        har.read(path)
    else:
        _require_arrays(path)
    return []


def _require_arrays(path: Path) -> None:
    try:
        if path.suffix.lower() == ".npy":
            np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken:
                raise ValueError(f"{broken} in it is damaged")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read: {error}; save it again with numpy") from error


def _target(path: Path, uri: str) -> str:
    """Return where a file goes: an address in S3, or an absolute path."""
    if uri.startswith("file://"):
        uri = unquote(urlsplit(uri).path)
    if "://" in uri and not uri.startswith(S3):
        raise InputError(f"{uri} is neither s3://bucket/key nor a path")
    is_folder = uri.endswith("/") or ("://" not in uri and Path(uri).expanduser().is_dir())
    target = f"{uri.rstrip('/')}/{path.name}" if is_folder else uri
    if Path(target).suffix.lower() != path.suffix.lower():
        raise InputError(f"{path.name} cannot be put at {target}: a spec knows by the end of a name what it is")
    return target if target.startswith(S3) else str(Path(target).expanduser().absolute())


def _put(path: Path, target: str) -> Put:
    with os_errors(f"read {path}", str(path)):
        sha256, size_bytes = file_sha256(path), path.stat().st_size
    if target.startswith(S3):
        is_new = Server(target).upload(path, target, sha256)
    else:
        is_new = _copy(path, Path(target), sha256)
    return Put(uri=target, sha256=sha256, size_bytes=size_bytes, is_new=is_new)


def _copy(path: Path, target: Path, sha256: str) -> bool:
    """Copy a file to its place at once; False where these bytes are there."""
    with os_errors(f"put {path} at {target}", str(target)):
        if target.is_file() and file_sha256(target) == sha256:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(target.parent) as partial:
            shutil.copyfile(path, partial)
            if file_sha256(partial) != sha256:
                raise changed(path, str(target))
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(target)
    return True
