"""The full-precision optimized form: the script's normalization in the graph, affine steps folded into kernels.

The rule: a layer's output keeps its tensor name, so ranges, noise and the HN speak of the same places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.graph import Array, Graph, attributes, remove_unused
from hefjoin.emulator.hn import is_channels_last
from hefjoin.emulator.layers import is_affine
from hefjoin.emulator.plan import Normalization


def fp_optimize(native: onnx.ModelProto, normalizations: Sequence[Normalization]) -> onnx.ModelProto:
    """Return a new graph that computes what `native` computes on normalized frames, from raw frames.

    Raises:
        exceptions.AllocatorScriptParserException: A normalization does not fit its input layer.
    """
    model = onnx.ModelProto()
    model.CopyFrom(native)
    for step in normalizations:
        _insert_normalization(model, step)
    _fold_affine_steps(model)
    remove_unused(model)
    return model


def _insert_normalization(model: onnx.ModelProto, step: Normalization) -> None:
    """Put (x - mean) / std behind an input: a depthwise 1x1 convolution, turned around where channels are last."""
    graph = Graph(model)
    if step.input not in {info.name for info in model.graph.input}:
        raise exceptions.AllocatorScriptParserException(f"normalization: {step.input} is no input layer")
    shape = graph.shapes[step.input]
    if len(shape) != 4:
        raise exceptions.AllocatorScriptParserException(f"normalization: {step.input} has no channels, only features")
    last = is_channels_last(shape)
    channels = shape[3] if last else shape[1]
    if not len(step.mean) == len(step.std) == channels:
        raise exceptions.AllocatorScriptParserException(
            f"normalization: {len(step.mean)} means and {len(step.std)} standard deviations, "
            f"{step.input} has {channels} channels"
        )
    scale: Array = 1.0 / np.asarray(step.std, dtype=np.float64)
    shift: Array = -np.asarray(step.mean, dtype=np.float64) * scale
    names = [f"{step.target}/kernel", f"{step.target}/bias"]
    for name, value in zip(names, (scale.reshape(channels, 1, 1, 1), shift), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    for node in graph.consumers.get(step.input, ()):
        node.input[:] = [step.target if name == step.input else name for name in node.input]
    before, after = (f"{step.target}/nchw", f"{step.target}/turned") if last else (step.input, step.target)
    nodes = [helper.make_node("Conv", [before, *names], [after], step.target, group=channels)]
    if last:
        turn, back = ((step.input, before, (0, 3, 1, 2)), (after, step.target, (0, 2, 3, 1)))
        nodes.insert(0, _transpose(*turn))
        nodes.append(_transpose(*back))
    for position, node in enumerate(nodes):
        model.graph.node.insert(position, node)
    kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["batch" if d < 0 else d for d in shape])
    model.graph.value_info.append(helper.make_value_info(step.target, kind))


def _transpose(source: str, result: str, order: tuple[int, ...]) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [result], f"{result}/transpose", perm=list(order))


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
