"""Describe a HAR in the words of the manifest."""

from __future__ import annotations

from pathlib import Path

from hefjoin.artifacts import Ref
from hefjoin.forecast.count import PASSIVE, fused, work
from hefjoin.formats import har as har_file
from hefjoin.formats.har_layers import HarLayer
from hefjoin.results.networks import LayerView, Network, Tensor


def describe(path: Path, ref: Ref) -> Network:
    """Return what a HAR holds, read without the SDK.

    Raises:
        InputError: It is no HAR, or one whose inputs, outputs or layers with weights lack shapes.
    """
    found = har_file.read(path)
    without_place = fused(found.layers)
    return Network(
        har=ref,
        scopes=found.scopes,
        state=found.state,
        hw_arch=found.hw_arch,
        sdk_version=found.sdk_version,
        inputs=tuple(_tensor(layer, layer.name) for layer in found.inputs),
        outputs=tuple(_tensor(layer, layer.inputs[0]) for layer in found.outputs),
        layers=tuple(_view(layer, layer.name in without_place) for layer in found.layers if layer.type not in PASSIVE),
    )


def _view(layer: HarLayer, is_fused: bool) -> LayerView:
    counted = work(layer)
    return LayerView(
        name=layer.name,
        type=layer.type,
        inputs=layer.inputs,
        parameters=counted.parameters,
        macs=counted.macs,
        row_bytes=counted.row_bytes,
        input_bytes=counted.input_bytes,
        output_bytes=counted.output_bytes,
        is_fused=is_fused,
    )


def _tensor(layer: HarLayer, name: str) -> Tensor:
    return Tensor(
        layer=name,
        original_name=layer.original_names[0] if layer.original_names else "",
        shape=layer.shape,
    )
