"""Frames per second and latency of a network, as ranges, with the error that each kind of forecast had in validation.

The rule: where it is uncertain whether a network takes one context, the range holds both answers.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from hefjoin.artifacts import Record
from hefjoin.forecast.allocate import pace
from hefjoin.forecast.chip import chip_facts, fitted
from hefjoin.forecast.demand import Demand
from hefjoin.forecast.fit import Fit
from hefjoin.forecast.fps import Kind, by_formula, outside_fit
from hefjoin.forecast.limits import PERFORMANCE


class FpsForecast(Record):
    """Frames per second, for as many contexts as are forecast."""

    source: Literal["forecast"] = "forecast"
    fps: float
    low_fps: float
    high_fps: float
    """The range that held for 90 % of the published networks; both answers' where the contexts are uncertain."""
    median_error: float = 0.0
    """Of the likelier answer's forecast on networks that it was not fitted on, 0–1; 0 where it was not validated."""
    networks: int = 0
    """How many those were."""
    limited_by: str = ""
    """What keeps it from being faster."""


class LatencyForecast(Record):
    """From a frame's first byte to its last result, in milliseconds."""

    source: Literal["forecast"] = "forecast"
    low_ms: float
    high_ms: float


class Speed(NamedTuple):
    """All that is foretold of a network's speed."""

    batch1: FpsForecast | None
    batch8: FpsForecast | None
    latency: LatencyForecast | None
    note: str
    """Why there is none, where there is none."""


class _Range(NamedTuple):
    fps: float
    factor: float
    median_error: float
    networks: int
    limited_by: str
    frames: tuple[float, float]
    """At least and at most, between a frame's first layer and its last."""

    @property
    def low_fps(self) -> float:
        return self.fps / self.factor

    @property
    def high_fps(self) -> float:
        return self.fps * self.factor


def speed(demand: Demand, fit: Fit, target_fps: float = 0.0) -> Speed:
    """Foretell a network's speed.

    Args:
        demand: The network.
        fit: Whether it takes one context, and on which chip.
        target_fps: What the script asks for; 0 for as many as possible.
    """
    if note := outside_fit(demand.gops):
        return Speed(None, None, None, note)
    one, eight = (_possible(demand, fit, kind) for kind in ("multi", "multi8"))
    return Speed(_forecast(one, target_fps), _forecast(eight, target_fps), _latency(one, target_fps), "")


def _possible(demand: Demand, fit: Fit, kind: Kind) -> list[_Range]:
    """Return what may be, the likelier first."""
    found = [_in_one(demand, fit), _in_several(demand, fit, kind)]
    likelier = found if fit.fits_one_context else found[::-1]
    return likelier if fit.verdict == "uncertain" else likelier[:1]


def _forecast(possible: list[_Range], target_fps: float) -> FpsForecast:
    most = target_fps or math.inf
    likelier = possible[0]
    return FpsForecast(
        fps=min(likelier.fps, most),
        low_fps=min(*(each.low_fps for each in possible), most),
        high_fps=min(max(each.high_fps for each in possible), most),
        median_error=likelier.median_error,
        networks=likelier.networks,
        limited_by="the target" if most < likelier.fps else likelier.limited_by,
    )


def _latency(possible: list[_Range], target_fps: float) -> LatencyForecast:
    """Return the latency that the rates stand for; a target lowers the rate, and may lengthen it."""
    most = target_fps or math.inf
    return LatencyForecast(
        low_ms=1000 * min(each.frames[0] / each.high_fps for each in possible),
        high_ms=1000 * max(each.frames[1] / min(each.low_fps, most) for each in possible),
    )


def _in_one(demand: Demand, fit: Fit) -> _Range:
    found = pace(demand.works, demand.input_bytes, demand.output_bytes, fit.hw_arch)
    chip, mode = fitted()["pace"][fit.hw_arch], _mode(fit)
    worth = mode if mode["slower"] > 1 else chip
    fps = found.fps / chip["slower"] / mode["slower"]
    return _Range(fps, worth["factor"], worth["median_error"], worth["networks"], found.limited_by, _frames("pipeline"))


def _in_several(demand: Demand, fit: Fit, kind: Kind) -> _Range:
    """Return the formula's forecast, slower by as much as one context is where the compile may not take all."""
    worth, mode = fitted()["fps"][fit.hw_arch][kind], _mode(fit)
    fps = by_formula(fit.hw_arch, kind, demand.features) / mode["slower"]
    limited_by = "the switching of contexts"
    return _Range(fps, worth["factor"], worth["median_error"], worth["networks"], limited_by, _frames("switched"))


def _mode(fit: Fit) -> dict[str, Any]:
    found: dict[str, Any] = fitted()["pace"]["default"]
    return {"slower": 1.0} if fit.mode == PERFORMANCE.mode else found


def _frames(name: str) -> tuple[float, float]:
    facts = chip_facts()[name]
    return facts["least_frames"], facts["most_frames"]
