"""Outputs that are pictures themselves, such as a text detector's map, laid over the frames they belong to."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageColor

Array = np.ndarray[Any, np.dtype[Any]]

EXAMPLES = 3
WIDEST = 320
MOST_BYTES = 30_000
"""Of a picture, unless the least of these is not enough."""
QUALITIES = (78, 60, 45, 30)
SEEN = 0.5
"""From this share of its range on, a map is taken to have found something."""


@dataclass(frozen=True)
class MapOutput:
    """One single-channel map of a model."""

    title: str
    color: str
    exact: Array
    """Of the float network, float32, (frames, height, width, 1)."""
    rough: Array
    """Of the quantized network."""


def is_map(shape: Sequence[int]) -> bool:
    """Return whether an output of this shape, (height, width, channels), is a picture of one channel."""
    return len(shape) == 3 and shape[2] == 1 and min(shape[:2]) > 1


def choose_frames(maps: Sequence[MapOutput]) -> list[int]:
    """Return up to three frames on which something was found: least, typical and most quantization error."""
    shares = [(_shares(each.exact, each), _shares(each.rough, each)) for each in maps]
    errors = sum(np.abs(exact - rough).mean(axis=(1, 2, 3)) for exact, rough in shares)
    found = sum((exact > SEEN).mean(axis=(1, 2, 3)) for exact, _ in shares)
    candidates = np.flatnonzero(np.asarray(found) > 0.002)
    if not candidates.size:
        candidates = np.arange(len(maps[0].exact))
    ranked = candidates[np.argsort(np.asarray(errors)[candidates], kind="stable")]
    places = np.unique(np.linspace(0, len(ranked) - 1, EXAMPLES).round().astype(int))
    return [int(ranked[place]) for place in places]


def overlay(frame: Array, values: Array, reference: MapOutput) -> str:
    """Return a map laid over its frame in the model's colour, as a data address.

    Args:
        frame: (height, width, channels), 0–255, RGB or grey.
        values: (height, width, 1), of the float or the quantized network.
        reference: Whose it is; its float values set the range.
    """
    picture = _picture(frame)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    faded = 0.45 * grey + 0.55 * 255
    shares = Image.fromarray(np.uint8(255 * _shares(values, reference)[..., 0])).resize(picture.size)
    weight = 0.85 * np.asarray(shares, dtype=np.float32)[..., None] / 255
    color = np.array(ImageColor.getrgb(reference.color), dtype=np.float32)
    return _data_address(Image.fromarray(np.uint8((1 - weight) * faded + weight * color)))


def photograph(frame: Array, widest: int = WIDEST) -> str:
    """Return a frame as a data address, no larger than `widest` pixels either way."""
    return _data_address(_picture(frame, widest))


def _shares(values: Array, reference: MapOutput) -> Array:
    low, high = float(reference.exact.min()), float(reference.exact.max())
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1)


def _picture(frame: Array, widest: int = WIDEST) -> Image.Image:
    pixels = np.clip(frame, 0, 255).astype(np.uint8)
    channels = pixels.shape[2]
    picture = Image.fromarray(pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2))
    picture.thumbnail((widest, widest))
    return picture


def _data_address(picture: Image.Image) -> str:
    for quality in QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        if stream.tell() <= MOST_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
