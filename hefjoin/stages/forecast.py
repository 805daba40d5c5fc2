"""Forecast: whether the joined network fits one context, and how fast it may be, before hours of compiling."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hefjoin.forecast.fit import forecast_fit
from hefjoin.forecast.fps import forecast_fps, outside_fit
from hefjoin.results.checked import Forecast, FpsForecast
from hefjoin.results.networks import Network
from hefjoin.spec import HwArch
from hefjoin.stages.contract import Stage, Workplace


class ForecastStage(Stage[Forecast]):
    """Add up what the networks take.

    Requires: parsed networks. Ensures: a forecast that says how sure it is; it never stops a build.
    """

    stage: ClassVar[str] = "forecast"
    version: ClassVar[int] = 2
    result: ClassVar[type[Forecast]] = Forecast

    networks: dict[str, Network]
    hw_arch: HwArch

    def run(self, work: Path, place: Workplace) -> Forecast:
        """Apply the rules of `hefjoin.forecast`."""
        del work, place
        networks = self.networks.values()
        layers = sum(network.layers_on_chip for network in networks)
        parameters = sum(network.parameters for network in networks)
        height, width, channels = next(iter(networks)).inputs[0].shape
        joined = forecast_fit(self.hw_arch, layers, parameters)
        gops = 2e-9 * sum(network.macs for network in networks)
        note = outside_fit(self.hw_arch, gops)
        low, middle, high = forecast_fps(
            gops=gops,
            parameters=parameters,
            pixels=height * width,
            layers=layers,
            input_bytes=height * width * channels,
            fits_one_context=joined.fits_one_context,
        )
        return Forecast(
            models={
                name: forecast_fit(self.hw_arch, network.layers_on_chip, network.parameters)
                for name, network in self.networks.items()
            },
            joined=joined,
            fps=None if note else FpsForecast(fps=middle, low_fps=low, high_fps=high),
            fps_note=note,
        )

    def ensures(self, result: Forecast) -> None:
        """Check that the parts add up to the whole."""
        assert result.joined.layers == sum(fit.layers for fit in result.models.values())
