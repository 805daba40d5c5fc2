"""The calibration (or evaluation) set: frames as the device will get them, streamed, and their health.

A set is a folder of images, a `.npy` or an `.npz`. Frames are always (frames, height, width, channels), uint8 or
float32, 0–255. The one rule: memory does not grow with the number of frames.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from hefjoin.artifacts import CHUNK_BYTES, Record, canonical_json, file_sha256
from hefjoin.calibration_sources import (
    Array,
    BesideFrames,
    Shape,
    folder_source,
    frame_bytes,
    images_in,
    in_order,
    npy_source,
    npz_source,
)
from hefjoin.errors import CalibrationError, StoreError

NAMED = 10
"""Frames that a message names; of those behind them it says how many there are."""


class Health(Record):
    """What one pass over a set tells about it; values are on the frames' own scale."""

    requested: int
    count: int
    dtype: str
    min: float
    max: float
    mean: tuple[float, ...]
    """One for each channel."""
    std: tuple[float, ...]
    """One for each channel."""
    duplicates: int
    """Frames that are exact copies of an earlier one."""
    blanks: int
    """Frames of one value only."""
    looks_normalised: bool
    """No value above 1, or some below 0, where 0–255 is expected."""
    notes: tuple[str, ...]
    """What a person should know, in plain words; empty when all is well."""


@dataclass(frozen=True)
class Frames:
    """The frames of a set, read when asked for."""

    what: str
    requested: int
    count: int
    shape: Shape
    dtype: str
    """`uint8` or `float32`"""
    skipped: int
    """Frames of the source before these."""
    available: int
    """Frames of the source in all."""
    beside: dict[str, BesideFrames] = field(repr=False)
    """The other arrays of an `.npz`, by name, as long as the source; `hefjoin.labels` reads those that are labels."""
    read: Callable[[int], Iterator[Array]] = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    """Of each frame's file; empty where it has none."""

    def called(self, index: int) -> str:
        """Return how a person finds a frame: its index in the source, and its file."""
        return f"{self.skipped + index}" + (f" ({self.names[index]})" if self.names else "")

    def batches(self, size: int) -> Iterator[Array]:
        """Yield arrays of shape (`size` frames or fewer, height, width, channels), in order.

        Raises:
            CalibrationError: The set is damaged; of images, all that cannot be read are listed.
        """
        return self.read(size)


def open_frames(
    source: Path,
    *,
    height: int,
    width: int,
    channels: int,
    color: str = "rgb",
    count: int,
    skip: int = 0,
    what: str = "calibration set",
) -> Frames:
    """Open a set without reading its frames.

    Args:
        source: A folder of images, a `.npy`, or an `.npz` with `images` (or one 4-D array only). Images are taken
            by name, turned upright, scaled to cover (height, width) and cropped around the centre. Arrays must
            have that size.
        height: Rows of a frame.
        width: Columns of a frame.
        channels: 3 (colour) or 1 (grey) for images, any number for arrays.
        color: `rgb` or `bgr`: the channel order that images are brought to. Arrays are taken as they are.
        count: How many frames to take; where there are fewer, all are taken and `Health` says so.
        skip: How many frames to leave out at the start.
        what: The set's name in messages.

    Raises:
        CalibrationError: The set is missing, empty, damaged, or of another type or shape.
    """
    shape = (height, width, channels)
    if source.is_dir():
        found = folder_source(source, shape, color, what)
    elif not source.exists():
        raise CalibrationError(f"{what}: {source} does not exist")
    elif source.suffix.lower() == ".npy":
        found = npy_source(source, shape, what)
    elif source.suffix.lower() == ".npz":
        found = npz_source(source, shape, what)
    else:
        raise CalibrationError(f"{what}: {source} is neither a folder of images nor a .npy or .npz")
    stop = min(skip + count, found.available)
    if stop <= skip:
        raise CalibrationError(
            f"{what}: {source} has {found.available:,} frames; none is left after the first {skip:,}"
        )
    return Frames(
        what=what,
        requested=count,
        count=stop - skip,
        shape=shape,
        dtype=found.dtype,
        skipped=skip,
        available=found.available,
        beside=found.beside,
        read=partial(found.read, skip, stop),
        names=found.names[skip:stop],
    )


def write_npy(frames: Frames, path: Path) -> Health:
    """Write the frames into one `.npy` and judge them, in one pass; `path` appears when it is complete.

    Raises:
        CalibrationError: The set is damaged, or values are not finite; lists the images or frames.
        StoreError: The file cannot be written.
    """
    judge = _Judge(frames)
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(frames.dtype)),
        "fortran_order": False,
        "shape": (frames.count, *frames.shape),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for batch in frames.batches(_batch_size(frames)):
                stream.write(batch.data)
                judge.add(batch)
        health = judge.health()
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"the {frames.what} cannot be written to {path}: {error.strerror}. Free space there, or set another folder "
            "in HEFJOIN_WORK",
            reason="full" if error.errno == errno.ENOSPC else "refused",
            uri=str(path),
            is_transient=False,
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return health


def health_of(frames: Frames) -> Health:
    """Judge the frames as `write_npy` does, and write nothing.

    Raises:
        CalibrationError: As `write_npy` does.
    """
    judge = _Judge(frames)
    for batch in frames.batches(_batch_size(frames)):
        judge.add(batch)
    return judge.health()


