"""What a network takes of the chip, layer by layer, counted from the graph in its HAR.

The rule: it is counted as the chip places it. What the compiler fuses into the layer before, or only moves, takes no
place of its own; every other layer takes at least one layer controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hefjoin.formats.har_layers import HarLayer

PASSIVE = frozenset({"input_layer", "output_layer", "const_input", "format_conversion"})
"""Layer types that are no work for the chip."""


class Work(NamedTuple):
    """What one layer does per frame, and what it holds; bytes at 8 bits a value."""

    layer: str
    kind: str
    """The layer's type."""
    parameters: int
    macs: int
    """Multiply-accumulates."""
    row_bytes: int
    """The rows of its input that must have arrived before it gives its first."""
    input_bytes: int
    output_bytes: int


def count(layers: Iterable[HarLayer]) -> list[Work]:
    """Return the work of every layer that takes a place on the chip."""
    layers = list(layers)
    without = fused(layers)
    return [work(layer) for layer in layers if layer.type not in PASSIVE and layer.name not in without]


def work(layer: HarLayer) -> Work:
    """Return what one layer does; nothing of what its shapes do not tell."""
    inputs = [shape[1:] for shape in layer.input_shapes]
    return Work(
        layer=layer.name,
        kind=layer.type,
        parameters=layer.parameters,
        macs=multiply_accumulates(layer),
        row_bytes=_rows(layer) * sum(math.prod(shape[1:]) for shape in inputs if len(shape) == 3),
        input_bytes=sum(map(math.prod, inputs)),
        output_bytes=math.prod(layer.shape) if layer.shape else 0,
    )


def multiply_accumulates(layer: HarLayer) -> int:
    """Return a layer's multiply-accumulates per frame.

    A kernel of shape (height, width, inputs, outputs) is applied once per output pixel, a deconvolution's once per
    input pixel; a dense layer's (inputs, outputs) once.
    """
    if layer.parameters == 0:
        return 0
    shape = layer.input_shapes[0][1:] if layer.type == "deconv" else layer.shape
    return int(math.prod(layer.params["kernel_shape"]) * math.prod(shape[:-1]))


def _rows(layer: HarLayer) -> int:
    """Return how many rows of its input a layer holds: the height of its window, one where it has none."""
    kernel = layer.params.get("kernel_shape")
    if not isinstance(kernel, list) or len(kernel) != 4:
        return 1
    height = kernel[1] if layer.type in ("maxpool", "avgpool") else kernel[0]
    return height if isinstance(height, int) and height > 0 else 1


def fused(layers: Iterable[HarLayer]) -> frozenset[str]:
    """Return the layers that take no place on the chip: residual additions, and the slices of a space-to-depth."""
    by_name = {layer.name: layer for layer in layers}
    return _additions(by_name) | _slices(by_name)


def _additions(by_name: Mapping[str, HarLayer]) -> frozenset[str]:
    """Return the additions that a convolution does as it goes.

    The compiler fuses an `ew_add` into a convolution that feeds nothing else and has no activation (its command is
    `pre_quantization_optimization(ew_add_fusing, …)`). The exact conditions are not public; with these a ResNet-18
    comes to 23 layers, which is what the forecast was fitted on.
    """

    def is_host(layer: HarLayer) -> bool:
        is_linear = layer.params.get("activation", "linear") == "linear"
        return layer.type in ("conv", "dw") and is_linear and len(layer.outputs) == 1

    return frozenset(
        layer.name
        for layer in by_name.values()
        if layer.type == "ew_add"
        and len(set(layer.input_shapes)) == 1
        and any(is_host(by_name[name]) for name in layer.inputs if name in by_name)
    )


def _slices(by_name: Mapping[str, HarLayer]) -> frozenset[str]:
    """Return the slices of one image that only meet again in one concatenation: together they are that one layer.

    PyTorch exports the `Focus` of YOLOv5 and YOLOX so; the chip has one layer for it, `space_to_depth`.
    """
    found: set[str] = set()
    for layer in by_name.values():
        if layer.type != "concat":
            continue
        chains = [_chain(by_name, name) for name in layer.inputs]
        if len(chains) > 1 and all(chains) and len({by_name[chain[-1]].inputs for chain in chains}) == 1:
            found.update(name for chain in chains for name in chain)
    return frozenset(found)


def _chain(by_name: Mapping[str, HarLayer], name: str) -> list[str]:
    """Return the slices, the last first, that a tensor went through."""
    found: list[str] = []
    while name in by_name and by_name[name].type == "slice" and len(by_name[name].inputs) == 1:
        found.append(name)
        (name,) = by_name[name].inputs
    return found
