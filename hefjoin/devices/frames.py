"""Frames as a HEF's input takes them, and what the integers of its outputs stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.errors import InputError
from hefjoin.formats.hef import Hef, Stream

Array = npt.NDArray[Any]


def input_frames(frames: Path, hef: Hef) -> Array:
    """Return frames as the host sends them to a HEF's one input.

    Args:
        frames: .npy, uint8, (frames, height, width, channels).
        hef: What they are for; its first network group.

    Returns:
        Integers of the input's type, (frames, height, width, channels).

    Raises:
        InputError: The HEF has another number of inputs than one, or there is no frame of its input's shape.
    """
    group = hef.groups[0]
    images = np.load(frames, mmap_mode="r")
    if [stream.shape for stream in group.inputs] != [images.shape[1:]] or not len(images):
        inputs = ", ".join(f"{stream.name} {stream.shape}" for stream in group.inputs)
        raise InputError(
            f"{frames.name} has {len(images)} frames of shape {images.shape[1:]}, {group.name} takes {inputs}: give "
            "one frame at least, of the shape of its one input"
        )
    return quantized(images, group.inputs[0])


def quantized(frames: Array, stream: Stream) -> Array:
    """Return frames as the host sends them: integers of the input stream's type and scale.

    Args:
        frames: uint8 or float32, (frames, height, width, channels).
        stream: The HEF's input; `real = (quantized - zero_point) * scale`.
    """
    kind = np.dtype(stream.dtype.lower())
    if frames.dtype == kind and stream.scale == 1 and stream.zero_point == 0:
        return frames
    limits = np.iinfo(kind)
    return np.clip(np.rint(frames / stream.scale) + stream.zero_point, limits.min, limits.max).astype(kind)


def dequantized(values: Array, stream: Stream) -> npt.NDArray[np.float32]:
    """Return what an output's integers, features last, stand for: `(stored - zero_point) * scale`, float32."""
    scale = np.asarray(stream.scales or stream.scale, dtype=np.float32)
    zero_point = np.asarray(stream.zero_points or stream.zero_point, dtype=np.float32)
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)
