"""What calibration and evaluation frames are like, seen from the networks that are to learn their ranges from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hefjoin.calibration import Health
from hefjoin.calibration_sources import image_size, images_in
from hefjoin.formats.preprocessing import Wants, normalization
from hefjoin.results.checked import Comparison

DARK, BRIGHT = 25.0, 230.0
"""Means of 0–255 beyond which a whole set is of the night, or over-exposed."""
FLAT = 8.0
"""A deviation below it is that of frames with hardly anything on them."""
CROPPED = 0.4
"""Share of an image that is cut away, beyond which it is worth a word."""
Size = tuple[int, int]
"""(width, height)"""


def image_sizes(source: Path, skip: int, count: int) -> list[Size]:
    """Return the sizes of a folder's images, as they are when upright; of none that cannot be read, or of arrays."""
    if not source.is_dir():
        return []
    return [size for path in list(images_in(source).values())[skip : skip + count] if (size := _size(path))]


def _size(path: Path) -> Size | None:
    try:
        return image_size(path)
    except (OSError, SyntaxError, ValueError):  # told when frames are read
        return None


def frames_row(
    what: str, health: Health, sizes: Sequence[Size], shape: Sequence[int], models: Sequence[Wants]
) -> Comparison:
    """Return the row of a set of frames.

    Args:
        what: `calibration set` or `evaluation set`.
        health: What one pass over it told.
        sizes: Of its images, as they lie there.
        shape: (height, width, channels) of the shared input.
        models: Those that see the frames.
    """
    refusal = normalized_already(health, models) if what.startswith("calibration") else ""
    doubts = [*domain_notes(health, sizes, shape)]
    notes = [*health.notes, *doubts]
    return Comparison(
        what=what,
        values=((what, f"{health.count:,} frames, {health.dtype}, {health.min:g} … {health.max:g}"),),
        verdict="fails" if refusal else "look" if notes else "agrees",
        notes=tuple(notes),
        remedy="give raw 0–255 pixels, or leave mean and std out" if refusal else _advice(health, doubts),
    )


def twice_served(row: Comparison) -> Comparison:
    """Return the row of an evaluation set whose frames are those that calibrate."""
    note = "no frames are left behind those that calibrate: they serve twice"
    return row.model_copy(update={"notes": (*row.notes, note), "verdict": "look"})


def refused_row(what: str, message: str) -> Comparison:
    """Return the row of a set that cannot be used, or was not looked at."""
    return Comparison(what=what, values=((what, "refused"),), verdict="fails", remedy=message)


def normalized_already(health: Health, models: Sequence[Wants]) -> str:
    """Return why frames cannot be normalized by the chip; empty where they can, or need not."""
    if not (health.looks_normalised and any(normalization(model)[1] for model in models)):
        return ""
    return (
        f"the calibration set has values {health.min:g} … {health.max:g}: it is already normalized, and mean/std would "
        "be applied again on the chip. Give raw 0–255 pixels, or leave mean and std out. Of the set is known: "
        f"{'; '.join(health.notes)}"
    )


def domain_notes(health: Health, sizes: Sequence[Size], shape: Sequence[int]) -> Iterator[str]:
    """Yield what speaks against the frames being those that the networks will see."""
    height, width, channels = shape
    if not health.looks_normalised:
        if max(health.mean) < DARK:
            yield f"all dark: mean {max(health.mean):.0f} of 255"
        elif min(health.mean) > BRIGHT:
            yield f"all bright: mean {min(health.mean):.0f} of 255"
        if max(health.std) < FLAT:
            yield f"hardly anything on them: deviation {max(health.std):.1f} of 255"
    if channels == 3 and len({*health.mean}) == len({*health.std}) == 1:
        yield "grey images only, for an input of three channels"
    if enlarged := [size for size in sizes if size[0] < width or size[1] < height]:
        least = min(enlarged)
        yield (
            f"{len(enlarged):,} of {len(sizes):,} images are smaller than {width} × {height} and are enlarged, the "
            f"smallest from {least[0]} × {least[1]}"
        )
    if cropped := [size for size in sizes if _lost(size, width / height) > CROPPED]:
        worst = max(_lost(size, width / height) for size in cropped)
        yield f"{len(cropped):,} of {len(sizes):,} images lose more than {CROPPED:.0%} to cropping, up to {worst:.0%}"


def _lost(size: Size, ratio: float) -> float:
    """Return the share of an image that is cut away to bring it to a ratio of width to height.

    >>> _lost((200, 100), 1.0)
    0.5
    """
    own = size[0] / size[1]
    return 1 - min(own, ratio) / max(own, ratio)


def _advice(health: Health, doubts: Sequence[str]) -> str:
    """Return what to do about frames of which something is noted."""
    advice = []
    if doubts or health.looks_normalised:
        advice.append("take frames as the camera will give them")
    if health.duplicates or health.blanks:
        advice.append("leave copies and blank ones out")
    if health.count < health.requested:
        advice.append("add frames, or lower the count")
    return "; ".join(advice)
