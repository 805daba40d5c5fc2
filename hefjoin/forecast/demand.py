"""A network as the forecast sees it, alone or joined: the work of its layers, its image, and what goes to the host.

The rule: joined networks add up, but for the image, which all of them share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hefjoin.forecast.chip import chip_facts
from hefjoin.forecast.count import Work
from hefjoin.forecast.fps import Features


@dataclass(frozen=True)
class Demand:
    """What a network asks of the chip."""

    works: tuple[Work, ...]
    """Of the layers on the chip."""
    pixels: int
    """Height × width of the image."""
    input_bytes: int
    """Of one frame to the chip."""
    output_bytes: int
    """Of its results from the chip."""

    @property
    def layers(self) -> int:
        """Layers after fusion."""
        return len(self.works)

    @cached_property
    def parameters(self) -> int:
        """Weights and biases, as many as there would be of them at 8 bits."""
        return sum(work.parameters for work in self.works)

    @cached_property
    def gops(self) -> float:
        """10⁹ operations per frame, a multiply-accumulate counted as two."""
        return 2e-9 * sum(work.macs for work in self.works)

    @property
    def features(self) -> Features:
        """What the formulas look at."""
        return Features(self.gops, self.parameters, self.pixels, self.layers)

    def in_precision(self, mode: str, layers: Collection[str] | None = None) -> Demand:
        """Return the network with some layers, or all of them, in another precision than 8 bits.

        Args:
            mode: As a model script names it.
            layers: Their names; None for all.
        """
        facts = chip_facts()["precision"]["taken"].get(mode, {"weights": 1.0, "compute": 1.0, "data": 1.0})
        works = [
            work._replace(
                parameters=round(work.parameters * facts["weights"]),
                macs=round(work.macs * facts["compute"]),
                row_bytes=round(work.row_bytes * facts["data"]),
                input_bytes=round(work.input_bytes * facts["data"]),
                output_bytes=round(work.output_bytes * facts["data"]),
            )
            if layers is None or work.layer in layers
            else work
            for work in self.works
        ]
        return replace(self, works=tuple(works))


def joined(demands: Sequence[Demand]) -> Demand:
    """Return what networks ask of the chip together."""
    return Demand(
        works=tuple(work for demand in demands for work in demand.works),
        pixels=max(demand.pixels for demand in demands),
        input_bytes=max(demand.input_bytes for demand in demands),
        output_bytes=sum(demand.output_bytes for demand in demands),
    )
