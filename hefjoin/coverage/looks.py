"""How the frames themselves look: copies, near copies, blank ones, odd ranges.

The rule: a frame is kept as a signature of 64 numbers and a digest, never as pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BLOCKS = 8
NEAR = 3.0
"""Grey levels (root mean square over the blocks) up to which two frames are near copies."""
LEAST_DEVIATION = 2.0
"""Grey levels; a frame that varies less is nearly blank."""


class Look(NamedTuple):
    """What is kept of a frame."""

    low: float
    high: float
    deviation: float
    """Of its grey values."""
    digest: bytes
    signature: Array
    """float32, shape (`BLOCKS`²,): means of its grey values over an 8 × 8 grid."""


class Copy(NamedTuple):
    """A frame that is like an earlier one."""

    frame: int
    of: int
    """The earliest that it is like, which is no copy itself."""
    kind: Literal["exact", "near"]
    distance: float
    """Root mean square of the difference of the block means, in grey levels."""


def look(frame: Array) -> Look:
    """Return what is kept of a frame of shape (height, width, channels), 0–255."""
    grey = frame.mean(axis=2, dtype=np.float32)
    blocks = [part.mean() for rows in np.array_split(grey, BLOCKS) for part in np.array_split(rows, BLOCKS, axis=1)]
    return Look(
        low=float(frame.min()),
        high=float(frame.max()),
        deviation=float(grey.std()),
        digest=hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest(),
        signature=np.array(blocks, dtype=np.float32),
    )


def copies(looks: Iterable[Look]) -> Iterator[Copy]:
    """Yield the frames that are exact or near copies of an earlier one that is none itself.

    Exact ones have one digest. Near ones differ by at most `NEAR` grey levels in the root mean square over 8 × 8 block
    means of grey: the same picture saved or scaled again, a camera that stood still. Blocks see no detail: two
    different flat pictures of one brightness are near copies too, and add as little.
    """
    first: dict[bytes, int] = {}
    originals: list[int] = []
    signatures = np.zeros((512, BLOCKS**2), np.float32)
    for frame, each in enumerate(looks):
        if (earlier := first.setdefault(each.digest, frame)) != frame:
            yield Copy(frame, earlier, "exact", 0.0)
            continue
        if originals:
            distances = np.sqrt(np.square(signatures[: len(originals)] - each.signature).mean(axis=1))
            nearest = int(distances.argmin())
            if distances[nearest] <= NEAR:
                first[each.digest] = originals[nearest]
                yield Copy(frame, originals[nearest], "near", float(distances[nearest]))
                continue
        if len(originals) == len(signatures):
            signatures = np.concatenate([signatures, np.zeros_like(signatures)])
        signatures[len(originals)] = each.signature
        originals.append(frame)


def oddities(look: Look, *, upscaled: float = 1.0) -> Iterator[str]:
    """Yield what is odd about a frame, in words.

    Args:
        look: What is kept of it.
        upscaled: By what factor its image was enlarged to become a frame.
    """
    if look.low == look.high:
        yield f"blank: {look.low:g} everywhere"
    elif look.deviation < LEAST_DEVIATION and look.high > 1:
        yield f"nearly blank: grey varies by {look.deviation:.1f} of 255"
    if look.low < 0 or look.high > 255:
        yield f"out of range: {look.low:g} to {look.high:g}, expected 0–255"
    elif look.high <= 1 and look.low != look.high:
        yield f"out of range: {look.low:g} to {look.high:g}, looks normalized already"
    if upscaled > 1:
        yield f"upscaled {upscaled:.1f} times: its image is smaller than the input"
