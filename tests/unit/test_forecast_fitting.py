"""The fits and figures of `tests/benchmarks/forecast.py`, against scikit-learn and against worked examples."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.benchmarks import fitting

RNG = np.random.default_rng(5)
FEATURES = RNG.uniform(0, 2, (200, 2))
LABELS = (FEATURES @ [2.0, 1.0] + RNG.normal(0, 0.8, 200) > 3).astype(float)


def test_the_regression_is_the_librarys() -> None:
    shares = RNG.uniform(0.2, 1.0, 200)
    wanted = LogisticRegression(C=1 / fitting.RIDGE, tol=1e-8, max_iter=1000).fit(FEATURES, LABELS, shares)
    found = fitting.logistic(FEATURES, LABELS, shares)
    assert found == pytest.approx([*wanted.intercept_, *wanted.coef_[0]], rel=1e-3)


def test_the_area_is_the_librarys_with_ties() -> None:
    guesses = np.round(FEATURES.sum(axis=1) / 4, 1)
    assert fitting.area_under_curve(LABELS, guesses) == pytest.approx(roc_auc_score(LABELS, guesses))


def test_a_forecast_that_is_right_as_often_as_it_says_is_calibrated() -> None:
    labels = np.array([1.0] * 1 + [0.0] * 9 + [1.0] * 9 + [0.0] * 1)
    assert fitting.calibration_error(labels, np.array([0.1] * 10 + [0.9] * 10)) == pytest.approx(0)
    assert fitting.calibration_error(labels, np.array([0.1] * 10 + [0.7] * 10)) == pytest.approx(0.1)


def test_near_duplicates_are_in_one_fold() -> None:
    groups = [f"group{index % 30}" for index in range(120)]
    place = fitting.folds(groups, seed=3)
    assert all(
        len({fold for fold, other in zip(place, groups, strict=True) if other == group}) == 1 for group in groups
    )
    assert set(place) == set(range(10))


def test_one_odd_rate_does_not_move_the_formula() -> None:
    features = np.column_stack([np.ones(60), RNG.normal(size=60)])
    rates = np.exp(features @ [5.0, -0.5])
    rates[7] *= 50
    assert fitting.log_linear(features, rates) == pytest.approx([5.0, -0.5], abs=0.02)


def test_times_are_found_from_their_sums() -> None:
    amounts = RNG.uniform(1, 10, (80, 3))
    rates = 1 / (amounts @ [3e-4, 5e-5, 1e-4])
    assert fitting.time_sum(amounts, rates, np.array([1e-4] * 3)) == pytest.approx([3e-4, 5e-5, 1e-4], rel=0.05)


def test_errors_are_of_the_middle_and_of_nine_in_ten() -> None:
    published = np.full(10, 100.0)
    foretold = np.array([100, 110, 90, 120, 80, 130, 70, 140, 60, 1000.0])
    assert fitting.median_error(foretold, published) == pytest.approx(0.25)
    assert 1.6 < fitting.factor_of_90(foretold, published) < 10
