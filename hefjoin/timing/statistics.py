"""The arithmetic of a comparison: numbers in, numbers out.

The rule: one statistic for everything, the mean of the middle half. A block in which another program took the machine
is an outlier to it, and neither half of the data is thrown away as with the median.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hefjoin.results.timed import ALPHA

PERCENTILES = (100 * ALPHA / 2, 100 - 100 * ALPHA / 2)
RESAMPLES = 2000
EXACT_BLOCKS = 13
"""Up to here all ways the coins could have fallen are counted, beyond it `FLIPS` random ones."""
FLIPS = 9_999
SEED = 271828
"""The answer to equal data is equal."""
CHUNK_VALUES = 1 << 22
ROUNDING = 1e-12

Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of what lies between the ends."""
        return (self.high - self.low) / 2


def midmean(values: npt.ArrayLike) -> Any:
    """Return the mean of the middle half along the last axis; of fewer than four values, of all.

    >>> float(midmean([1.0, 2.0, 3.0, 100.0]))
    2.5
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def p_value(differences: Array) -> float:
    """Return the probability of a midmean at least so far from 0, either way, if both sides are one.

    Then the sign of each difference is the coin's that gave the sides their turns, whatever the machine did meanwhile
    and however the blocks hang together. Fisher, The Design of Experiments, 1935, section 21; for random ones the data
    itself counts as one: Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010.

    Args:
        differences: float64, shape (blocks,), one side minus the other.
    """
    found = abs(midmean(differences)) - ROUNDING
    blocks = len(differences)
    if blocks <= EXACT_BLOCKS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=blocks)))
        return float(np.mean(np.abs(midmean(signs * differences)) >= found))
    rng, reached, left = np.random.default_rng(SEED), 1, FLIPS
    while left:
        rows = min(left, max(1, CHUNK_VALUES // blocks))
        signs = rng.choice((-1.0, 1.0), (rows, blocks))
        reached += int(np.sum(np.abs(midmean(signs * differences)) >= found))
        left -= rows
    return reached / (1 + FLIPS)


def interval(series: Array, length: int | None = None) -> Interval:
    """Return the midmean with its interval, by the circular block bootstrap (Politis and Romano, 1992).

    Neighbours are drawn together, because a machine that is slow now is still slow a moment later. With fewer than
    about ten values the interval is narrower than it should be.

    Args:
        series: float64, shape (blocks,), in the order of time.
        length: Values drawn together; None for `block_length`.
    """
    count, length = len(series), length or block_length(series)
    starts = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, math.ceil(count / length)))
    drawn = (starts[..., None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :count] % count
    low, high = np.percentile(midmean(series[drawn]), PERCENTILES)
    return Interval(float(midmean(series)), float(low), float(high))


def noise_floor(differences: Array, blocks: int) -> float:
    """Return below what 95 of 100 comparisons of a side with itself stay, of so many blocks each, either way.

    Args:
        differences: float64, shape (blocks,), of a side with itself; what a comparison draws from, with a coin for the
            sign.
        blocks: Of a comparison.
    """
    rng = np.random.default_rng(SEED)
    drawn = rng.choice(differences, (RESAMPLES, blocks)) * rng.choice((-1.0, 1.0), (RESAMPLES, blocks))
    return float(np.quantile(np.abs(midmean(drawn)), 1 - ALPHA))


def block_length(series: Array) -> int:
    """Return how many neighbours to draw together, from how long the series remembers.

    The automatic choice of Politis and White, Econometric Reviews 23, 2004, for circular blocks, as corrected by
    Patton, Politis and White, Econometric Reviews 28, 2009; the names are theirs.

    Args:
        series: float64, shape (values,), in the order of time.
    """
    count = len(series)
    centred = series - series.mean()
    spread = float(centred @ centred)
    longest = math.ceil(min(3 * math.sqrt(count), count / 3))
    if count < 4 or spread <= 0:
        return 1
    runs = max(5, math.ceil(math.sqrt(math.log10(count))))  # K_N
    lags = min(math.ceil(math.sqrt(count)) + runs, count - 1)
    covariance = np.array([centred[: count - lag] @ centred[lag:] for lag in range(lags + 1)]) / count
    bandwidth = _bandwidth(covariance[1:] / covariance[0], runs, 2 * math.sqrt(math.log10(count) / count))
    used = np.arange(-min(bandwidth, lags), min(bandwidth, lags) + 1)
    weights = np.clip(2 * (1 - np.abs(used) / bandwidth), 0, 1)  # flat-top
    terms = weights * covariance[np.abs(used)]
    long_run = float(terms.sum())  # g(0)
    slope = float(np.abs(used) @ terms)  # G
    if long_run <= 0:
        return 1
    wanted = (1.5 * (slope / long_run) ** 2 * count) ** (1 / 3)
    return min(max(1, round(float(wanted))), longest)


def _bandwidth(correlation: Array, runs: int, negligible: float) -> int:
    """Return M: twice the lag after which `runs` correlations in a row are negligible."""
    small = np.abs(correlation) < negligible
    for lag in range(len(small)):
        if small[lag : lag + runs].all():
            return max(1, 2 * lag)
    return 2 * (int(np.flatnonzero(~small)[-1]) + 1)


def likely_half_width(differences: Array) -> float:
    """Return about how far the 95 % interval reaches to either side, from the sizes of the differences alone.

    Who decides by it when to stop has not looked at the signs, and so not at who is ahead: `p_value` stays exact
    whenever that is. The spread is estimated twice: as if there were no difference between the sides, from the median
    size, and as if there were a large one, from how far sizes lie from that median; each is too large where the other
    is right.

    Args:
        differences: float64, shape (blocks,).
    """
    sizes = np.abs(differences)
    middle = float(np.median(sizes))
    spread = min(middle / HALF_NORMAL_MEDIAN, float(np.median(np.abs(sizes - middle))) / HALF_NORMAL_MAD)
    return Z * MIDMEAN_LOSS * spread / math.sqrt(len(differences))


Z = 1.959963984540054
"""Quantile of the normal distribution at 1 - ALPHA / 2."""
HALF_NORMAL_MEDIAN = 0.674490
HALF_NORMAL_MAD = 0.399
"""Of the size of a standard normal value: its median, and the median distance from that."""
MIDMEAN_LOSS = 1.09
"""Standard error of the midmean over that of the mean, for normal values."""
