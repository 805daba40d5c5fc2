"""How fast a network may be: log-linear in work, weights, pixels and layers, and never faster than the host link.

Fitted on the Model Zoo's networks, apart for those of one context and of several; the range held for 90 % of them.
It answers "about 200, not 50 or 1000" and is no promise.
"""

from __future__ import annotations

import math

from hefjoin.forecast.fit import chip_facts


def outside_fit(hw_arch: str, gops: float) -> str:
    """Return why there is no forecast for a network, or nothing where there is one."""
    facts = chip_facts()["fps"]
    if hw_arch != facts["hw_arch"]:
        return f"no rule is known for {hw_arch}"
    if not facts["least_gops"] <= gops <= facts["most_gops"]:
        known = f"{facts['least_gops']:g}–{facts['most_gops']:g} GOP"
        return f"{gops:.2g} GOP per frame is outside the networks that the rule was fitted on ({known})"
    return ""


def forecast_fps(
    gops: float, parameters: int, pixels: int, layers: int, *, input_bytes: int, fits_one_context: bool
) -> tuple[float, float, float]:
    """Return (low, middle, high) frames per second at batch 1.

    Args:
        gops: 10⁹ operations per frame, a multiply-accumulate counted as two.
        parameters: Weights and biases.
        pixels: Height × width of the input.
        layers: Layers after fusion.
        input_bytes: Bytes of one frame on the host link.
        fits_one_context: Which of the two fits applies.

    >>> [round(fps) for fps in forecast_fps(
    ...     7.28, 23_369_424, 224 * 224, 46, input_bytes=224 * 224 * 3, fits_one_context=True)]
    [626, 1502, 3604]
    """
    facts = chip_facts()["fps"]
    rule = facts["single" if fits_one_context else "multi"]
    middle = math.exp(
        rule["intercept"]
        + rule["gops"] * math.log(max(gops, 1e-3))
        + rule["parameters"] * math.log(max(parameters, 1000) / 1e6)
        + rule["pixels"] * math.log(pixels)
        + rule["layers"] * math.log(max(layers, 1))
    )
    link = facts["link_bytes_per_second"] / input_bytes
    return (
        min(middle / rule["range"], link),
        min(middle, link),
        min(middle * rule["range"], link),
    )
