"""What a forecast says, resource by resource and in sentences: the same on the page and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hefjoin.forecast.changes import Change
from hefjoin.forecast.chip import fitted
from hefjoin.forecast.fit import Fit
from hefjoin.forecast.speed import FpsForecast, LatencyForecast
from hefjoin.report.words import THIN, percent, plural, rate_text, si, significant, sourced
from hefjoin.results.checked import Compared, Forecast

JOINED = "joined"
CONTROLLERS, WEIGHTS = "layer controllers", "weight memory"


class Use(NamedTuple):
    """What a model, or all of them, takes of one resource."""

    resource: str
    model: str
    """`joined` for all of them."""
    used: float
    limit: float
    text: str
    """Used of how many, and what is left."""

    @property
    def share(self) -> float:
        """Used over limit; above 1 is more than the compile may take."""
        return self.used / self.limit


def uses(forecast: Forecast) -> list[Use]:
    """Return what each model takes of each resource, and behind them what several take together."""
    fits = {**forecast.models, **({JOINED: forecast.joined} if len(forecast.models) > 1 else {})}
    found = [_use(CONTROLLERS, model, fit.layers, fit.layer_limit) for model, fit in fits.items()]
    found += [_use(WEIGHTS, model, fit.parameters, fit.parameter_limit) for model, fit in fits.items()]
    if forecast.compute is not None:
        resource = f"subclusters at {rate_text(forecast.compute.fps, 2)}"
        used = {**forecast.compute.subclusters, JOINED: sum(forecast.compute.subclusters.values())}
        found += [_use(resource, model, used[model], forecast.compute.subcluster_limit) for model in fits]
    return found


def _use(resource: str, model: str, used: int, limit: int) -> Use:
    left = limit - used
    rest = f"{si(left)} left" if left >= 0 else f"{si(-left)} too many"
    return Use(resource, model, used, limit, f"{si(used)} of {si(limit)}, {rest}")


def answers(forecast: Forecast) -> Iterator[tuple[str, str]]:
    """Yield whether the joined network fits, by the kind of compile: the spec's own, and the others with their rate."""
    yield f"as the spec compiles it ({forecast.joined.mode})", answer_text(forecast.joined)
    for outlook in (forecast.default, forecast.performance):
        if outlook is not None and outlook.fit.mode != forecast.joined.mode:
            kind = "in performance mode" if outlook is forecast.performance else "by default"
            rate = f"; then {_range_text(outlook.fps)} at batch 1" if outlook.fps is not None else ""
            yield kind, answer_text(outlook.fit, rate)


def answer_text(fit: Fit, rate: str = "") -> str:
    """Return the answer with its probability, the resource that is used up first, and the rate if there is one."""
    answer = f"{fit.verdict}, about {plural(fit.contexts, 'context')}" if fit.verdict == "does not fit" else fit.verdict
    probability = f"P(more than one context) = {fit.probability_of_more_contexts:.2f}"
    return sourced(f"{answer}; {probability}; used up first: {fit.limiting_resource}{rate}", fit.source)


def trust_text(hw_arch: str) -> str:
    """Return how often the answer was right on networks that the rule was not fitted on."""
    worth = fitted()["fit"][hw_arch]
    return (
        f"right for {percent(worth['accuracy'])} of {worth['networks']} published networks that were left out of the "
        f"fit; where it is sure ({percent(worth['sure'])} of them), for {percent(worth['right_when_sure'])}"
    )


def rates(forecast: Forecast) -> Iterator[tuple[str, FpsForecast]]:
    """Yield the rates by batch; one context runs as fast at either."""
    if forecast.fps is not None and forecast.fps == forecast.fps_batch8:
        yield "Batch 1 and 8", forecast.fps
        return
    for label, fps in (("Batch 1", forecast.fps), ("Batch 8", forecast.fps_batch8)):
        if fps is not None:
            yield label, fps


def rate_forecast_text(fps: FpsForecast) -> str:
    """Return a rate with its range, what limits it, and the error that it had in validation."""
    worth = (
        f"median error {percent(fps.median_error)} on {fps.networks} networks left out"
        if fps.networks
        else "not validated"
    )
    limit = f"; limited by {fps.limited_by}" if fps.limited_by else ""
    return sourced(f"{_range_text(fps)}{limit}; {worth}", fps.source)


def _range_text(fps: FpsForecast) -> str:
    return f"{rate_text(fps.fps, 2)}, likely {significant(fps.low_fps, 2)} to {rate_text(fps.high_fps, 2)}"


def latency_text(latency: LatencyForecast) -> str:
    """Return the range of a latency and what it rests on."""
    ends = " to ".join(significant(value, 2) for value in (latency.low_ms, latency.high_ms))
    basis = "from the rate and the compiler's own estimates in published HEFs; not validated"
    return sourced(f"{ends}{THIN}ms; {basis}", latency.source)


def compared_text(found: Compared, *, is_answer: bool) -> str:
    """Return what was foretold of a figure that the compiler has told by now, or what it told."""
    value = found.answer if is_answer else found.foretold
    text = percent(value) if found.unit == "share" else significant(value, 2)
    return sourced(text, found.source if is_answer else "forecast")


def change_text(change: Change) -> str:
    """Return what is foretold of a change: whether it is enough, and how fast the networks are then."""
    found: str = change.outcome
    if change.fit is not None and change.outcome != "needs no fit":
        found += f", P = {change.fit.probability_of_more_contexts:.2f}"
    rates = [
        f"{rate_text(fps.fps, 2)} at batch {batch}"
        for batch, fps in ((1, change.fps), (8, change.fps_batch8))
        if fps is not None
    ]
    if len({text.partition(" at ")[0] for text in rates}) == 1:
        rates = rates[:1]
    return sourced("; ".join([found, *rates]), change.source)
