"""How fast a network may be: by the sketch of the chip in one context (`allocate`), by formulas in several.

They look at work, weights, pixels and layers, fitted apart for networks of one context (where nothing is known of their
layers one by one) and of several, at batch 1 and 8. The rule: a forecast is a range, the one that
held for 90 % of the networks that it was not fitted on; it answers "about 200, not 50 or 1000" and is no promise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from hefjoin.forecast.chip import fitted

Kind = Literal["single", "multi", "multi8"]
"""One context, several, several at batch 8; one context is as fast at either batch."""


LOG_LINEAR = ("intercept", "gops", "parameters", "pixels", "layers")
TIMES = ("seconds_a_million", "seconds_a_layer", "seconds_a_gop")
"""The coefficients of either formula, in the order of what they multiply."""


class Features(NamedTuple):
    """What the formula looks at."""

    gops: float
    """10⁹ operations per frame, a multiply-accumulate counted as two."""
    parameters: int
    """Weights and biases."""
    pixels: int
    """Height × width of the input."""
    layers: int
    """Layers after fusion."""

    def logarithms(self) -> tuple[float, ...]:
        """Return (1, ln GOP, ln millions, ln pixels, ln layers)."""
        return (
            1.0,
            math.log(max(self.gops, 1e-3)),
            math.log(max(self.parameters, 1000) / 1e6),
            math.log(self.pixels),
            math.log(max(self.layers, 1)),
        )

    def amounts(self) -> tuple[float, ...]:
        """Return (millions of parameters, layers, GOP)."""
        return self.parameters / 1e6, float(self.layers), self.gops


def outside_fit(gops: float) -> str:
    """Return why there is no forecast of the speed of a network, or nothing where there is one."""
    facts = fitted()["fps"]
    if not facts["least_gops"] <= gops <= facts["most_gops"]:
        known = f"{facts['least_gops']:g}–{facts['most_gops']:g} GOP"
        return f"{gops:.2g} GOP per frame is outside the networks that the rule was fitted on ({known})"
    return ""


def by_formula(hw_arch: str, kind: Kind, features: Features, rule: Mapping[str, float] | None = None) -> float:
    """Return frames per second by the formulas.

    Of several contexts it is the geometric mean of the log-linear one and of a sum of times: to bring in the weights,
    to set up the layers, and to do the work.

    Args:
        hw_arch: The chip.
        kind: Which fit applies.
        features: Of the network.
        rule: Coefficients, where others than the fitted ones are tried.
    """
    rule = rule or fitted()["fps"][hw_arch][kind]
    factors = (rule[name] for name in LOG_LINEAR)
    found = math.exp(sum(map(lambda factor, value: factor * value, factors, features.logarithms())))
    if kind == "single":
        return found
    seconds = sum(map(lambda factor, value: factor * value, (rule[name] for name in TIMES), features.amounts()))
    return math.sqrt(found / seconds)
