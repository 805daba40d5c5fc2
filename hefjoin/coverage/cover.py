"""What a set of frames covers of the ranges of the channels of several networks.

A quantizer gives a channel's values a range that holds zero and all that it has seen of them (Jacob et al. 2018, arXiv
1712.05877, section 2.1). So a frame f *reaches* the ends low_c(f) = max(0, -min x) and high_c(f) = max(0, max x) of
channel c, and a set S of frames gives it the width w_c(S) = max_f low_c(f) + max_f high_c(f). The rules:

1. The coverage of a model by S is C_m(S) = mean over its channels of w_c(S) / w_c(all frames). Channels that are zero
   on every frame (dead ones) have no range and do not count.
2. C_m grows with S and gains ever less by the same frame (it is a sum of maxima: a facility location function, monotone
   and submodular), which is what the choice in `hefjoin.coverage.choose` rests on.
3. A model's need of a frame f is what it loses without it: 1 - C_m(all but f).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def reached(low: Array, high: Array) -> Array:
    """Return how far a frame reaches to either side of zero.

    Args:
        low: Smallest value of each channel, float32, shape (channels,).
        high: Largest value.

    Returns:
        float32, shape (2, channels): below zero, above zero.

    >>> reached(np.array([-2.0, 1.0]), np.array([3.0, 4.0])).tolist()
    [[2.0, 0.0], [3.0, 4.0]]
    """
    return np.stack([np.maximum(-low, 0), np.maximum(high, 0)])


class Ends(NamedTuple):
    """Who reaches the ends of the channels; each of shape (2, channels)."""

    best: Array
    """float32: how far any frame reaches."""
    second: Array
    """float32: how far the others reach, without the one that reaches farthest."""
    owner: Array
    """int64: that one; the first, where several reach as far."""


def ends(reaches: Array) -> Ends:
    """Return who reaches the ends, of what every frame reaches: float32, shape (frames, 2, channels), read once."""
    best, second = np.zeros(reaches.shape[1:], np.float32), np.zeros(reaches.shape[1:], np.float32)
    owner = np.zeros(reaches.shape[1:], np.int64)
    for frame, reach in enumerate(reaches):
        is_farther = reach > best
        second = np.where(is_farther, best, np.maximum(second, reach))
        best, owner = np.where(is_farther, reach, best), np.where(is_farther, frame, owner)
    return Ends(best, second, owner)


class Cover:
    """The coverage of several models by subsets of one set of frames."""

    def __init__(self, reaches: Array, channels: Mapping[str, int]) -> None:
        """Weigh the channels.

        Args:
            reaches: What every frame reaches: float32, shape (frames, 2, channels of all models in their order); it may
                be mapped from a file.
            channels: How many channels each model has.
        """
        self.reaches, self.models = reaches, tuple(channels)
        self.ends = ends(reaches)
        width = self.ends.best.sum(axis=0, dtype=np.float64)
        self.width: Array = width
        """Of each channel's range, float64, shape (channels,)."""
        self.is_alive: Array = width > 0
        stops = np.cumsum(list(channels.values()))
        self.parts = {
            model: slice(int(stop) - count, int(stop))
            for (model, count), stop in zip(channels.items(), stops, strict=True)
        }
        self._weight = np.zeros_like(width)
        for part in self.parts.values():
            alive = int(self.is_alive[part].sum())
            np.divide(1 / max(alive, 1), width, out=self._weight, where=self.is_alive & _within(part, len(width)))

    def of(self, reach: Array) -> Array:
        """Return the coverage of each model by frames that together reach `reach`: float64, shape (models,), 0–1."""
        shares = reach.sum(axis=0, dtype=np.float64) * self._weight
        return np.array([shares[part].sum() for part in self.parts.values()])

    def of_frames(self, frames: Sequence[int]) -> Array:
        """Return the coverage of each model by a subset of the frames."""
        together = np.zeros_like(self.ends.best)
        for frame in frames:
            np.maximum(together, self.reaches[frame], out=together)
        return self.of(together)

    def along(self, order: Sequence[int]) -> Array:
        """Return the coverage by the first, the first two … of an order: float64, shape (len(order), models)."""
        together = np.zeros_like(self.ends.best)
        found = []
        for frame in order:
            np.maximum(together, self.reaches[frame], out=together)
            found.append(self.of(together))
        return np.array(found).reshape(len(order), len(self.models))

    def needs(self) -> Array:
        """Return what each model loses without each frame: float64, shape (frames, models), 0–1."""
        lost = (self.ends.best - self.ends.second).astype(np.float64) * self._weight
        return np.stack(
            [
                np.bincount(self.ends.owner[:, part].ravel(), lost[:, part].ravel(), len(self.reaches))
                for part in self.parts.values()
            ],
            axis=1,
        )

    def stretched(self, frame: int, model: str) -> Array:
        """Return by what share of its width each channel's range would be narrower without a frame: (channels,)."""
        part = self.parts[model]
        lost = np.where(self.ends.owner[:, part] == frame, self.ends.best[:, part] - self.ends.second[:, part], 0)
        shares: Array = np.zeros(lost.shape[1])
        np.divide(lost.sum(axis=0), self.width[part], out=shares, where=self.is_alive[part])
        return shares


def _within(part: slice, count: int) -> Array:
    places = np.arange(count)
    found: Array = (places >= part.start) & (places < part.stop)
    return found
