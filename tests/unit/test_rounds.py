"""The figures of one batch size: the median of the rounds, its interval, percentiles in milliseconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.devices.rounds import median_interval, summary

ROUNDS = st.lists(st.floats(1, 1e5), min_size=1, max_size=40)


@given(ROUNDS)
def test_the_interval_holds_the_median_and_lies_within_the_rounds(rounds: list[float]) -> None:
    low, high = median_interval(rounds)
    assert min(rounds) <= low <= np.median(rounds) <= high <= max(rounds)


def test_equal_rounds_give_equal_intervals_and_no_width_without_spread() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == median_interval([3.0, 1.0, 2.0])
    assert median_interval([7.0] * 5) == (7.0, 7.0)


def test_more_rounds_of_the_same_spread_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    widths = [np.ptp(median_interval(rng.normal(100, 5, count).tolist())) for count in (8, 32, 512)]
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = [low <= 50 <= high for low, high in (median_interval(rng.normal(50, 3, 20).tolist()) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99


def test_a_summary_is_the_median_with_round_trips_in_milliseconds() -> None:
    found = summary(4, [100.0, 300.0, 200.0], [0.001 * ms for ms in range(1, 101)], hw_fps=400.0)
    assert (found.batch_size, found.fps, found.rounds_fps) == (4, 200.0, (100.0, 300.0, 200.0))
    assert found.latency_p50_ms == pytest.approx(50.5)
    assert found.latency_p95_ms == pytest.approx(95.05)
    assert found.latency_p99_ms == pytest.approx(99.01)
    assert (found.hw_fps, found.hw_latency_ms) == (400.0, None)


def test_what_was_not_measured_is_none() -> None:
    found = summary(1, [10.0])
    assert (found.latency_p50_ms, found.latency_p95_ms, found.latency_p99_ms) == (None, None, None)
