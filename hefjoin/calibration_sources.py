"""Where calibration frames come from: a folder of images, a `.npy`, an `.npz`. None is ever read as a whole."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hefjoin.errors import CalibrationError

Array = NDArray[Any]
Shape = tuple[int, int, int]
"""(height, width, channels)"""

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class BesideFrames(NamedTuple):
    """An array that lies beside the frames in an `.npz`: labels, if it has a model's name."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    read: Callable[[int, int, int], Iterator[Array]]
    """(first row, last row + 1, rows in a batch) → batches, of an array in C order and of plain numbers or texts"""


class FrameSource(NamedTuple):
    """All frames of a set."""

    available: int
    dtype: str
    beside: dict[str, BesideFrames]
    """By name."""
    read: Callable[[int, int, int], Iterator[Array]]
    """(first frame, last frame + 1, frames in a batch) → batches"""
    names: tuple[str, ...] = ()
    """Of each frame's file, where each has one."""


def frame_bytes(shape: Shape, dtype: str) -> int:
    """Return the size of one frame."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def is_image(name: str) -> bool:
    """Return whether a file of this name, or path below a set's folder, is one of its images."""
    parts = name.split("/")
    return parts[-1].lower().endswith(IMAGE_SUFFIXES) and not any(part.startswith(".") for part in parts)


def images_in(folder: Path) -> dict[str, Path]:
    """Return the images of a folder and of those in it by their paths below it, in the order of these."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    chosen = (name for name, path in found.items() if is_image(name) and path.is_file())
    return {name: found[name] for name in in_order(chosen)}


def in_order(names: Iterable[str]) -> list[str]:
    """Return the paths of a set's images in the order in which they are taken."""
    return sorted(names, key=lambda name: (name.lower(), name))


