"""Write the forecast's coefficients, each with what it was worth on networks that it was not fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import hefjoin.forecast
from tests.benchmarks.foretold import OTHER_CHIP, context_rule, formula, pace_constants
from tests.benchmarks.validation import DIVISIONS, FOLDS, SPEED_DIVISIONS, Contexts, Speed, Validation
from tests.zoo.tables import CHIPS

FITTED = Path(hefjoin.forecast.__path__[0]) / "fitted.toml"
HEAD = f"""\
# Written by `python -m tests.benchmarks.forecast --write`, from the Model Zoo's published tables (v2.10 … v2.18); by
# hand nothing is changed here. What each fit is worth is of networks that were left out of it:
# {FOLDS}, the mean of {DIVISIONS} divisions for contexts, of {SPEED_DIVISIONS} for rates.
# Layers are those of our own counter where the network could be built from its published architecture, else those of
# the study that the tables come with.
"""
FIT = f"""\
# logit P(more than one context) = intercept + controllers·min(layers/limit, 2) + weights·min(parameters/limit, 2)
# Logistic regression on the labels, which behave like compiles in performance mode; those of the other chip count
# {OTHER_CHIP:g} each. `right_when_sure`: where the probability is outside 0.2–0.8, a share `sure` of them."""
PACE = """\
# The sketch of `allocate.py`: least error on the networks of one context that could be built. On Hailo-8L it has the
# same constants and is slower by one factor; as are compiles without performance mode (of v2.14)."""
FPS = """\
# ln FPS = intercept + gops·ln(GOP) + parameters·ln(millions) + pixels·ln(height·width) + layers·ln(layers); of several
# contexts the geometric mean of that and of 1 / (seconds_a_million·millions + …)."""


def written(found: Validation) -> str:
    """Return the table of coefficients."""
    return "\n".join([HEAD, *_fit(found), *_pace(found), *_fps(found)])


def _fit(found: Validation) -> Iterator[str]:
    yield FIT
    for chip, subset in zip(CHIPS, ("shipped", "hailo8l"), strict=True):
        yield from _table(f"fit.{chip}", context_rule(found.zoo, chip, found.zoo.rows, own=True))
        yield from _contexts(found.contexts[subset])
        yield ""


def _contexts(worth: Contexts) -> Iterator[str]:
    yield f"networks = {worth.networks}"
    for name in ("accuracy", "auc", "calibration_error", "sure", "right_when_sure"):
        yield f"{name} = {getattr(worth, name):.3f}"


def _pace(found: Validation) -> Iterator[str]:
    constants = pace_constants(found.zoo, found.zoo.rows)
    worth = {"hailo8": found.speed["hailo8", "sketch"], "hailo8l": found.transferred}
    yield PACE
    for chip in CHIPS:
        yield from _table(f"pace.{chip}", constants._asdict())
        yield f"slower = {1.0 if chip == 'hailo8' else worth[chip].middle:.3f}"
        yield from _speed(worth[chip])
        yield ""
    yield "[pace.default]"
    yield f"slower = {found.default_compiles.middle:.3f}"
    yield from _speed(found.default_compiles)
    yield ""


def _fps(found: Validation) -> Iterator[str]:
    gops = [row.gops for row in found.zoo.rows if row.gops >= 0.3]
    yield FPS
    yield "[fps]"
    yield f"least_gops = {min(gops):.4g}"
    yield f"most_gops = {max(gops):.4g}"
    yield ""
    for chip in CHIPS:
        for kind in ("single", "multi", "multi8"):
            yield from _table(f"fps.{chip}.{kind}", formula(found.zoo, chip, kind, found.zoo.rows, own=True))
            yield from _speed(found.speed[chip, kind])
            yield ""


def _speed(worth: Speed) -> Iterator[str]:
    yield f"networks = {worth.networks}"
    yield f"median_error = {worth.median_error:.3f}"
    yield f"factor = {worth.factor:.2f}"


def _table(name: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"[{name}]"
    yield from (f"{key} = {_digits(value)}" for key, value in values.items())


def _digits(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3e}"
