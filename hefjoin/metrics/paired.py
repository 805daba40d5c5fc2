"""Is one stage of a network better than another, or is the difference noise? Answered frame by frame.

The rule: both stages saw the same frames, so frames are compared in pairs; what varies from frame to frame, and is the
same in both, does not count. Test and interval agree: the interval leaves out 0 where the test says it is no noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

ALPHA = 0.05
"""Below this probability a difference is not called noise; the intervals hold 1 - ALPHA."""
Z = 1.959963984540054
"""Quantile of the normal distribution at 1 - ALPHA / 2."""
ROUNDING = 1e-5
"""Two scores that differ by less, relative to the larger, are equal: float32 arithmetic in another order."""
EXACT_FRAMES = 13
"""Up to here all subsets are counted, beyond it `SUBSETS` random ones."""
SUBSETS = 9_999
SEED = 271828
CHUNK_VALUES = 1 << 22

Array = npt.NDArray[np.float64]


class Paired(NamedTuple):
    """A later stage against an earlier one."""

    difference: float
    """Mean over the frames of later - earlier."""
    low: float | None
    high: float | None
    """95 % confidence interval of the difference; None where there are too few frames for one."""
    p_value: float
    """Probability of a difference at least so large where stages differ by chance only; two-sided."""
    higher: int
    """Frames that scored higher in the later stage."""
    lower: int

    @property
    def is_noise(self) -> bool:
        """Return whether chance explains the difference."""
        return self.p_value > ALPHA


def compare(earlier: Array, later: Array, *, are_hits: bool) -> Paired:
    """Compare the scores of two stages on the same frames.

    Args:
        earlier: float64, shape (frames,).
        later: float64, shape (frames,).
        are_hits: Every score is 0 or 1.
    """
    change = later - earlier
    change[np.abs(change) <= ROUNDING * np.maximum(np.abs(earlier), np.abs(later))] = 0
    higher, lower = int(np.count_nonzero(change > 0)), int(np.count_nonzero(change < 0))
    if are_hits:
        low, high = hits_interval(higher, lower, len(change))
        return Paired((higher - lower) / len(change), low, high, mcnemar(higher, lower), higher, lower)
    return Paired(float(change.mean()), *_by_subsets(change), higher, lower)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test: gained and lost are equally likely.

    Source: McNemar 1947, with the binomial distribution in the place of chi-squared.

    >>> mcnemar(1, 9), mcnemar(0, 0)
    (0.021484375, 1.0)
    """
    return min(1.0, 2 * float(np.exp(_log_binomial(gained + lost, 0.5)[: min(gained, lost) + 1]).sum()))


def hits_interval(gained: int, lost: int, frames: int) -> tuple[float, float]:
    """Return the 95 % interval of a difference of two shares of hits, (gained - lost) / frames.

    The wider of two: Tango's score interval (Statistics in Medicine 17, 1998), which knows that frames that changed
    nothing prove little where they are few; and the exact one of the test, Clopper and Pearson's for the share gained
    of all that changed.
    """
    low, high = _tango(gained, lost, frames)
    changed = gained + lost
    if not changed:
        return low, high
    exact = [(2 * share - 1) * changed / frames for share in _clopper_pearson(gained, changed)]
    return min(low, exact[0]), max(high, exact[1])


def _tango(gained: int, lost: int, frames: int) -> tuple[float, float]:
    """Return the differences at which the score statistic is ±Z."""

    def statistic(difference: float) -> float:
        b = (2 * frames - gained + lost) * difference - gained - lost
        c = -lost * difference * (1 - difference)
        share_lost = (math.sqrt(max(b * b - 8 * frames * c, 0)) - b) / (4 * frames)
        variance = max(frames * (2 * share_lost + difference * (1 - difference)), 1e-300)
        return float(gained - lost - frames * difference) / math.sqrt(variance)

    found = (gained - lost) / frames
    return _crossing(statistic, Z, -1, found), _crossing(statistic, -Z, found, 1)


def _clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Biometrika 26, 1934)."""

    def at_least(share: float) -> float:
        return float(np.exp(_log_binomial(trials, share)[successes:]).sum())

    def at_most(share: float) -> float:
        return float(np.exp(_log_binomial(trials, share)[: successes + 1]).sum())

    found = successes / trials
    low = _crossing(lambda share: -at_least(share), -ALPHA / 2, 0, found) if successes else 0.0
    high = _crossing(at_most, ALPHA / 2, found, 1) if successes < trials else 1.0
    return low, high


def _log_binomial(trials: int, share: float) -> Array:
    """Return ln P(X = k) for k = 0 … trials."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(trials + 1)
    chances = factorials[-1] - factorials - factorials[::-1]
    logs: Array = chances + k * math.log(max(share, 1e-300)) + (trials - k) * math.log(max(1 - share, 1e-300))
    return logs


def _crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Return where a falling function takes a value, or the nearest end of the range."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return (low + high) / 2


def _by_subsets(change: Array) -> tuple[float | None, float | None, float]:
    """Return interval and p-value of a mean change, by the signs of its frames.

    Where a change is as likely as its opposite, every choice of frames whose signs are turned is equally likely, and
    the sum stays as high where the chosen frames' mean is below 0. So the share of subsets with a mean below 0 is the
    p-value, and the quantiles of their means are the interval that belongs to it (Hartigan, JASA 64, 1969).
    """
    means = np.sort(np.concatenate(list(_subset_means(change))))
    equal = 1e-9 * float(np.abs(change).max())
    count = len(means) + 1
    tail = min(np.count_nonzero(means <= equal), np.count_nonzero(means >= -equal)) + 1
    p_value = min(1.0, 2 * float(tail) / count)
    rank = int(ALPHA / 2 * count)
    if rank == 0:
        return None, None, p_value
    return float(means[rank - 1]), float(means[-rank]), p_value


def _subset_means(change: Array) -> Iterator[Array]:
    """Yield the mean change of subsets of the frames, none of them empty."""
    frames = len(change)
    if frames <= EXACT_FRAMES:
        numbers = np.arange(1, 1 << frames)[:, np.newaxis]
        yield _means(numbers >> np.arange(frames) & 1, change)
        return
    rng = np.random.default_rng(SEED)
    rows = max(1, CHUNK_VALUES // frames)
    for start in range(0, SUBSETS, rows):
        chosen = rng.integers(0, 2, (min(rows, SUBSETS - start), frames), dtype=np.uint8)
        yield _means(chosen[chosen.any(axis=1)], change)


def _means(chosen: npt.NDArray[Any], change: Array) -> Array:
    means: Array = chosen.astype(np.float64) @ change / chosen.sum(axis=1)
    return means
