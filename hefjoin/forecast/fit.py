"""Whether a network fits one context: the two-utilisation rule.

The rule this module keeps: a forecast says how sure it is, and on what. It is never shown as a compiler's answer.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Container, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from hefjoin.artifacts import Record

Verdict = Literal["fits", "uncertain", "does not fit"]


class Fit(Record):
    """What a network takes of the chip, and whether that is one context's worth."""

    source: Literal["forecast"] = "forecast"
    hw_arch: str
    layers: int
    parameters: int
    layer_limit: int
    parameter_limit: int
    probability_of_more_contexts: float
    """0–1."""

    @property
    def controller_utilisation(self) -> float:
        """Layers over layer controllers; above 1 is more than the chip has."""
        return self.layers / self.layer_limit

    @property
    def weight_utilisation(self) -> float:
        """Parameters over the weight memory, at 8 bit."""
        return self.parameters / self.parameter_limit

    @property
    def fits_one_context(self) -> bool:
        """The likelier of the two answers."""
        return self.probability_of_more_contexts < 0.5

    @property
    def verdict(self) -> Verdict:
        """`uncertain` where the rule is right in 70 % of the cases only."""
        rule = chip_facts()["fit"]
        if self.probability_of_more_contexts < rule["sure_below"]:
            return "fits"
        return "does not fit" if self.probability_of_more_contexts > rule["sure_above"] else "uncertain"

    @property
    def limiting_resource(self) -> str:
        """The resource that is used up first."""
        return "layer controllers" if self.controller_utilisation >= self.weight_utilisation else "weight memory"

    @property
    def contexts(self) -> int:
        """How many contexts the network is forecast to take."""
        if self.fits_one_context:
            return 1
        return max(2, math.ceil(max(self.controller_utilisation, self.weight_utilisation)))


def forecast_fit(hw_arch: str, layers: int, parameters: int) -> Fit:
    """Forecast whether a network fits one context of a chip.

    Args:
        hw_arch: `hailo8` or `hailo8l`.
        layers: Layers after fusion, of all joined networks together.
        parameters: Weights and biases, of all joined networks together.

    >>> round(forecast_fit("hailo8", 46, 23_369_424).probability_of_more_contexts, 3)
    0.055
    """
    chip, rule = chip_facts()["chips"][hw_arch], chip_facts()["fit"]
    logit = (
        rule["intercept"]
        + rule["controllers"] * min(layers / chip["layer_controllers"], rule["clip"])
        + rule["weights"] * min(parameters / chip["weight_parameters"], rule["clip"])
    )
    return Fit(
        hw_arch=hw_arch,
        layers=layers,
        parameters=parameters,
        layer_limit=int(chip["layer_controllers"]),
        parameter_limit=int(chip["weight_parameters"]),
        probability_of_more_contexts=1 / (1 + math.exp(-logit)),
    )


def counted_parameters(parameters: Mapping[str, int], raised: Container[str]) -> int:
    """Return how many parameters of 8 bits layers are counted as, those in 16 bits for twice as many.

    Args:
        parameters: By layer.
        raised: The layers in 16 bits.

    >>> counted_parameters({"conv1": 100, "fc1": 50}, {"fc1"})
    200
    """
    factor = float(chip_facts()["precision"]["raised"]["weights"])
    return round(sum(count * (factor if layer in raised else 1.0) for layer, count in parameters.items()))


@cache
def chip_facts() -> dict[str, Any]:
    """Return the table of chip facts, `hailo8.toml`."""
    return tomllib.loads(files("hefjoin.forecast").joinpath("hailo8.toml").read_text(encoding="utf-8"))