def folder_source(folder: Path, shape: Shape, color: str, what: str) -> FrameSource:
    """Open a folder of images.

    Raises:
        CalibrationError: It holds none, or `shape` is none of an image; later, images that cannot be read.
    """
    paths = images_in(folder)
    if not paths:
        raise CalibrationError(f"{what}: {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    if shape[2] not in (1, 3):
        raise CalibrationError(f"{what}: images have 1 or 3 channels, wanted {shape[2]}; give the frames as a .npy")

    def read(start: int, stop: int, size: int) -> Iterator[Array]:
        from PIL.Image import DecompressionBombError

        batch: list[Array] = []
        unreadable: list[str] = []
        for name, path in list(paths.items())[start:stop]:
            try:
                batch.append(_image(path, shape, color))
            except (OSError, SyntaxError, ValueError, struct.error, DecompressionBombError) as error:
                unreadable.append(f"  {name}: {error}")
            if unreadable:
                batch.clear()
            elif len(batch) == size:
                yield np.stack(batch)
                batch = []
        if unreadable:
            lines = "\n".join(unreadable)
            raise CalibrationError(
                f"{what}: {len(unreadable):,} of {stop - start:,} images in {folder} cannot be read; "
                f"mend or remove them:\n{lines}"
            )
        if batch:
            yield np.stack(batch)

    return FrameSource(len(paths), "uint8", {}, read, tuple(paths))


def _image(path: Path, shape: Shape, color: str) -> Array:
    """Return an image file as uint8 of `shape`.

    Raises:
        OSError: And whatever else Pillow raises for a damaged file.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    with Image.open(path) as image:
        if image.mode[0] in "IF":
            raise ValueError("more than 8 bits a channel; save it with 8")
        opaque = image.convert("RGBA") if "transparency" in image.info else image
        upright = ImageOps.exif_transpose(opaque).convert("RGB" if channels == 3 else "L")
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
    frame = np.asarray(upright).reshape(shape)
    return np.ascontiguousarray(frame[:, :, ::-1]) if color == "bgr" else frame


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image as `folder_source` sees it, turned upright; its pixels are not read.

    Raises:
        OSError: And whatever else Pillow raises for a damaged file.
    """
    from PIL import ExifTags, Image

    with Image.open(path) as image:
        if image.format == "PNG" and "exif" not in image.info:  # Pillow would look for it behind the pixels
            return image.size
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if is_turned else image.size


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    size_bytes: int
    """Of the header itself."""


# All that numpy and zipfile raise for damaged, encrypted or foreign files.
_UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, SyntaxError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def _opened(path: Path, member: str, what: str) -> Iterator[IO[bytes]]:
    """Open a `.npy`, or the one named `member` in an `.npz`; whatever is wrong with it is a CalibrationError."""
    try:
        if member:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    except _UNREADABLE as error:
        raise CalibrationError(f"{what}: {path} cannot be read: {error}") from error


def _header(path: Path, member: str, what: str) -> _Header:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with _opened(path, member, what) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise CalibrationError(f"{what}: {path} has .npy version {version}; save it again with numpy.save")
        return _Header(*readers[version](stream), stream.tell())


def npz_source(path: Path, shape: Shape, what: str) -> FrameSource:
    """Open an `.npz` with one array of frames and any number of others beside it.

    Raises:
        CalibrationError: It has no such array.
    """
    with _opened(path, "", what), zipfile.ZipFile(path) as archive:
        members = [member for member in archive.namelist() if member.endswith(".npy")]
    headers = {member: _header(path, member, what) for member in members}
    images = [member for member, header in headers.items() if len(header.shape) == 4]
    if "images.npy" in headers:
        images = ["images.npy"]
    if len(images) != 1:
        names = ", ".join(member.removesuffix(".npy") for member in headers) or "nothing"
        raise CalibrationError(f"{what}: {path} has no array `images` and not one 4-D array only; it has {names}")
    beside = {
        member.removesuffix(".npy"): BesideFrames(
            header.shape, header.dtype, header.is_fortran, _reader(path, member, header, what)
        )
        for member, header in headers.items()
        if member != images[0]
    }
    return npy_source(path, shape, what, images[0])._replace(beside=beside)


def npy_source(path: Path, shape: Shape, what: str, member: str = "") -> FrameSource:
    """Open a `.npy`, or the one named `member` in an `.npz`.

    Raises:
        CalibrationError: It does not hold frames of `shape`, or not all of them.
    """
    header = _header(path, member, what)
    place = f"{what}: {path}" + (f" ({member.removesuffix('.npy')})" if member else "")
    if len(header.shape) != 4 or header.shape[1:] != shape:
        height, width, channels = shape
        message = f"{place} has shape {header.shape}, wanted (frames, {height}, {width}, {channels})"
        if header.shape[1:] == (channels, height, width):
            message += "; it looks like (frames, channels, height, width): save array.transpose(0, 2, 3, 1)"
        raise CalibrationError(message)
    if header.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise CalibrationError(f"{place} holds {header.dtype}, wanted uint8 or float32 on the range 0–255")
    if header.is_fortran:
        raise CalibrationError(f"{place} is in Fortran order; save numpy.ascontiguousarray(array)")
    dtype = header.dtype.name
    size = frame_bytes(shape, dtype)
    wanted_bytes = header.size_bytes + header.shape[0] * size
    if not member and path.stat().st_size < wanted_bytes:
        raise CalibrationError(f"{place} is truncated: {path.stat().st_size:,} of {wanted_bytes:,} bytes")

    return FrameSource(header.shape[0], dtype, {}, _reader(path, member, header, what))


def _reader(path: Path, member: str, header: _Header, what: str) -> Callable[[int, int, int], Iterator[Array]]:
    row_shape = header.shape[1:]
    size = math.prod(row_shape) * header.dtype.itemsize

    def read(start: int, stop: int, batch: int) -> Iterator[Array]:
        with _opened(path, member, what) as stream:
            stream.seek(header.size_bytes + start * size)
            for first in range(start, stop, batch):
                rows = min(batch, stop - first)
                yield np.frombuffer(stream.read(rows * size), header.dtype).reshape(rows, *row_shape)

    return read
