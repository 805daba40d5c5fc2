"""Judge ranges on frames that did not make them: how many values of each channel lie outside.

The clipping of a channel is the share of its values, over all judged frames and places, that lie below the smallest or
above the largest value of the calibration frames, zero counted among these. Where no evaluation frames are held out,
the calibration frames are judged by cross-validation: frame f by the range of all frames but those of its fold, f
modulo `FOLDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.coverage.probe import Layer, Probe

Array = npt.NDArray[Any]

FOLDS = 5


class Ranges:
    """The range of every channel, of all calibration frames or without those of a fold."""

    def __init__(self, reaches: Array) -> None:
        """Take what each frame reaches: float32, shape (frames, 2, channels)."""
        folds = min(FOLDS, len(reaches))
        self._of_fold = np.zeros((folds, *reaches.shape[1:]), np.float32)
        for frame, reach in enumerate(reaches):
            fold = self._of_fold[frame % folds]
            np.maximum(fold, reach, out=fold)

    def of_all(self) -> Array:
        """Return what all frames reach: float32, shape (2, channels)."""
        found: Array = self._of_fold.max(axis=0)
        return found

    def without(self, frame: int) -> Array:
        """Return what the frames outside a frame's fold reach; nothing where there is but one frame."""
        folds = len(self._of_fold)
        others = [fold for fold in range(folds) if fold != frame % folds]
        found: Array = self._of_fold[others].max(axis=0, initial=0.0)
        return found


class Clipping:
    """Gathers how one model's channels are clipped, frame by frame."""

    def __init__(self, probe: Probe) -> None:
        """Judge the channels of a model's layers."""
        self._probe = probe
        self._begins = _begins(probe.layers)
        self._counts = [layer.channels for layer in probe.layers]
        self.frames = 0
        self._sum = np.zeros(probe.channels)
        self.low, self.high = np.zeros(probe.channels, np.float32), np.zeros(probe.channels, np.float32)
        """What the judged frames reach, zero counted."""
        self.is_beyond_layer = np.zeros(probe.channels, dtype=bool)

    def judge(self, frame: Array, reach: Array) -> None:
        """Judge a frame.

        Args:
            frame: float32, shape (height, width, channels), normalized as the network wants it.
            reach: The range to judge by: float32, shape (2, channels), below and above zero.
        """
        low, high, share = self._probe.outside(frame, -reach[0], reach[1])
        layer = np.repeat(np.maximum.reduceat(reach, self._begins, axis=1), self._counts, axis=1)
        self.is_beyond_layer |= (low < -layer[0]) | (high > layer[1])
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._sum += share
        self.frames += 1

    def share(self) -> Array:
        """Return the clipping of each channel: float64, shape (channels,), 0–1."""
        found: Array = self._sum / max(self.frames, 1)
        return found


def _begins(layers: Sequence[Layer]) -> list[int]:
    return [0, *np.cumsum([layer.channels for layer in layers[:-1]]).tolist()]
