"""Describe a HAR in the words of the manifest."""

from __future__ import annotations

import math
from pathlib import Path

from hefjoin.artifacts import Ref
from hefjoin.formats import har as har_file
from hefjoin.formats.har_layers import HarLayer, fused_additions
from hefjoin.results.networks import LayerView, Network, Tensor

PASSIVE = ("input_layer", "output_layer", "const_input", "format_conversion")


def describe(path: Path, ref: Ref) -> Network:
    """Return what a HAR holds, read without the SDK.

    Raises:
        InputError: It is no HAR, or one whose inputs, outputs or layers with weights lack shapes.
    """
    found = har_file.read(path)
    fused = fused_additions(found.layers)
    return Network(
        har=ref,
        scopes=found.scopes,
        state=found.state,
        hw_arch=found.hw_arch,
        sdk_version=found.sdk_version,
        inputs=tuple(_tensor(layer, layer.name) for layer in found.inputs),
        outputs=tuple(_tensor(layer, layer.inputs[0]) for layer in found.outputs),
        layers=tuple(
            LayerView(
                name=layer.name,
                type=layer.type,
                inputs=layer.inputs,
                parameters=layer.parameters,
                macs=multiply_accumulates(layer),
                is_fused=layer.name in fused,
            )
            for layer in found.layers
            if layer.type not in PASSIVE
        ),
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


def _tensor(layer: HarLayer, name: str) -> Tensor:
    return Tensor(
        layer=name,
        original_name=layer.original_names[0] if layer.original_names else "",
        shape=layer.shape,
    )
