"""What would make joined networks fit one context, or do without it: in order of what is lost.

The rule: each change is foretold as the networks themselves are, and one that no published figure speaks for says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.forecast.allocate import constants, need, pace
from hefjoin.forecast.chip import fitted
from hefjoin.forecast.demand import Demand, joined
from hefjoin.forecast.fit import Fit, forecast_fit
from hefjoin.forecast.fps import outside_fit
from hefjoin.forecast.limits import PERFORMANCE, Limits
from hefjoin.forecast.speed import FpsForecast, speed

PACKED = "a8_w4"
LARGE_BATCH = 8
STEPS = 20

Outcome = Literal["fits", "uncertain", "does not fit", "needs no fit"]


class Change(Record):
    """One change, and what is foretold of the networks with it."""

    source: Literal["forecast"] = "forecast"
    what: str
    how: str
    """What to write into the spec, or to do."""
    loses: str
    outcome: Outcome
    fit: Fit | None = None
    """None where the networks no longer go into one HEF."""
    fps: FpsForecast | None = None
    """At batch 1."""
    fps_batch8: FpsForecast | None = None

    @property
    def is_enough(self) -> bool:
        """Whether nothing else is needed."""
        return self.outcome in ("fits", "needs no fit")


def changes(demands: Mapping[str, Demand], hw_arch: str, limits: Limits, target_fps: float = 0.0) -> tuple[Change, ...]:
    """Return what could be changed, that which loses least first; nothing where the networks fit.

    Args:
        demands: By model.
        hw_arch: The chip.
        limits: How much of it the compile may take.
        target_fps: What the script asks for; 0 for as many as possible.
    """
    whole = joined(list(demands.values()))
    fit = forecast_fit(hw_arch, whole.layers, whole.parameters, limits)
    if fit.verdict == "fits":
        return ()
    found = [
        *_performance_mode(whole, fit, target_fps),
        *_modest_rate(whole, fit, target_fps),
        *_packed_weights(whole, fit, limits, target_fps),
        *_smaller_model(demands, fit, limits),
        _several_contexts(whole, fit, target_fps),
        *_separate(demands, fit, limits),
    ]
    return tuple(found)


def _performance_mode(whole: Demand, fit: Fit, target_fps: float) -> Iterator[Change]:
    found = forecast_fit(fit.hw_arch, whole.layers, whole.parameters, PERFORMANCE)
    if fit.mode == PERFORMANCE.mode or found.verdict == "does not fit":
        return
    yield _same_network(
        whole,
        found,
        target_fps,
        what="compile in performance mode",
        how="compile.performance_mode: true",
        loses="hours of compiling",
    )


def _modest_rate(whole: Demand, fit: Fit, target_fps: float) -> Iterator[Change]:
    """Yield the highest rate at which no layer is split over several controllers, which leaves most of them free."""
    if fit.controller_utilisation > 1 or fit.weight_utilisation > 1 or outside_fit(whole.gops):
        return

    def is_split(fps: float) -> bool:
        return need(whole.works, fps, constants(fit.hw_arch)).controllers > whole.layers

    low, high = 0.0, pace(whole.works, whole.input_bytes, whole.output_bytes, fit.hw_arch).fps
    if not is_split(high):
        return
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_split(middle) else (middle, high)
    rate = _round_down(low)
    if rate < 1 or (target_fps and target_fps <= rate):
        return
    yield _same_network(
        whole,
        fit,
        rate,
        what=f"aim for {rate} FPS, at which by this forecast no layer needs a second controller",
        how=f"compile.target_fps: {rate}",
        loses="speed above that; how much it helps is in no published figure",
    )


def _packed_weights(whole: Demand, fit: Fit, limits: Limits, target_fps: float) -> Iterator[Change]:
    """Yield the fewest of the largest layers that have to be in 4 bits, in performance mode if it takes both."""
    best = forecast_fit(fit.hw_arch, whole.layers, whole.parameters, PERFORMANCE)
    largest = sorted((work for work in whole.works if work.parameters), key=lambda work: -work.parameters)
    for allowed in (limits, PERFORMANCE) if best.verdict != "fits" else (limits,):
        for count in range(1, len(largest) + 1):
            names = [work.layer for work in largest[:count]]
            packed = whole.in_precision(PACKED, frozenset(names))
            found = forecast_fit(fit.hw_arch, packed.layers, packed.parameters, allowed)
            if found.verdict != "fits":
                continue
            share = sum(work.parameters for work in largest[:count]) / max(whole.parameters, 1)
            also = "" if allowed == limits else " and compile in performance mode"
            yield _same_network(
                packed,
                found,
                target_fps,
                what=f"4-bit weights for the {f'{count} largest layers' if count > 1 else 'largest layer'}{also}",
                how=f"script: quantization_param([{', '.join(names)}], precision_mode={PACKED})",
                loses=f"accuracy: {share:.0%} of the weights have 4 bits",
            )
            return


def _smaller_model(demands: Mapping[str, Demand], fit: Fit, limits: Limits) -> Iterator[Change]:
    """Yield how large a model may be in place of each, beside the others, its layers and weights in proportion."""
    for name, demand in sorted(demands.items(), key=lambda item: item[1].layers):
        layers, parameters = fit.layers - demand.layers, fit.parameters - demand.parameters

        def beside(share: float, layers: int = layers, parameters: int = parameters, part: Demand = demand) -> Fit:
            total = layers + int(part.layers * share), parameters + int(part.parameters * share)
            return forecast_fit(fit.hw_arch, *total, limits)

        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if beside(middle).verdict == "fits" else (low, middle)
        most = int(demand.layers * low), demand.parameters * low
        if most[0] < 1 or beside(low).verdict != "fits":
            continue
        yield Change(
            what=f"a smaller model in place of {name}: at most {most[0]} layers and {most[1] / 1e6:.1f} M parameters "
            f"(it has {demand.layers} and {demand.parameters / 1e6:.1f} M)",
            how=f"another source for {name}",
            loses=f"what {name} is better at than the other",
            outcome="fits",
            fit=beside(low),
        )


def _several_contexts(whole: Demand, fit: Fit, target_fps: float) -> Change:
    several = fit.model_copy(update={"probability_of_more_contexts": 1.0})
    found = speed(whole, several, target_fps)
    return Change(
        what="several contexts, loaded one after the other for each batch",
        how="compile.single_context: false",
        loses="speed",
        outcome="needs no fit",
        fit=several,
        fps=found.batch1,
        fps_batch8=found.batch8,
    )


def _separate(demands: Mapping[str, Demand], fit: Fit, limits: Limits) -> Iterator[Change]:
    """Yield a HEF for each model, where each fits alone, with the runtime's scheduler between them."""
    alone = {name: forecast_fit(fit.hw_arch, each.layers, each.parameters, limits) for name, each in demands.items()}
    if len(demands) < 2 or any(each.verdict == "does not fit" for each in alone.values()):
        return
    yield Change(
        what="a HEF for each model, switched by HailoRT's scheduler (a join with action NONE does the same)",
        how="a spec for each model",
        loses="speed, and each frame is sent once for each model; the figures were not validated",
        outcome="needs no fit",
        fps=_switched(demands, fit.hw_arch, 1),
        fps_batch8=_switched(demands, fit.hw_arch, LARGE_BATCH),
    )


