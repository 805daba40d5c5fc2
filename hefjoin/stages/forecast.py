"""Forecast: whether the joined network fits one context, and how fast it may be, before hours of compiling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from hefjoin.forecast.allocate import constants, need
from hefjoin.forecast.changes import changes
from hefjoin.forecast.chip import chip_facts
from hefjoin.forecast.count import Work
from hefjoin.forecast.demand import Demand, joined
from hefjoin.forecast.fit import Fit, forecast_fit
from hefjoin.forecast.limits import PERFORMANCE, Limits, default_limits, limits_of, target_fps
from hefjoin.forecast.speed import FpsForecast, speed
from hefjoin.formats.model_script import merge, parse
from hefjoin.results.checked import Compared, Compute, Forecast, Outlook
from hefjoin.results.compiled import Compiled
from hefjoin.results.networks import Network
from hefjoin.spec import BuildSpec, HwArch
from hefjoin.stages.contract import Stage, Workplace
from hefjoin.stages.script import compilation, scripts

SHARED_PRECISION = "a8_w8"


class ForecastStage(Stage[Forecast]):
    """Add up what the networks take.

    Requires: parsed networks. Ensures: a forecast that says how sure it is; it never stops a build.
    """

    stage: ClassVar[str] = "forecast"
    version: ClassVar[int] = 3
    result: ClassVar[type[Forecast]] = Forecast

    networks: dict[str, Network]
    hw_arch: HwArch
    limits: Limits
    """What the compile may take of the chip."""
    target_fps: float = 0.0
    """What it aims for; 0: as many as possible."""
    precision: str = SHARED_PRECISION
    """Of all layers."""

    @classmethod
    def of(cls, spec: BuildSpec, networks: Mapping[str, Network]) -> Self:
        """Return the stage of a build; of its scripts only what is said of resources counts."""
        script = merge([compilation(spec), *(parse(text, where) for where, _, text in scripts(spec))])
        return cls(
            networks=dict(networks),
            hw_arch=spec.hw_arch,
            limits=limits_of(script),
            target_fps=target_fps(script),
            precision=spec.quantization.precision,
        )

    def run(self, work: Path, place: Workplace) -> Forecast:
        """Apply the rules of `hefjoin.forecast`."""
        del work, place
        demands = {name: demand(network, self.precision) for name, network in self.networks.items()}
        return foresee(demands, self.hw_arch, self.limits, self.target_fps)

    def ensures(self, result: Forecast) -> None:
        """Check that the parts add up to the whole."""
        assert result.joined.layers == sum(fit.layers for fit in result.models.values())


def foresee(demands: Mapping[str, Demand], hw_arch: str, limits: Limits, target_fps: float = 0.0) -> Forecast:
    """Forecast networks that are joined.

    Args:
        demands: By model.
        hw_arch: The chip.
        limits: What the compile may take of it.
        target_fps: What it aims for; 0: as many as possible.
    """
    whole = joined(list(demands.values()))

    def fit(each: Demand, allowed: Limits) -> Fit:
        return forecast_fit(hw_arch, each.layers, each.parameters, allowed)

    def outlook(allowed: Limits) -> Outlook:
        answer = fit(whole, allowed)
        foretold = speed(whole, answer, target_fps)
        return Outlook(fit=answer, fps=foretold.batch1, fps_batch8=foretold.batch8, latency=foretold.latency)

    together = fit(whole, limits)
    found = speed(whole, together, target_fps)
    return Forecast(
        models={name: fit(each, limits) for name, each in demands.items()},
        joined=together,
        default=outlook(default_limits()),
        performance=outlook(PERFORMANCE),
        fps=found.batch1,
        fps_note=found.note,
        fps_batch8=found.batch8,
        latency=found.latency,
        compute=_compute(demands, together, found.batch1),
        changes=changes(demands, hw_arch, limits, target_fps),
    )


def demand(network: Network, precision: str = SHARED_PRECISION) -> Demand:
    """Return what a network asks of the chip.

    Args:
        network: Its layers with the work of each.
        precision: Of all of them.
    """
    shape = network.inputs[0].shape
    works = tuple(
        Work(
            layer=layer.name,
            kind=layer.type,
            parameters=layer.parameters,
            macs=layer.macs,
            row_bytes=layer.row_bytes,
            input_bytes=layer.input_bytes,
            output_bytes=layer.output_bytes,
        )
        for layer in network.layers
        if not layer.is_fused
    )
    found = Demand(
        works=works,
        pixels=math.prod(shape[:-1]),
        input_bytes=math.prod(shape),
        output_bytes=sum(math.prod(output.shape) for output in network.outputs),
    )
    return found.in_precision(precision)


def _compute(demands: Mapping[str, Demand], fit: Fit, fps: FpsForecast | None) -> Compute | None:
    if fps is None or not fit.fits_one_context:
        return None
    given = constants(fit.hw_arch)
    return Compute(
        fps=fps.fps,
        subclusters={name: need(each.works, fps.fps, given).subclusters for name, each in demands.items()},
        subcluster_limit=int(chip_facts()["chips"][fit.hw_arch]["subclusters"]),
    )


def compared(forecast: Forecast, compiled: Compiled) -> tuple[Compared, ...]:
    """Return what was foretold beside what the vendor's compiler answered; nothing of the emulator, which foretells.

    Its shares are of the whole chip. The weights a chip is known to hold are the default share of its memory.
    """
    if compiled.contexts_source != "hef":
        return ()
    fit, chip = forecast.joined, chip_facts()["chips"][forecast.joined.hw_arch]
    found = [
        Compared(what="contexts", foretold=fit.contexts, answer=compiled.contexts, unit="contexts", source="hef"),
    ]
    if len(compiled.utilization) == 1:
        (use,) = compiled.utilization
        memory = chip["weight_parameters"] / chip_facts()["modes"]["default_share"]
        shares = [
            ("layer controllers", fit.layers / chip["layer_controllers"], use.total.control),
            ("weight memory", fit.parameters / memory, use.total.memory),
        ]
        if forecast.compute is not None:
            taken = sum(forecast.compute.subclusters.values()) / forecast.compute.subcluster_limit
            shares.append(("subclusters", taken, use.total.compute))
        found += [
            Compared(what=what, foretold=foretold, answer=answer, unit="share", source="compiler log")
            for what, foretold, answer in shares
        ]
    return tuple(found)
