"""Count the Model Zoo's networks as the product does: file, translation, HN, layers on the chip."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hefjoin.emulator import hn
from hefjoin.emulator.translate import translate
from hefjoin.forecast.count import Work, count
from hefjoin.formats.har_layers import HarLayer
from tests.zoo.catalogue import NETWORKS


class Counted(NamedTuple):
    """One network."""

    works: list[Work]
    """Of the layers on the chip."""
    input_bytes: int
    output_bytes: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(work.parameters for work in self.works)

    @property
    def gops(self) -> float:
        """10⁹ operations per frame, a multiply-accumulate counted as two."""
        return 2e-9 * sum(work.macs for work in self.works)


def counted(name: str, folder: Path) -> Counted:
    """Build a network in a folder and count it."""
    path = NETWORKS[name]().save(folder / f"{name}.onnx")
    entries = hn.build(translate(path, "net"), "net")["layers"]
    layers = [HarLayer.model_validate({**entry, "name": layer}) for layer, entry in entries.items()]
    works = count(layers)
    path.unlink()
    edges = {kind: [layer.shape for layer in layers if layer.type == kind] for kind in ("input_layer", "output_layer")}
    return Counted(works, *(sum(map(_size, edges[kind])) for kind in ("input_layer", "output_layer")))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size
