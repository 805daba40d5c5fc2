"""What the forecast is worth on networks that it was not fitted on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tests.benchmarks.fitting import (
    Floats,
    accuracy,
    area_under_curve,
    calibration_error,
    factor_of_90,
    median_error,
)
from tests.benchmarks.foretold import of_kind, pace_constants, probabilities, rate, rates, sketched, zoo
from tests.zoo.tables import CHIPS, Row

DIVISIONS = 10
FOLDS = "10 folds, near-duplicates together"
CONTEXTS = (
    # subset, chip, counted by us
    ("objective", "hailo8", False),
    ("all", "hailo8", False),
    ("own", "hailo8", True),
    ("shipped", "hailo8", True),
    ("hailo8l", "hailo8l", True),
)
Way = Literal["sketch", "single", "multi", "multi8", "either"]


class Contexts(NamedTuple):
    """How well the number of contexts is foretold."""

    networks: int
    accuracy: float
    auc: float
    calibration_error: float
    sure: float
    """Share that is called `fits` or `does not fit`."""
    right_when_sure: float

    @property
    def how(self) -> str:
        """In words."""
        return f"{self.networks} networks, {FOLDS}, mean of {DIVISIONS} divisions"


class Speed(NamedTuple):
    """How well frames per second are foretold."""

    networks: int
    median_error: float
    factor: float
    """Within which nine of ten are."""
    middle: float
    """Median of foretold over published."""

    @property
    def how(self) -> str:
        """In words."""
        return f"{self.networks} networks, {FOLDS}, mean of {SPEED_DIVISIONS} divisions"


SPEED_DIVISIONS = 6


class Validation:
    """All figures, each worked out when it is asked for."""

    def __init__(self, scratch: Path) -> None:
        self.zoo = zoo(scratch)
        self.is_built = np.array([row.layers_from == "rebuilt" for row in self.zoo.rows])

    @property
    def built(self) -> int:
        """How many networks are built."""
        return int(self.is_built.sum())

    @property
    def notes(self) -> list[str]:
        """What a reader of the table should know of the networks."""
        odd = [
            f"{row.model} has {100 * (own / row.parameters - 1):+.1f} % of the published parameters"
            for row in self._built_rows()
            if abs((own := self.zoo.counted[row.model].parameters) / row.parameters - 1) > 0.02
        ]
        return odd or ["all networks have the published parameters within 2 %"]

    @cached_property
    def furthest_count(self) -> float:
        """The largest distance of our count from the given one, as a share of it."""
        found = [abs(len(self.zoo.counted[row.model].works) / row.layers - 1) for row in self._built_rows()]
        return max(found)

    @cached_property
    def contexts(self) -> dict[str, Contexts]:
        """By subset."""
        return {name: self._contexts(name, chip, own=own) for name, chip, own in CONTEXTS}

    @cached_property
    def speed(self) -> dict[tuple[str, Way], Speed]:
        """By chip and way."""
        found = [self._speed(seed) for seed in range(SPEED_DIVISIONS)]
        return {key: Speed(found[0][key].networks, *_means([each[key][1:] for each in found])) for key in found[0]}

    @cached_property
    def transferred(self) -> Speed:
        """The sketch on Hailo-8L, with the constants of Hailo-8: what its middle is off by is taken out."""
        known = [row for row in of_kind(self._built_rows(), "hailo8l", "single") if row.fps["hailo8l"]]
        return self._by_all_constants(known, "hailo8l", [rate(row, "hailo8l", "single") for row in known])

    @cached_property
    def default_compiles(self) -> Speed:
        """The sketch on networks that were compiled without performance mode."""
        known = [(row, row.default[1]) for row in self._built_rows() if row.default and not row.default[0]]
        return self._by_all_constants([row for row, _ in known], "hailo8", [published for _, published in known])

    def _by_all_constants(self, known: list[Row], chip: str, published: list[float]) -> Speed:
        constants = pace_constants(self.zoo, self.zoo.rows)
        foretold = sketched(self.zoo, chip, [row.model for row in known], constants)
        return _speed(foretold, np.array(published), centred=True)

    def _built_rows(self) -> list[Row]:
        return [row for row, built in zip(self.zoo.rows, self.is_built, strict=True) if built]

    def _contexts(self, subset: str, chip: str, *, own: bool) -> Contexts:
        labels = np.array([np.nan if (label := row.is_multi[chip]) is None else label for row in self.zoo.rows], float)
        chosen = ~np.isnan(labels)
        if subset == "objective":
            chosen &= np.array([row.layers_from != "curated" for row in self.zoo.rows])
        if subset == "own":
            chosen &= self.is_built
        found = []
        for seed in range(DIVISIONS):
            foretold = probabilities(self.zoo, chip, seed, own=own)[chosen]
            sure = (foretold < 0.2) | (foretold > 0.8)
            true = labels[chosen]
            figures = (accuracy, area_under_curve, calibration_error)
            found.append(
                [*(figure(true, foretold) for figure in figures), sure.mean(), accuracy(true[sure], foretold[sure])]
            )
        return Contexts(int(chosen.sum()), *_means(found))

    def _speed(self, seed: int) -> dict[tuple[str, Way], Speed]:
        found: dict[tuple[str, Way], Speed] = {}
        for chip in CHIPS:
            multi = np.array([row.is_multi[chip] is True for row in self.zoo.rows])
            known = np.array([row.is_multi[chip] is not None and row.fps[chip] is not None for row in self.zoo.rows])
            one, eight = (
                np.array([(row.fps[chip] or (np.nan, np.nan))[batch] for row in self.zoo.rows]) for batch in (0, 1)
            )
            foretold = rates(self.zoo, chip, seed)
            ways: dict[Way, tuple[Floats, Floats, Floats]] = {
                "single": (known & ~multi, foretold["single"], one),
                "multi": (known & multi, foretold["multi"], one),
                "multi8": (known & multi, foretold["multi8"], eight),
            }
            if chip == "hailo8":
                several = probabilities(self.zoo, chip, seed, own=True) > 0.5
                best = np.where(np.isnan(foretold["sketch"]), foretold["single"], foretold["sketch"])
                ways["sketch"] = (known & ~multi & self.is_built, foretold["sketch"], one)
                ways["either"] = (known, np.where(several, foretold["multi"], best), one)
            found |= {(chip, way): _speed(values[rows], true[rows]) for way, (rows, values, true) in ways.items()}
        return found


def _speed(foretold: Floats, published: Floats, *, centred: bool = False) -> Speed:
    middle = float(np.median(foretold / published))
    values = foretold / middle if centred else foretold
    return Speed(len(published), median_error(values, published), factor_of_90(values, published), middle)


def _means(figures: list[list[float]] | list[tuple[float, ...]]) -> list[float]:
    return [float(value) for value in np.mean(np.array(figures, float), axis=0)]
