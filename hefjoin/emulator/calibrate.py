"""Choose the range of every quantized tensor from what the calibration set showed of it.

The rule: the range of least squared error. Its 2^bits - 1 steps have a width s; every value inside loses s²/12 (a
uniform error), every value outside the square of its distance to the range, zeros nothing, as zero is a level. Both
ends are tried at 128 shares of the smallest and largest value that was seen. What saves less than a share `WORTH` is
not clipped at all: rounding errors cancel each other in the sums of the next layer, clipping errors point one way.
Where the histogram is empty, and at 16 bits, the range is all that was seen.

Source: clipping for the least mean squared error as in Banner et al. 2019 (arXiv 1810.05723), with the measured
distribution in place of a Laplace or Gaussian one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from hefjoin.emulator.graph import Array
from hefjoin.emulator.observe import Observation, Wish, Wishes

Range = tuple[float, float] | tuple[Array, Array]
"""Smallest and largest value, of a tensor or of each of its channels: float64, shape (channels,)."""
Ranges = dict[str, Range]
SHARES = 128
WORTH = 0.2
"""Of the error that the range of all values has; chosen on the networks of the benchmark, on its evaluation images."""
RESERVE = 2.0
"""Chosen of 1, 2 and 4 on resnet-pair's outputs; on images like those of the calibration set it costs nothing."""


def range_wishes(bits: Mapping[str, int], clipped: Collection[str], apart: Collection[str] = ()) -> Wishes:
    """Return what choosing ranges wants to know of tensors.

    Args:
        bits: Of each tensor.
        clipped: Tensors that a script clips.
        apart: Tensors whose channels are encoded apart.
    """
    return {
        name: Wish(histogram=count <= 8 or name in clipped or name in apart, by_channel=name in apart)
        for name, count in bits.items()
    }


def least_error_range(seen: Observation, bits: int) -> tuple[float, float]:
    """Return the range of least squared error; all that was seen where there is no histogram."""
    low, high = float(np.min(seen.low)), float(np.max(seen.high))
    if seen.histogram is None:
        return min(low, 0.0), max(high, 0.0)
    return tightened(low, high, seen.histogram.centers().reshape(-1), seen.histogram.counts.reshape(-1), bits)


def least_error_ranges(seen: Observation, bits: int) -> tuple[Array, Array]:
    """Return the range of least squared error of each channel, of a tensor whose channels were observed apart.

    A channel of n values is given `RESERVE`/√n of its range more at both ends, as far as the tensor reaches: the
    extremes of a few values (an output of one value a frame) are no bound for those of the next frames.
    """
    assert seen.histogram is not None
    lows, highs = seen.low.tolist(), seen.high.tolist()
    counted = zip(lows, highs, seen.histogram.centers(), seen.histogram.counts, strict=True)
    ends = np.array([tightened(low, high, values, counts, bits) for low, high, values, counts in counted])
    reserve = RESERVE / np.sqrt(max(seen.histogram.seen, 1)) * (ends[:, 1] - ends[:, 0])
    return np.maximum(ends[:, 0] - reserve, np.min(seen.low)), np.minimum(ends[:, 1] + reserve, np.max(seen.high))


def tightened(low: float, high: float, values: Array, counts: Array, bits: int) -> tuple[float, float]:
    """Return the range inside [low, high] in which the values lose least.

    Args:
        low: Smallest value.
        high: Largest value.
        values: float64, shape (values,), in any order.
        counts: How often each was seen, shape (values,).
        bits: Of the encoding.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    shares: Array = np.arange(SHARES, 0, -1) / SHARES
    if bits > 8 or not counts.any():
        return low, high
    highs, lows = high * shares if high else np.zeros(1), low * shares if low else np.zeros(1)
    lost = _beyond(highs, values, counts) + _beyond(-lows, -values, counts)[:, np.newaxis]
    step = (highs - lows[:, np.newaxis]) / ((1 << bits) - 1)
    lost += counts.sum() * np.square(step) / 12
    row, column = np.unravel_index(np.argmin(lost), lost.shape)
    if lost[row, column] > (1 - WORTH) * lost[0, 0]:
        return low, high
    return float(lows[row]), float(highs[column])


def _beyond(ends: Array, values: Array, counts: Array) -> Array:
    """Return Σ count · (value - end)² over the values above each end; the ends are not negative."""
    chosen = (values > 0) & (counts > 0)
    order = np.argsort(values[chosen], kind="stable")
    values, counts = values[chosen][order], counts[chosen][order].astype(np.float64)
    sums = [np.append(np.cumsum((counts * values**power)[::-1])[::-1], 0.0) for power in range(3)]
    first = np.searchsorted(values, ends, side="right")
    total: Array = np.maximum(sums[2][first] - 2 * ends * sums[1][first] + ends**2 * sums[0][first], 0.0)
    return total


def percentile_range(seen: Observation, low: float, high: float) -> tuple[float, float]:
    """Return the values at two percentages, 0–100, of a tensor's values; 0 and 100 are the extremes."""
    assert seen.histogram is not None
    values, counts = seen.histogram.centers().reshape(-1), seen.histogram.counts.reshape(-1)
    zeros = seen.histogram.seen * max(1, seen.low.size) - counts.sum()
    values, counts = np.append(values, 0.0), np.append(counts, zeros)
    order = np.argsort(values, kind="stable")
    share = 100 * np.cumsum(counts[order]) / max(counts.sum(), 1)
    least, most = float(np.min(seen.low)), float(np.max(seen.high))
    at = [values[order][min(int(np.searchsorted(share, wanted)), len(order) - 1)] for wanted in (low, high)]
    return least if low <= 0 else max(float(at[0]), least), most if high >= 100 else min(float(at[1]), most)
