"""The arithmetic of a comparison, against scipy and against series whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from hefjoin.timing.statistics import (
    EXACT_BLOCKS,
    HALF_NORMAL_MAD,
    HALF_NORMAL_MEDIAN,
    MIDMEAN_LOSS,
    block_length,
    interval,
    likely_half_width,
    midmean,
    noise_floor,
    p_value,
)

Array = npt.NDArray[np.float64]


def autoregressive(rng: np.random.Generator, count: int, memory: float) -> Array:
    """Return x[t] = memory · x[t-1] + noise, with a variance of 1."""
    noise = rng.standard_normal(count) * np.sqrt(1 - memory**2)
    found = [rng.standard_normal()]
    for value in noise[1:]:
        found.append(memory * found[-1] + value)
    return np.array(found)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 37])
def test_the_midmean_is_the_mean_without_a_quarter_at_each_end(count: int) -> None:
    values = np.random.default_rng(count).standard_cauchy((2, count))
    np.testing.assert_allclose(midmean(values), stats.trim_mean(values, 0.25, axis=1))


@pytest.mark.parametrize("count", [4, 9, EXACT_BLOCKS])
def test_few_blocks_have_the_exact_p_value_of_scipy_s_randomization_test(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.normal(0.3, 1, count)
    wanted = stats.permutation_test(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert p_value(values) == pytest.approx(wanted.pvalue)


def test_many_blocks_have_about_the_p_value_of_scipy_s_randomization_test() -> None:
    values = np.random.default_rng(3).normal(0.25, 1, 60)
    wanted = stats.permutation_test(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        rng=np.random.default_rng(7),
    )
    assert p_value(values) == pytest.approx(wanted.pvalue, abs=0.012)
    assert p_value(values) == p_value(-values)


def test_a_p_value_of_random_coins_is_never_zero() -> None:
    assert p_value(np.linspace(1, 2, 40)) == pytest.approx(1e-4)


@pytest.mark.parametrize("memory", [0.3, 0.6, 0.9])
def test_the_block_length_of_an_autoregressive_series_is_about_what_the_formula_gives(memory: float) -> None:
    count = 4000
    wanted = (6 * memory**2 / (1 - memory**2) ** 2 * count) ** (1 / 3)
    found = [block_length(autoregressive(np.random.default_rng(seed), count, memory)) for seed in range(15)]
    assert np.median(found) == pytest.approx(wanted, rel=0.25)


def test_what_has_no_memory_is_drawn_one_by_one() -> None:
    found = [block_length(np.random.default_rng(seed).standard_normal(200)) for seed in range(25)]
    assert np.median(found) <= 2
    assert block_length(np.ones(50)) == 1
    assert block_length(np.array([1.0, 2.0])) == 1


def test_the_interval_of_independent_values_is_that_of_scipy_s_bootstrap() -> None:
    values = np.random.default_rng(4).standard_normal(80)
    wanted = stats.bootstrap(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        rng=np.random.default_rng(5),
        n_resamples=4000,
    ).confidence_interval
    found = interval(values, 1)
    assert found.value == pytest.approx(stats.trim_mean(values, 0.25))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.03)


def test_the_interval_of_a_series_with_a_memory_holds_the_truth_about_as_often_as_it_says() -> None:
    runs = [interval(autoregressive(np.random.default_rng(seed), 200, 0.7)) for seed in range(120)]
    naive = [interval(autoregressive(np.random.default_rng(seed), 200, 0.7), 1) for seed in range(120)]
    held, held_naively = (np.mean([each.low < 0 < each.high for each in some]) for some in (runs, naive))
    assert held > 0.85
    assert held_naively < 0.7


def test_the_likely_half_width_is_that_of_the_bootstrap_and_looks_at_no_sign() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0, 0.04, 400)
    assert likely_half_width(values) == pytest.approx(interval(values, 1).half_width, rel=0.15)
    assert likely_half_width(values * rng.choice((-1, 1), 400)) == likely_half_width(values)


@pytest.mark.parametrize("shift", [0.05, 0.2, 1.0])
def test_the_likely_half_width_does_not_grow_with_the_difference(shift: float) -> None:
    values = np.random.default_rng(6).normal(shift, 0.04, 400)
    assert likely_half_width(values) < 2 * interval(values, 1).half_width


def test_the_constants_are_those_of_the_normal_distribution() -> None:
    median = stats.halfnorm.median()
    assert pytest.approx(median, abs=1e-5) == HALF_NORMAL_MEDIAN
    within = stats.halfnorm.cdf(median + HALF_NORMAL_MAD) - stats.halfnorm.cdf(median - HALF_NORMAL_MAD)
    assert within == pytest.approx(0.5, abs=1e-3)
    means = stats.trim_mean(np.random.default_rng(1).standard_normal((4000, 200)), 0.25, axis=1)
    assert means.std() * np.sqrt(200) == pytest.approx(MIDMEAN_LOSS, rel=0.04)


def test_the_noise_floor_is_where_a_twentieth_of_such_comparisons_lie_beyond() -> None:
    rng = np.random.default_rng(2)
    itself = rng.normal(0, 1, 300)
    floor = noise_floor(itself, 25)
    beyond: Any = np.abs(stats.trim_mean(rng.normal(0, 1, (4000, 25)), 0.25, axis=1)) > floor
    assert beyond.mean() == pytest.approx(0.05, abs=0.02)
    assert noise_floor(itself, 100) == pytest.approx(floor / 2, rel=0.15)
