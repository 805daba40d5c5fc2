"""Fit on some of the Model Zoo's networks and foretell the others: contexts, and frames per second.

Counts are those of the tables; where a network is built, those of our own counter if asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hefjoin.forecast.allocate import Constants, pace
from hefjoin.forecast.chip import chip_facts
from hefjoin.forecast.fit import CLIP, probability
from hefjoin.forecast.fps import LOG_LINEAR, TIMES, Features, Kind, by_formula
from tests.benchmarks.fitting import Floats, folds, least_error, log_linear, logistic, time_sum
from tests.zoo.catalogue import NETWORKS
from tests.zoo.counted import Counted, counted
from tests.zoo.tables import CHIPS, Row, rows

OTHER_CHIP = 0.25
"""Weight of a network's label on the other chip: it brings networks near the limits, but is no second network.
Chosen among 0, ¼, ½ and 1 by the likelihood of what was left out."""
START = Constants(0.6, 0.15, 2e9, 1.5e9)
TIMES_START = (3e-4, 2e-5, 1e-4)
RULE = ("intercept", "controllers", "weights")


class Zoo(NamedTuple):
    """The networks of the tables, and those that are built, counted by us."""

    rows: list[Row]
    counted: dict[str, Counted]

    def folds(self, seed: int) -> list[int]:
        """Return the fold of each network."""
        return list(folds([row.group for row in self.rows], seed))

    def layers(self, row: Row, *, own: bool) -> float:
        """Return a network's layers on the chip."""
        return len(self.counted[row.model].works) if own and row.model in self.counted else row.layers

    def features(self, row: Row, *, own: bool) -> Features:
        """Return what the formula looks at."""
        return Features(row.gops, round(row.parameters), row.height * row.width, round(self.layers(row, own=own)))

    def utilisations(self, row: Row, chip: str, *, own: bool) -> tuple[float, float]:
        """Return layers over controllers and parameters over weight memory, in performance mode."""
        facts = chip_facts()["chips"][chip]
        return self.layers(row, own=own) / facts["layer_controllers"], row.parameters / facts["weight_parameters"]


def zoo(folder: Path) -> Zoo:
    """Read the tables, and build and count the networks in a folder."""
    return Zoo(rows(), {name: counted(name, folder) for name in NETWORKS})


def context_rule(zoo: Zoo, chip: str, chosen: Sequence[Row], *, own: bool) -> dict[str, float]:
    """Fit the rule of a chip."""
    found = [
        (*zoo.utilisations(row, each, own=own), float(label), 1.0 if each == chip else OTHER_CHIP)
        for each in CHIPS
        for row in chosen
        if (label := row.is_multi[each]) is not None
    ]
    controllers, weights, labels, shares = np.array(found).T
    features = np.minimum(np.column_stack([controllers, weights]), CLIP)
    return dict(zip(RULE, map(float, logistic(features, labels, shares)), strict=True))


def probabilities(zoo: Zoo, chip: str, seed: int, *, own: bool) -> Floats:
    """Return each network's probability of several contexts, by rules that were fitted without it."""
    place = zoo.folds(seed)
    found = np.zeros(len(zoo.rows))
    for fold in set(place):
        chosen = [row for row, other in zip(zoo.rows, place, strict=True) if other != fold]
        rule = context_rule(zoo, chip, chosen, own=own)
        for index, row in enumerate(zoo.rows):
            if place[index] == fold:
                found[index] = probability(chip, *zoo.utilisations(row, chip, own=own), rule)
    return found


def formula(zoo: Zoo, chip: str, kind: Kind, chosen: Sequence[Row], *, own: bool) -> dict[str, float]:
    """Fit the formula of one kind to those of the networks that are of it."""
    known = [row for row in of_kind(chosen, chip, kind) if row.fps[chip]]
    features = [zoo.features(row, own=own) for row in known]
    rates = np.array([rate(row, chip, kind) for row in known])
    found = dict(zip(LOG_LINEAR, log_linear(np.array([each.logarithms() for each in features]), rates), strict=True))
    if kind != "single":
        amounts = np.array([each.amounts() for each in features])
        found |= zip(TIMES, time_sum(amounts, rates, np.array(TIMES_START)), strict=True)
    return {name: float(value) for name, value in found.items()}


def of_kind(chosen: Sequence[Row], chip: str, kind: Kind) -> list[Row]:
    """Return the networks of one context, or of several."""
    return [row for row in chosen if row.is_multi[chip] is (kind != "single")]


def rate(row: Row, chip: str, kind: Kind) -> float:
    """Return the published frames per second that a kind of forecast is about."""
    one, eight = row.fps[chip] or (0.0, 0.0)
    return eight if kind == "multi8" else one


def sketched(zoo: Zoo, chip: str, names: Sequence[str], given: Constants) -> Floats:
    """Return the frames per second of built networks by the sketch of the chip."""
    found = (zoo.counted[name] for name in names)
    return np.array([pace(each.works, each.input_bytes, each.output_bytes, chip, given).fps for each in found])


def pace_constants(zoo: Zoo, chosen: Sequence[Row]) -> Constants:
    """Fit the constants of the sketch to those of the networks that are built and take one context."""
    known = [row for row in of_kind(chosen, "hailo8", "single") if row.model in zoo.counted]
    names = [row.model for row in known]

    def foretell(values: Floats) -> Floats:
        return sketched(zoo, "hailo8", names, Constants(*values))

    rates = np.array([rate(row, "hailo8", "single") for row in known])
    return Constants(*map(float, least_error(foretell, rates, np.array(START))))


def rates(zoo: Zoo, chip: str, seed: int) -> dict[str, Floats]:
    """Return the frames per second of each network, by what was fitted without it.

    `single`, `multi` and `multi8` are by formula, as if its contexts were known; `sketch` of those that are built, on
    Hailo-8; the others are not a number.
    """
    place = zoo.folds(seed)
    kinds: tuple[Kind, ...] = ("single", "multi", "multi8")
    found = {kind: np.full(len(zoo.rows), np.nan) for kind in (*kinds, "sketch")}
    for fold in set(place):
        chosen = [row for row, other in zip(zoo.rows, place, strict=True) if other != fold]
        left = [(index, row) for index, row in enumerate(zoo.rows) if place[index] == fold]
        for kind in kinds:
            rule = formula(zoo, chip, kind, chosen, own=True)
            for index, row in left:
                found[kind][index] = by_formula(chip, kind, zoo.features(row, own=True), rule)
        if chip == "hailo8":
            given = pace_constants(zoo, chosen)
            for index, row in left:
                if row.model in zoo.counted:
                    found["sketch"][index] = sketched(zoo, chip, [row.model], given)[0]
    return found