def _switched(demands: Mapping[str, Demand], hw_arch: str, batch: int) -> FpsForecast | None:
    """Return the rate at which every model sees every frame: the work of each, and its loading once a batch."""
    if any(outside_fit(each.gops) for each in demands.values()):
        return None
    rule = fitted()["fps"][hw_arch]["multi" if batch == 1 else "multi8"]
    loading = fitted()["fps"][hw_arch]["multi"]
    seconds = 0.0
    for each in demands.values():
        work = 1 / pace(each.works, each.input_bytes, each.output_bytes, hw_arch).fps
        millions, layers, _ = each.features.amounts()
        seconds += work + (loading["seconds_a_million"] * millions + loading["seconds_a_layer"] * layers) / batch
    fps = 1 / seconds
    return FpsForecast(
        fps=fps, low_fps=fps / rule["factor"], high_fps=fps * rule["factor"], limited_by="the switching of networks"
    )


def _same_network(whole: Demand, fit: Fit, target_fps: float, *, what: str, how: str, loses: str) -> Change:
    found = speed(whole, fit, target_fps)
    return Change(
        what=what,
        how=how,
        loses=loses,
        outcome=fit.verdict,
        fit=fit,
        fps=found.batch1,
        fps_batch8=found.batch8,
    )


def _round_down(rate: float) -> int:
    """Return a rate with two digits.

    >>> _round_down(1234.5), _round_down(38.9), _round_down(0.4)
    (1200, 38, 0)
    """
    step = int(10 ** max(len(str(int(rate))) - 2, 0))
    return int(rate) // step * step