def _batch_size(frames: Frames) -> int:
    return max(1, CHUNK_BYTES // frame_bytes(frames.shape, frames.dtype))


def set_sha256(source: Path) -> str:
    """Return the digest of a set: of a file its SHA-256, of a folder that of its images' paths and contents."""
    if not source.is_dir():
        return file_sha256(source)
    return images_sha256({name: file_sha256(path) for name, path in images_in(source).items()})


def images_sha256(digests: Mapping[str, str]) -> str:
    """Return the digest of a folder of images from the SHA-256 of each, by its path below the folder."""
    listing = [[name, digests[name]] for name in in_order(digests)]
    return hashlib.sha256(canonical_json(listing).encode()).hexdigest()


class _Named:
    """Frames with something in common: how many they are, and the first of them by name."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Take in frames."""
        for name in names:
            self.count += 1
            if self.count <= NAMED:
                self.first.append(name)

    def __str__(self) -> str:
        more = f" and {self.count - NAMED:,} more" if self.count > NAMED else ""
        return f"{', '.join(self.first)}{more}"


class _Judge:
    """Gathers a set's health, batch by batch."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.seen = 0
        self.min, self.max = math.inf, -math.inf
        self.sum = np.zeros(frames.shape[2])
        self.sum_of_squares = np.zeros(frames.shape[2])
        self.digests: dict[bytes, int] = {}
        """Of each frame unlike those before, its index."""
        self.not_finite, self.copies, self.blanks = _Named(), _Named(), _Named()
        self.normalized, self.beyond = _Named(), _Named()

    def add(self, batch: Array) -> None:
        """Take in frames of shape (frames, height, width, channels)."""
        flat = batch.reshape(len(batch), -1)
        lows, highs = flat.min(axis=1), flat.max(axis=1)
        self._name(self.not_finite, ~(np.isfinite(lows) & np.isfinite(highs)))
        if not self.not_finite.count:
            is_blank = lows == highs
            self._name(self.blanks, is_blank)
            self._name(self.normalized, (lows < 0) | ((highs <= 1) & ~is_blank))
            self._name(self.beyond, highs > 255)
            self.copies.add(self._copies(flat))
            self.min, self.max = min(self.min, float(lows.min())), max(self.max, float(highs.max()))
            self._sum(batch)
        self.seen += len(batch)

    def _name(self, found: _Named, chosen: Array) -> None:
        found.add(self.frames.called(self.seen + int(index)) for index in np.flatnonzero(chosen))

    def _copies(self, flat: Array) -> Iterator[str]:
        for index, frame in enumerate(flat, self.seen):
            digest = hashlib.blake2b(frame.data, digest_size=16).digest()
            if (earlier := self.digests.setdefault(digest, index)) != index:
                yield f"{self.frames.called(index)} = {self.frames.called(earlier)}"

    def _sum(self, batch: Array) -> None:
        _, width, channels = self.frames.shape
        values = batch.astype(np.float64).reshape(-1, width * channels)
        self.sum += values.sum(axis=0).reshape(width, channels).sum(axis=0)
        np.square(values, out=values)
        self.sum_of_squares += values.sum(axis=0).reshape(width, channels).sum(axis=0)

    def health(self) -> Health:
        """Return the health of all frames taken in."""
        frames = self.frames
        if self.not_finite.count:
            raise CalibrationError(
                f"{frames.what}: {self.not_finite.count:,} of {frames.count:,} frames hold NaN or infinity: "
                f"{self.not_finite}"
            )
        pixels = self.seen * math.prod(frames.shape[:2])
        mean = self.sum / pixels
        std = np.sqrt(np.maximum(self.sum_of_squares / pixels - mean**2, 0))
        return Health(
            requested=frames.requested,
            count=frames.count,
            dtype=frames.dtype,
            min=self.min,
            max=self.max,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            duplicates=self.copies.count,
            blanks=self.blanks.count,
            looks_normalised=self._looks_normalised,
            notes=tuple(self._notes()),
        )

    @property
    def _looks_normalised(self) -> bool:
        return self.max <= 1 or self.min < 0

    def _notes(self) -> Iterator[str]:
        frames = self.frames
        if frames.count < frames.requested:
            yield f"{frames.requested:,} frames asked for, {frames.count:,} there: all of them are used"
        if self.copies.count:
            yield f"{self._share(self.copies)} are exact copies of an earlier one: {self.copies}"
        if self.blanks.count:
            yield f"{self._share(self.blanks)} are blank, one value only: {self.blanks}"
        values = f"values run from {self.min:g} to {self.max:g}"
        if self._looks_normalised:
            yield (
                f"{values}: the frames look normalized already, which wrecks accuracy when the network normalizes too; "
                f"give them as 0–255{self._unless_all(self.normalized)}"
            )
        elif self.normalized.count:
            yield f"{self._share(self.normalized)} have no value above 1, where 0–255 is expected: {self.normalized}"
        if self.beyond.count:
            yield f"{values}, beyond 0–255{self._unless_all(self.beyond)}"

    def _share(self, found: _Named) -> str:
        return f"{found.count:,} of {self.frames.count:,} frames"

    def _unless_all(self, found: _Named) -> str:
        return "" if found.count in (0, self.frames.count) else f" ({self._share(found)}: {found})"
