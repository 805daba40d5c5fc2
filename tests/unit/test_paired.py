"""Paired tests and their intervals, against SciPy, against a likelihood that is maximized, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from hefjoin.metrics.paired import ALPHA, EXACT_FRAMES, Z, compare, hits_interval, mcnemar

Array = npt.NDArray[np.float64]
COUNTS = [(1, 9), (0, 6), (5, 0), (7, 7), (12, 30), (400, 450)]


def mean(values: Array, axis: int) -> Any:
    return values.mean(axis=axis)


def permutation_p(change: Array) -> float:
    """The p-value of every choice of signs."""
    found = stats.permutation_test((change,), mean, permutation_type="samples", n_resamples=math.inf, vectorized=True)
    return float(found.pvalue)


class TestHits:
    def test_by_hand(self) -> None:
        assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
        assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
        assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0

    @pytest.mark.parametrize(("gained", "lost"), COUNTS)
    def test_p_value_is_that_of_the_binomial_test(self, gained: int, lost: int) -> None:
        assert mcnemar(gained, lost) == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)

    @pytest.mark.parametrize(("gained", "lost"), COUNTS)
    @pytest.mark.parametrize("frames", [900, 5000])
    def test_interval_is_the_wider_of_the_score_interval_and_the_exact_one(
        self, gained: int, lost: int, frames: int
    ) -> None:
        low, high = hits_interval(gained, lost, frames)
        exact = stats.binomtest(gained, gained + lost).proportion_ci(method="exact")
        limits = [(2 * share - 1) * (gained + lost) / frames for share in exact]
        by_score = [score_limit(gained, lost, frames, side) for side in (-1, 1)]
        assert low == pytest.approx(min(limits[0], by_score[0]), abs=1e-6)
        assert high == pytest.approx(max(limits[1], by_score[1]), abs=1e-6)

    def test_few_frames_without_a_change_prove_little(self) -> None:
        most = Z**2 / (12 + Z**2)
        assert hits_interval(0, 0, 12) == pytest.approx((-most, most))
        assert hits_interval(0, 0, 1000)[1] == pytest.approx(0.0038, abs=1e-4)

    @pytest.mark.parametrize(("gained", "lost"), [(1, 0), (0, 1), (3, 0), (0, 3)])
    def test_where_every_frame_changed_the_interval_ends_at_all(self, gained: int, lost: int) -> None:
        low, high = hits_interval(gained, lost, gained + lost)
        assert (high if gained else -low) == pytest.approx(1)
        assert -1 <= low <= (gained - lost) / (gained + lost) <= high <= 1

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 3000))
    def test_the_interval_leaves_out_zero_where_the_test_says_it_is_no_noise(
        self, gained: int, lost: int, unchanged: int
    ) -> None:
        low, high = hits_interval(gained, lost, gained + lost + unchanged)
        assert (low > 0 or high < 0) == (mcnemar(gained, lost) <= ALPHA)

    def test_counts_frames_both_ways(self) -> None:
        earlier, later = np.array([1.0, 1, 0, 0, 1, 1]), np.array([1.0, 0, 1, 0, 0, 0])
        found = compare(earlier, later, are_hits=True)
        assert (found.higher, found.lower, found.difference) == (1, 3, pytest.approx(-2 / 6))
        assert found.is_noise


def score_limit(gained: int, lost: int, frames: int, side: int) -> float:
    """Where Tango's statistic is Z, the share lost found by maximizing the likelihood and not by his formula."""

    def statistic(difference: float) -> float:
        def unlikely(share_lost: float) -> float:
            rest = 1 - 2 * share_lost - difference
            if min(share_lost, share_lost + difference, rest) <= 0:
                return 1e12
            found = gained * math.log(share_lost + difference) + lost * math.log(share_lost)
            return -found - (frames - gained - lost) * math.log(rest)

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = float(optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x)
        variance = frames * (2 * share + difference - difference**2)
        return (gained - lost - frames * difference) / math.sqrt(variance)

    found = (gained - lost) / frames
    far = found + side * 0.3
    return float(optimize.brentq(lambda difference: statistic(difference) + side * Z, found, far, xtol=1e-9))


class TestScores:
    @pytest.mark.parametrize("frames", [3, 6, 10, EXACT_FRAMES])
    def test_p_value_of_few_frames_is_that_of_every_choice_of_signs(self, frames: int) -> None:
        rng = np.random.default_rng(frames)
        change = rng.normal(0.3, 0.5, frames)
        assert compare(np.ones(frames), 1 + change, are_hits=False).p_value == pytest.approx(permutation_p(change))

    def test_p_value_of_many_frames_is_near_that_of_a_t_test(self) -> None:
        rng = np.random.default_rng(5)
        earlier = rng.normal(0, 1, 400)
        later = earlier + rng.normal(0.03, 0.4, 400)
        found = compare(earlier, later, are_hits=False)
        assert found.p_value == pytest.approx(stats.ttest_rel(later, earlier).pvalue, abs=0.015)

    def test_the_interval_holds_the_differences_that_the_test_does_not_refuse(self) -> None:
        change = np.random.default_rng(11).normal(0.3, 0.5, 12)
        found = compare(np.zeros(12), change, are_hits=False)
        assert found.low is not None
        assert found.high is not None
        for limit, outwards in ((found.low, -1e-6), (found.high, 1e-6)):
            assert permutation_p(change - limit + outwards) > ALPHA
            assert permutation_p(change - limit - outwards) <= ALPHA

    def test_the_interval_of_many_frames_is_near_that_of_a_bootstrap(self) -> None:
        rng = np.random.default_rng(6)
        change = rng.exponential(1, 500) - 0.9
        found = compare(np.full(500, 10.0), 10 + change, are_hits=False)
        resampled = rng.choice(change, (4000, 500)).mean(axis=1)
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=0.01)

    @pytest.mark.parametrize("frames", [1, 2, 5])
    def test_too_few_frames_have_no_interval_and_prove_nothing(self, frames: int) -> None:
        found = compare(np.zeros(frames), np.arange(1.0, frames + 1), are_hits=False)
        assert (found.low, found.high, found.is_noise) == (None, None, True)
        assert found.p_value == pytest.approx(2 / 2**frames)

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.floats(-1, 1), min_size=6, max_size=20))
    def test_interval_and_test_agree(self, change: list[float]) -> None:
        found = compare(np.full(len(change), 2.0), 2 + np.array(change), are_hits=False)
        assert found.low is not None
        assert found.high is not None
        assert (found.low > 1e-6 or found.high < -1e-6) <= (not found.is_noise)
        assert found.is_noise <= (found.low <= 1e-6 and found.high >= -1e-6)

    def test_what_float_arithmetic_rounds_is_no_change(self) -> None:
        earlier = np.linspace(1, 5, 200)
        found = compare(earlier, earlier * (1 + 1e-6), are_hits=False)
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        assert (found.higher, found.lower) == (0, 0)

    def test_equal_scores_give_equal_answers(self) -> None:
        rng = np.random.default_rng(3)
        earlier, later = rng.normal(size=(2, 300))
        assert compare(earlier, later, are_hits=False) == compare(earlier, later, are_hits=False)

    def test_swapping_the_stages_turns_the_signs(self) -> None:
        rng = np.random.default_rng(4)
        earlier, later = rng.normal(size=(2, 10))
        there, back = compare(earlier, later, are_hits=False), compare(later, earlier, are_hits=False)
        assert (there.higher, there.lower, there.p_value) == (back.lower, back.higher, back.p_value)
        assert there.low == pytest.approx(-(back.high or 0))
