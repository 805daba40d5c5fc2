"""How fast a single-context network may be: log-linear in work, weights, pixels and layers.

Fitted on the single-context networks of the Model Zoo; the range held for 90 % of them. It answers "about 200, not
50 or 1000" and is no promise.
"""

from __future__ import annotations

import math

from hefjoin.forecast.fit import chip_facts


def forecast_fps(gops: float, parameters: int, pixels: int, layers: int) -> tuple[float, float, float]:
    """Return (low, middle, high) frames per second at batch 1.

    Args:
        gops: 10⁹ operations per frame, a multiply-accumulate counted as two.
        parameters: Weights and biases.
        pixels: Height × width of the input.
        layers: Layers after fusion.

    >>> [round(fps) for fps in forecast_fps(7.28, 23_369_424, 224 * 224, 46)]
    [626, 1502, 3604]
    """
    rule = chip_facts()["fps"]
    middle = math.exp(
        rule["intercept"]
        + rule["gops"] * math.log(max(gops, 1e-3))
        + rule["parameters"] * math.log(max(parameters, 1000) / 1e6)
        + rule["pixels"] * math.log(pixels)
        + rule["layers"] * math.log(max(layers, 1))
    )
    return middle / rule["range"], middle, middle * rule["range"]
