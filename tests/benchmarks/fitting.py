"""Fit the forecast's few coefficients, and say how well a fit foretells what it has not seen.

The rule: near-duplicates are always in one fold, and what is measured is of the fold that was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
RIDGE = 0.01
"""Keeps slopes finite where the labels can be parted."""
BINS = 5
HUBER = 0.2
"""Of ln FPS: beyond a factor of 1.22 an error counts linearly, so that half of the networks decide."""


def folds(groups: Sequence[str], seed: int, count: int = 10) -> npt.NDArray[np.int64]:
    """Return the fold of each row, equal groups in one."""
    names = sorted(set(groups))
    np.random.default_rng(seed).shuffle(names)
    place = {name: index % count for index, name in enumerate(names)}
    return np.array([place[name] for name in groups])


def logistic(features: Floats, labels: Floats, weights: Floats) -> Floats:
    """Return intercept and slopes of a weighted logistic regression."""
    design = np.column_stack([np.ones(len(features)), features])

    def loss(factors: Floats) -> tuple[float, Floats]:
        logits = design @ factors
        penalty = RIDGE * np.r_[0, factors[1:]]
        value = weights @ (np.logaddexp(0, logits) - labels * logits) + 0.5 * penalty @ factors
        return float(value), design.T @ (weights * (1 / (1 + np.exp(-logits)) - labels)) + penalty

    return np.asarray(minimize(loss, np.zeros(design.shape[1]), jac=True, method="BFGS").x)


def log_linear(features: Floats, rates: Floats) -> Floats:
    """Return the factors of ln FPS."""

    def loss(factors: Floats) -> float:
        return _huber(features @ factors - np.log(rates))

    start = np.linalg.lstsq(features, np.log(rates), rcond=None)[0]
    return np.asarray(minimize(loss, start, method="BFGS").x)


def time_sum(amounts: Floats, rates: Floats, start: Floats) -> Floats:
    """Return the positive seconds of each amount whose sum is nearest to 1/FPS."""

    def loss(logarithms: Floats) -> float:
        return _huber(np.log(amounts @ np.exp(logarithms) * rates))

    return np.exp(np.asarray(minimize(loss, np.log(start), method="BFGS").x))


def _huber(errors: Floats) -> float:
    sizes = np.abs(errors)
    return float(np.where(sizes < HUBER, sizes**2 / 2, HUBER * (sizes - HUBER / 2)).mean())


def least_error(foretell: Callable[[Floats], Floats], rates: Floats, start: Floats) -> Floats:
    """Return the constants whose forecasts are nearest to rates, searched in their logarithms."""

    def loss(logarithms: Floats) -> float:
        return _huber(np.log(foretell(np.exp(logarithms)) / rates))

    options = {"maxiter": 120, "xatol": 0.02, "fatol": 1e-4}
    return np.exp(np.asarray(minimize(loss, np.log(start), method="Nelder-Mead", options=options).x))


def accuracy(labels: Floats, probabilities: Floats) -> float:
    """Return how often the likelier answer is right, 0–1."""
    return float(np.mean((probabilities > 0.5) == (labels > 0.5)))


def area_under_curve(labels: Floats, probabilities: Floats) -> float:
    """Return how often a positive has the higher probability of a pair, ties counted half."""
    yes, no = probabilities[labels > 0.5], probabilities[labels < 0.5]
    differences = np.subtract.outer(yes, no)
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def calibration_error(labels: Floats, probabilities: Floats) -> float:
    """Return the mean distance of probability and frequency in bins of equal width, by their rows."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [abs(float(np.sum((labels - probabilities)[place == index]))) for index in range(BINS)]
    return sum(gaps) / len(labels)


def median_error(forecasts: Floats, rates: Floats) -> float:
    """Return the median relative error, 0.2 for 20 %."""
    return float(np.median(np.abs(forecasts / rates - 1)))


def factor_of_90(forecasts: Floats, rates: Floats) -> float:
    """Return the factor within which nine of ten forecasts are."""
    return float(np.quantile(np.exp(np.abs(np.log(forecasts / rates))), 0.9))


def repeated(measure: Callable[[int], Sequence[float]], seeds: int) -> Any:
    """Return the mean of some figures over divisions into folds, and all of them."""
    found = np.array([measure(seed) for seed in range(seeds)])
    return found.mean(axis=0), found
