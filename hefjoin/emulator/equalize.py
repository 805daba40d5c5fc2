"""Cross-layer equalization: move scale, channel by channel, from a tensor into the kernels behind it.

A tensor between layers with kernels has one scale for all its channels, so channels of small values keep few of the
levels. Where the activation before it is positively homogeneous (f(sx) = s·f(x): none, relu, leaky relu), channel c
may be divided by any s_c > 0: the kernel and bias before it are, and the kernels behind it are multiplied.

The rule: s_c = p_c^α / w_c^(1-α), with p_c the largest absolute value of channel c and w_c that of the kernels behind,
at their inputs from c. Of α = ¼, ½, ¾, 1 and of leaving all as it is, the one that predicts the least noise at the
outputs of the layers behind is taken; a depthwise layer has a scale for every channel, so α = 1 costs nothing there.

Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.1; s_c as in Xiao et al. 2022 (arXiv 2211.10438), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from hefjoin.emulator.graph import Array, Graph, attributes
from hefjoin.emulator.layers import Layer, find_layers
from hefjoin.emulator.observe import Observation

Factors = dict[str, Array]
"""What each channel of a tensor is divided by: float32, shape (channels,)."""

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
LEAST_SHARE = 2.0**-10
"""Of the largest p_c or w_c: dead channels are treated as if they had this."""
MOST_BITS = 8
"""That a kernel counts with. A wider one would take all levelling, whose price, channels that have no room above what
calibration saw, is not in the sum; and a layer that is given 16 bits leaves the one before it as it is."""
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})


@dataclass(frozen=True)
class Seam:
    """A tensor whose channels may be scaled."""

    tensor: str
    before: onnx.NodeProto
    behind: Sequence[onnx.NodeProto]


def seams(model: onnx.ModelProto) -> list[Seam]:
    """Return the tensors that may be equalized: each between one layer with a kernel and others that all have one."""
    graph = Graph(model)
    found = []
    for layer in find_layers(model):
        name = layer.outputs[0]
        behind = graph.consumers.get(name, [])
        reads_it_alone = name not in graph.outputs and all(node.input[0] == name for node in behind)
        is_plain = all(_is_plain(graph, node) for node in (layer.main, *behind))
        if behind and reads_it_alone and is_plain and _ends_homogeneous(layer) and not _normalizes(graph, layer):
            found.append(Seam(name, layer.main, behind))
    return found


def _ends_homogeneous(layer: Layer) -> bool:
    return len(layer.outputs) == 1 and all(node.op_type in HOMOGENEOUS for node in layer.nodes[1:])


def _normalizes(graph: Graph, layer: Layer) -> bool:
    """Return whether a layer is the normalization of an input, which stays as the script says."""
    inputs = {info.name for info in graph.model.graph.input}
    return layer.type == "dw" and layer.main.input[0] in inputs


def _is_plain(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node is a convolution whose constants nobody else reads."""
    return node.op_type == "Conv" and all(
        graph.is_constant(name) and len(graph.consumers[name]) == 1 for name in node.input[1:] if name
    )


def factors(model: onnx.ModelProto, seen: Mapping[str, Observation], bits: Mapping[str, int]) -> Factors:
    """Return the factors of each seam; those that would be better left alone are not in it.

    Args:
        model: A float graph.
        seen: What each seam's tensor showed, channels apart.
        bits: Of each kernel, by its name.
    """
    graph = Graph(model)
    found: Factors = {}
    for seam in seams(model):
        kernels = [_by_input(graph.constant(n.input[1]), attributes(n).get("group", 1)) for n in seam.behind]
        tops = [(1 << (min(bits[node.input[1]], MOST_BITS) - 1)) - 1 for node in seam.behind]
        best = _best(seen[seam.tensor], [kernel.astype(np.float64) for kernel in kernels], tops)
        if best is not None:
            found[seam.tensor] = best
    return found


def _best(seen: Observation, kernels: Sequence[Array], tops: Sequence[int]) -> Array | None:
    assert seen.histogram is not None
    peak = np.maximum(np.abs(seen.low), np.abs(seen.high))
    if not peak.any():
        return None
    energy = seen.histogram.mean_square()
    weight = np.max([np.max(np.abs(kernel), axis=(1, 3)).reshape(-1) for kernel in kernels], axis=0)
    floored = [np.maximum(values, LEAST_SHARE * values.max(initial=1e-30)) for values in (peak, weight)]
    best, least = None, _noise(np.ones_like(peak), peak, energy, kernels, tops)
    for exponent in EXPONENTS:
        factor = floored[0] ** exponent / floored[1] ** (1 - exponent)
        factor *= np.max(peak / factor) / peak.max()
        noise = _noise(factor, peak, energy, kernels, tops)
        if noise < least:
            best, least = factor.astype(np.float32), noise
    return best


def _noise(factor: Array, peak: Array, energy: Array, kernels: Sequence[Array], tops: Sequence[int]) -> float:
    """Return the energy that rounding the tensor, to 8 bits, and the kernels behind it adds to their outputs."""
    step = np.max(peak / factor) / 255
    total = 0.0
    for kernel, top in zip(kernels, tops, strict=True):
        groups, _, inputs, size = kernel.shape
        scaled = kernel * factor.reshape(groups, 1, inputs, 1)
        kernel_steps = np.max(np.abs(scaled), axis=(2, 3)) / top
        behind = np.sum((energy / factor**2).reshape(groups, 1, inputs), axis=2) * size
        total += float(step**2 * np.sum(scaled**2) + np.sum(kernel_steps**2 * behind)) / 12
    return total


def _by_input(kernel: Array, groups: int) -> Array:
    """Return a convolution's kernel as (groups, features, inputs, places)."""
    return kernel.reshape(groups, kernel.shape[0] // groups, kernel.shape[1], -1)


def equalize(model: onnx.ModelProto, by: Mapping[str, Array]) -> None:
    """Divide the channels of tensors, in place, and multiply the kernels behind them: the outputs stay what they are.

    Args:
        model: A float graph.
        by: Factors of some of its seams.
    """
    graph = Graph(model)
    for seam in seams(model):
        if (factor := by.get(seam.tensor)) is None:
            continue
        for name in filter(None, seam.before.input[1:]):
            value = graph.constant(name)
            _replace(graph, name, value / factor.reshape(-1, *([1] * (value.ndim - 1))))
        for node in seam.behind:
            value = graph.constant(node.input[1])
            parts = _by_input(value, groups := attributes(node).get("group", 1))
            _replace(graph, node.input[1], (parts * factor.reshape(groups, 1, -1, 1)).reshape(value.shape))


def _replace(graph: Graph, name: str, value: Array) -> None:
    graph.initializers[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
