"""Whether a network fits one context: the two-utilisation rule.

The rule this module keeps: a forecast says how sure it is, and on what. It is never shown as a compiler's answer.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.forecast.chip import chip_facts, fitted
from hefjoin.forecast.limits import PERFORMANCE, Limits

Verdict = Literal["fits", "uncertain", "does not fit"]
CLIP = 2.0
"""Twice the chip is as hopeless as ten times."""


class Fit(Record):
    """What a network takes of the chip, and whether that is one context's worth.

    The limits: layer controllers, and parameters at 8 bits.
    """

    source: Literal["forecast"] = "forecast"
    hw_arch: str
    layers: int
    parameters: int
    layer_limit: int
    parameter_limit: int
    probability_of_more_contexts: float
    """0–1."""
    mode: str = PERFORMANCE.mode
    """How much of the chip the compile may take, in a word; the limits are what that leaves."""

    @property
    def controller_utilisation(self) -> float:
        """Layers over layer controllers; above 1 is more than the compile may take."""
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
        """`uncertain` where the rule is often wrong."""
        rule = chip_facts()["verdict"]
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


def forecast_fit(hw_arch: str, layers: int, parameters: int, limits: Limits = PERFORMANCE) -> Fit:
    """Forecast whether a network fits one context of a chip.

    Args:
        hw_arch: `hailo8` or `hailo8l`.
        layers: Layers after fusion, of all joined networks together.
        parameters: Weights and biases, of all joined networks together.
        limits: How much of the chip the compile may take; the rule was fitted on compiles in performance mode.

    >>> round(forecast_fit("hailo8", 46, 23_369_424).probability_of_more_contexts, 2)
    0.08
    """
    layer_limit, parameter_limit = _limits(hw_arch, limits)
    return Fit(
        hw_arch=hw_arch,
        layers=layers,
        parameters=parameters,
        layer_limit=layer_limit,
        parameter_limit=parameter_limit,
        probability_of_more_contexts=probability(hw_arch, layers / layer_limit, parameters / parameter_limit),
        mode=limits.mode,
    )


def probability(hw_arch: str, controllers: float, weights: float, rule: Mapping[str, float] | None = None) -> float:
    """Return the probability that a network takes more than one context, 0–1.

    Args:
        hw_arch: The chip.
        controllers: Layers over the layer controllers that there are for them.
        weights: Parameters over those that there is memory for.
        rule: Intercept and slopes, where others than the fitted ones are tried.
    """
    rule = rule or fitted()["fit"][hw_arch]
    logit = rule["intercept"] + rule["controllers"] * min(controllers, CLIP) + rule["weights"] * min(weights, CLIP)
    found = 1 / (1 + math.exp(-logit))
    return max(found, chip_facts()["verdict"]["beyond_weights"]) if weights > 1 else found


def _limits(hw_arch: str, limits: Limits) -> tuple[int, int]:
    """Return how many layers and parameters a compile has room for, at least one of each.

    What a chip is known to hold of weights it holds at the default share of the memory already.
    """
    chip = chip_facts()["chips"][hw_arch]
    controllers = min(limits.control, 1.0) * chip["layer_controllers"]
    weights = min(limits.memory / chip_facts()["modes"]["default_share"], 1.0) * chip["weight_parameters"]
    return max(int(controllers), 1), max(int(weights), 1)


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
