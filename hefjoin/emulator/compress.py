"""Choose the layers whose kernels go to 4 bits, so that a share of all weights does and the network loses least.

The rule: a layer's damage is the noise that 4 bits add to its output over the output's energy, as the calibration set
shows both. Layers are taken in the order of damage for each weight saved, while they fit into the share; what a
model script gives a precision of its own is left as it is.

Source of the shares: `compression_level` n stands for 20 %·n of the weights, as users of the DFC report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from hefjoin.emulator.graph import Graph
from hefjoin.emulator.layers import find_layers
from hefjoin.emulator.observe import Observation, Wish, Wishes
from hefjoin.emulator.quantize import feature_axis, quantize_kernel, quantized_tensors
from hefjoin.formats.onnx_operators import WEIGHTED_OPS

BITS = 4


def compression_wishes(model: onnx.ModelProto) -> Wishes:
    """Return what choosing layers wants to know: the energy before and behind each kernel."""
    handed_on = set(quantized_tensors(model))
    layers = [layer for layer in find_layers(model) if layer.main.op_type in WEIGHTED_OPS]
    ends = [name for layer in layers for name in (layer.main.input[0], layer.outputs[0])]
    return {name: Wish() for name in ends if name in handed_on}


def four_bit_layers(
    model: onnx.ModelProto, seen: Mapping[str, Observation], share: float, fixed: Collection[str]
) -> list[str]:
    """Return the layers, by their output tensor, whose kernels go to 4 bits.

    Args:
        model: The full-precision optimized graph.
        seen: What its layers' inputs and outputs showed, with histograms.
        share: Of all weights, 0–1; it is not exceeded.
        fixed: Layers to leave.
    """
    graph = Graph(model)
    sizes: dict[str, int] = {}
    damages: dict[str, float] = {}
    for layer in find_layers(model):
        node = layer.main
        if node.op_type not in WEIGHTED_OPS:
            continue
        kernel, name = graph.constant(node.input[1]), layer.outputs[0]
        sizes[name] = kernel.size
        if name in fixed or node.input[0] not in seen:
            continue
        axis = feature_axis(node, kernel.shape)
        integers, scales = quantize_kernel(kernel, axis, BITS)
        steps = scales.reshape([-1 if index == axis else 1 for index in range(kernel.ndim)])
        lost = float(np.mean(np.sum(np.square(kernel - integers * steps), axis=_all_but(axis, kernel.ndim))))
        damages[name] = lost * _energy(seen[node.input[0]]) / max(_energy(seen[name]), np.finfo(float).tiny)
    left = share * sum(sizes.values())
    chosen = []
    for name in sorted(damages, key=lambda name: (damages[name] / sizes[name], name)):
        if sizes[name] <= left:
            chosen.append(name)
            left -= sizes[name]
    return chosen


def _all_but(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(index for index in range(rank) if index != axis)


def _energy(seen: Observation) -> float:
    assert seen.histogram is not None
    return float(np.mean(seen.histogram.mean_square()))
