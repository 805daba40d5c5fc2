"""How fast a network runs in one context: a sketch of how the compiler shares out the chip.

Every layer has a layer controller and works on the frames as they pass. A frame rate asks each layer with weights for
so many subclusters; a controller has eight, so a layer that needs more is split over several, which takes one more
controller to bring the parts together. The rate is the highest at which subclusters and controllers are enough, and no
layer's data or the host link is too slow.

The rule: four constants, fitted on published figures (`fitted.toml`), the same for every network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hefjoin.forecast.chip import chip_facts, fitted
from hefjoin.forecast.count import Work

SOFTNESS = 6
"""Bounds that lie near each other slow a network down together: their harmonic norm of this order is taken."""
STEPS = 20
SLOWEST, FASTEST = 0.01, 1e5
"""Frames per second."""


class Pace(NamedTuple):
    """A frame rate and what keeps it from being higher."""

    fps: float
    limited_by: str


class Need(NamedTuple):
    """What a frame rate takes of one context."""

    controllers: int
    subclusters: int


class Constants(NamedTuple):
    """Of the sketch."""

    conv_efficiency: float
    """Share of a subcluster's multiply-accumulates that a convolution uses."""
    depthwise_efficiency: float
    layer_bytes_per_second: float
    """What a layer can take in or give."""
    link_bytes_per_second: float
    """What the host link carries in one direction."""


def constants(hw_arch: str) -> Constants:
    """Return those that were fitted for a chip."""
    found = fitted()["pace"][hw_arch]
    return Constants(*(float(found[name]) for name in Constants._fields))


def need(works: Sequence[Work], fps: float, given: Constants) -> Need:
    """Return the layer controllers and subclusters that a frame rate takes."""
    return _need(_loads(works, given), fps)


def pace(
    works: Sequence[Work], input_bytes: int, output_bytes: int, hw_arch: str, given: Constants | None = None
) -> Pace:
    """Return how fast a network runs that is in one context.

    Args:
        works: Its layers. Where they are more than the controllers, the smallest are taken to share one.
        input_bytes: Bytes of one frame to the chip.
        output_bytes: Bytes of its results from the chip.
        hw_arch: The chip.
        given: The sketch's constants, where others than the fitted ones are tried.
    """
    given = given or constants(hw_arch)
    bounds = {
        "compute": _allocated(works, hw_arch, given),
        "the largest layer's data": given.layer_bytes_per_second / max((_stream(work) for work in works), default=1),
        "the host link": given.link_bytes_per_second / max(input_bytes, output_bytes, 1),
    }
    fps = sum(bound**-SOFTNESS for bound in bounds.values()) ** (-1 / SOFTNESS)
    return Pace(fps, min(bounds, key=lambda name: bounds[name]))


def scaled(works: Sequence[Work], factor: float) -> list[Work]:
    """Return the layers for an image of another size.

    Args:
        works: Of the image as it is.
        factor: Of height and width.
    """
    area = factor * factor
    return [
        work._replace(
            macs=round(work.macs * (area if work.kind != "dense" else 1)),
            row_bytes=round(work.row_bytes * factor),
            input_bytes=round(work.input_bytes * area),
            output_bytes=round(work.output_bytes * area),
        )
        for work in works
    ]


def _stream(work: Work) -> int:
    return max(work.input_bytes, work.output_bytes, 1)


def _loads(works: Sequence[Work], given: Constants) -> list[float]:
    """Return the subclusters that each layer takes for one frame per second."""
    facts = chip_facts()["subcluster"]
    whole = float(facts["clock_hz"] * facts["macs"])
    plain, depthwise = whole * given.conv_efficiency, whole * given.depthwise_efficiency
    return [work.macs / (depthwise if work.kind == "dw" else plain) for work in works]


def _need(loads: Sequence[float], fps: float) -> Need:
    of_a_controller = int(chip_facts()["subcluster"]["of_a_controller"])
    controllers = subclusters = 0
    for load in loads:
        count = max(math.ceil(load * fps), 1)
        parts = -(-count // of_a_controller)
        controllers += parts + (parts > 1)
        subclusters += count
    return Need(controllers, subclusters)


def _allocated(works: Sequence[Work], hw_arch: str, given: Constants) -> float:
    """Return the highest rate that the chip's controllers and subclusters are enough for."""
    chip = chip_facts()["chips"][hw_arch]
    controllers, subclusters = (max(int(chip[name]), len(works)) for name in ("layer_controllers", "subclusters"))
    loads = _loads(works, given)
    low, high = SLOWEST, FASTEST
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        found = _need(loads, middle)
        if found.controllers <= controllers and found.subclusters <= subclusters:
            low = middle
        else:
            high = middle
    return low
