"""Cross-layer equalization: move scale, channel by channel, from a tensor into the kernels behind it.

A tensor between layers with kernels has one scale for all its channels, so channels of small values keep few of the
levels. Where the activation before it is positively homogeneous (f(sx) = s·f(x): none, relu, leaky relu), channel c
may be divided by any s_c > 0: the kernel and bias before it are, and the kernels behind it are multiplied.

The rules:

1. s_c = p_c^α / w_c^(1-α), with p_c the largest absolute value of channel c and w_c that of the kernels behind, at
   their inputs from c. Of α = ¼, ½, ¾, 1 and of leaving all as it is, the one that predicts the least noise at the
   outputs of the layers behind is taken.
2. Where only depthwise layers read the tensor, dividing costs their kernels nothing, as each channel's has a scale of
   its own: every channel is brought to the same width, about the one zero point that wastes the fewest levels. Any
   activation may come before it; behind one that is not homogeneous the division is a step of its own, by which the
   layer brings each feature to its scale. Whether the DFC goes so far is not public.

Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.1; s_c as in Xiao et al. 2022 (arXiv 2211.10438), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hefjoin.emulator.graph import Array, Graph, attributes
from hefjoin.emulator.layers import EQUALIZATION, Layer, find_layers
from hefjoin.emulator.observe import Observation, Wish, Wishes
from hefjoin.formats.onnx_operators import VIEWS

Factors = dict[str, Array]
"""What each channel of a tensor is divided by: float32, shape (channels,)."""

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
LEAST_SHARE = 2.0**-10
"""Of the largest p_c or w_c: dead channels are treated as if they had this."""
MOST_BITS = 8
"""That a kernel counts with. A wider one would take all levelling, whose price, channels that have no room above what
calibration saw, is not in the sum; and a layer that is given 16 bits leaves the one before it as it is."""
LEVELS = 255
"""Steps of a tensor in 8 bits."""
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})


@dataclass(frozen=True)
class Seam:
    """A tensor whose channels may be scaled."""

    tensor: str
    before: onnx.NodeProto
    behind: Sequence[onnx.NodeProto]
    is_homogeneous: bool
    """Whether the activation lets the division through, to the kernel before it."""
    is_depthwise: bool
    """Whether only depthwise layers read the tensor."""


def seams(model: onnx.ModelProto) -> list[Seam]:
    """Return the tensors that may be equalized: each between one layer with a kernel and others that all have one."""
    graph = Graph(model)
    found = []
    for layer in find_layers(model):
        name = layer.outputs[0]
        behind = graph.consumers.get(name, [])
        reads_it_alone = name not in graph.outputs and all(node.input[0] == name for node in behind)
        is_plain = all(_is_plain(graph, node) for node in (layer.main, *behind))
        if not (behind and reads_it_alone and is_plain and len(layer.outputs) == 1) or _normalizes(graph, layer):
            continue
        inner = {node.op_type for node in layer.nodes[1:]}
        seam = Seam(
            tensor=name,
            before=layer.main,
            behind=behind,
            is_homogeneous=inner <= HOMOGENEOUS,
            is_depthwise=all(_is_depthwise(graph, node) for node in behind),
        )
        if seam.is_homogeneous or (seam.is_depthwise and not inner & VIEWS):
            found.append(seam)
    return found


def _is_depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    features, depth, *_ = graph.shapes[node.input[1]]
    return depth == 1 and features == attributes(node).get("group", 1)


def _normalizes(graph: Graph, layer: Layer) -> bool:
    """Return whether a layer is the normalization of an input, which stays as the script says."""
    inputs = {info.name for info in graph.model.graph.input}
    return layer.type == "dw" and layer.main.input[0] in inputs


def _is_plain(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node is a convolution whose constants nobody else reads."""
    return node.op_type == "Conv" and all(
        graph.is_constant(name) and len(graph.consumers[name]) == 1 for name in node.input[1:] if name
    )


def equalization_wishes(model: onnx.ModelProto) -> Wishes:
    """Return what choosing factors wants to know: how the channels of each seam differ."""
    return {seam.tensor: Wish(by_channel=True) for seam in seams(model)}


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
        if not np.any((seen[seam.tensor].low, seen[seam.tensor].high)):
            continue
        if seam.is_depthwise:
            found[seam.tensor] = _levelling(seen[seam.tensor])
            continue
        kernels = [_by_input(graph.constant(n.input[1]), attributes(n).get("group", 1)) for n in seam.behind]
        tops = [(1 << (min(bits[node.input[1]], MOST_BITS) - 1)) - 1 for node in seam.behind]
        best = _best(seen[seam.tensor], [kernel.astype(np.float64) for kernel in kernels], tops)
        if best is not None:
            found[seam.tensor] = best
    return found


def _levelling(seen: Observation) -> Array:
    """Return what brings all channels to one width, about the zero point that wastes the fewest levels."""
    low, high = (np.asarray(ends, np.float64) for ends in (np.minimum(seen.low, 0), np.maximum(seen.high, 0)))
    high = np.maximum(high, low + LEAST_SHARE * np.max(high - low))
    zero_point = np.arange(LEVELS + 1)[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = -low / zero_point, high / (LEVELS - zero_point)
    steps = np.maximum(np.where(low < 0, below, 0), np.where(high > 0, above, 0))
    wasted = np.sum(np.square(steps / (high - low)), axis=1)
    factor = steps[np.argmin(wasted)]
    peak = np.maximum(-low, high)
    levelling: Array = (factor * np.max(peak / factor) / peak.max()).astype(np.float32)
    return levelling


def _best(seen: Observation, kernels: Sequence[Array], tops: Sequence[int]) -> Array | None:
    assert seen.histogram is not None
    peak = np.maximum(np.abs(seen.low), np.abs(seen.high))
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
    step = np.max(peak / factor) / LEVELS
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
        if seam.is_homogeneous:
            _divide_constants(graph, seam.before, factor)
        else:
            _divide(graph, seam.tensor, factor)
        for node in seam.behind:
            value = graph.constant(node.input[1])
            parts = _by_input(value, groups := attributes(node).get("group", 1))
            _replace(graph, node.input[1], (parts * factor.reshape(groups, 1, -1, 1)).reshape(value.shape))


def _divide_constants(graph: Graph, node: onnx.NodeProto, factor: Array) -> None:
    """Divide the features of a kernel and its bias."""
    for name in filter(None, node.input[1:]):
        value = graph.constant(name)
        _replace(graph, name, value / factor.reshape(-1, *([1] * (value.ndim - 1))))


def _divide(graph: Graph, tensor: str, factor: Array) -> None:
    """Put a division behind what makes a tensor; `find_layers` takes it into that layer by its name."""
    nodes, maker = graph.model.graph.node, graph.producer[tensor]
    whole, by = f"{tensor}/whole", f"{tensor}/equalization_factors"
    maker.output[:] = [whole if name == tensor else name for name in maker.output]
    info = graph.model.graph.value_info.add()
    info.CopyFrom(next(item for item in graph.model.graph.value_info if item.name == tensor))
    info.name = whole
    graph.model.graph.initializer.append(numpy_helper.from_array(factor.reshape(-1, 1, 1), by))
    division = helper.make_node("Div", [whole, by], [tensor], f"{tensor}{EQUALIZATION}")
    nodes.insert(list(nodes).index(maker) + 1, division)


def _replace(graph: Graph, name: str, value: Array) -> None:
    graph.initializers[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
