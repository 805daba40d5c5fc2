"""The full-precision optimized form: the script's modifications in the graph, affine steps folded into kernels.

The rule: a layer's output keeps its tensor name, so ranges, noise and the HN speak of the same places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from hefjoin.emulator.graph import Array, Graph, attributes, remove_unused
from hefjoin.emulator.layers import is_affine
from hefjoin.emulator.modify import Modification, modify
from hefjoin.emulator.weights import Weights, fill


def fp_optimize(
    native: onnx.ModelProto, modifications: Sequence[Modification], weights: Weights | None = None
) -> onnx.ModelProto:
    """Return a new graph that computes, from raw frames, what `native` computes on frames so modified.

    Args:
        native: The graph as it was translated or joined.
        modifications: In the order of the script.
        weights: The constants that are not in it; here they come to be.

    Raises:
        exceptions.InvalidArgumentsException: With them the graph is too large.
        exceptions.AllocatorScriptParserException: A modification does not fit its input or output.
    """
    model = onnx.ModelProto()
    model.CopyFrom(native)
    fill(model, weights or {})
    modify(model, modifications)
    _fold_affine_steps(model)
    remove_unused(model)
    return model


def _fold_affine_steps(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    gone = []
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or not graph.is_constant(node.input[1]):
            continue
        given = attributes(node)
        if node.op_type == "Gemm" and (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0):
            continue
        folded = _following_steps(graph, node)
        if folded:
            _fold(model, graph, node, folded)
            gone += folded
    for node in gone:
        model.graph.node.remove(node)


def _following_steps(graph: Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    steps: list[onnx.NodeProto] = []
    output = node.output[0]
    while graph.readers(output) == 1 and output not in graph.outputs:
        reader = graph.consumers[output][0]
        if not is_affine(graph, reader) or (reader.op_type == "Sub" and reader.input[0] != output):
            break
        if len(graph.shapes.get(output, ())) == 3 and reader.op_type != "BatchNormalization":
            break  # features of a convolution over one axis are not last, as `is_affine` takes them to be
        steps.append(reader)
        output = reader.output[0]
    return steps


def _fold(model: onnx.ModelProto, graph: Graph, node: onnx.NodeProto, steps: list[onnx.NodeProto]) -> None:
    kernel = graph.constant(node.input[1]).astype(np.float64)
    features = _features(node, kernel)
    scale, shift = np.ones(features), np.zeros(features)
    if len(node.input) > 2 and node.input[2]:
        shift = graph.constant(node.input[2]).astype(np.float64).reshape(-1) + shift
    for step in steps:
        times, plus = _scale_and_shift(graph, step, features)
        scale, shift = scale * times, shift * times + plus
    weight, bias = f"{node.name}/folded_kernel", f"{node.name}/folded_bias"
    model.graph.initializer.append(
        numpy_helper.from_array((kernel * _along_features(node, kernel, scale)).astype(np.float32), weight)
    )
    model.graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), bias))
    node.input[:] = [node.input[0], weight, bias]
    node.output[0] = steps[-1].output[0]


def _features(node: onnx.NodeProto, kernel: Array) -> int:
    given = attributes(node)
    if node.op_type == "ConvTranspose":
        return int(kernel.shape[1] * given.get("group", 1))
    if node.op_type == "Gemm":
        return int(kernel.shape[0 if given.get("transB") else 1])
    return int(kernel.shape[0])


def _along_features(node: onnx.NodeProto, kernel: Array, scale: Array) -> Array:
    """Return `scale` (one per output feature) shaped to multiply the kernel."""
    if node.op_type == "ConvTranspose":  # (in, out / group, …), the groups one after the other along `in`
        group = int(attributes(node).get("group", 1))
        rows = np.repeat(scale.reshape(group, -1), kernel.shape[0] // group, axis=0)
        return rows.reshape(*kernel.shape[:2], *([1] * (kernel.ndim - 2)))
    if node.op_type == "Gemm":
        return scale[:, None] if attributes(node).get("transB") else scale[None, :]
    return scale.reshape(-1, *([1] * (kernel.ndim - 1)))


def _scale_and_shift(graph: Graph, step: onnx.NodeProto, features: int) -> tuple[Array, Array]:
    if step.op_type == "BatchNormalization":
        gamma, beta, mean, variance = (graph.constant(name).astype(np.float64) for name in step.input[1:5])
        epsilon = attributes(step).get("epsilon", 1e-5)
        times = gamma / np.sqrt(variance + epsilon)
        return times, beta - mean * times
    name = next(name for name in step.input if graph.is_constant(name))
    value = np.broadcast_to(graph.constant(name).astype(np.float64).reshape(-1), features)
    one, zero = np.ones(features), np.zeros(features)
    return {
        "Mul": (value, zero),
        "Div": (one / value, zero),
        "Add": (one, value),
        "Sub": (one, -value),
    }[step.op_type]
