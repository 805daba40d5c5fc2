"""Translate an ONNX file: cut it, fix its shapes, fold what is constant, name its tensors after its layers.

The rule: what a translated graph computes is bit for bit what the file computes. Nothing is fused here; the
layers only say what the chip would fuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference, version_converter
from onnx.utils import Extractor

from hefjoin.emulator import exceptions
from hefjoin.emulator.graph import Graph, name_nodes, remove_unused, rename_tensors
from hefjoin.emulator.layers import Layer, find_layers, unsupported
from hefjoin.formats import onnx_file

OPSET = 13
"""Least opset of a translated graph: QuantizeLinear has no channel axis before."""
BATCH = "batch"
FOLDED_BYTES = 1 << 20
"""Constants larger than this are not materialized by folding (a ConstantOfShape of a whole image)."""


@dataclass(frozen=True)
class Translated:
    """A network in one scope: the graph, its layers, and where its tensors came from."""

    model: onnx.ModelProto
    layers: list[Layer]
    original_names: dict[str, str]
    """Original name of each renamed input and output tensor."""


def translate(
    path: Path,
    scope: str,
    start_nodes: Sequence[str] = (),
    end_nodes: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Translated:
    """Translate an ONNX file into a graph whose tensors are named `<scope>/<layer>`.

    Args:
        path: The ONNX file.
        scope: Name of the network.
        start_nodes: ONNX nodes to start from; empty for the graph's inputs.
        end_nodes: ONNX nodes to end at; empty for the graph's outputs.
        input_shapes: Shape of each input as in the file, batch first, where the file leaves it open.

    Raises:
        hefjoin.errors.InputError: The file is not a whole ONNX model.
        exceptions.MisspellNodeError: A start or end node does not exist.
        exceptions.ParsingWithRecommendationException: Operators are unsupported.
        exceptions.UnsupportedModelError: Shapes are open or the graph has no image input.
    """
    model = onnx_file.load(path)
    _constants_to_initializers(model)
    _inputs_without_initializers(model)
    name_nodes(model.graph)
    model = _at_least_opset(model)
    if start_nodes or end_nodes:
        model = _cut(model, start_nodes, end_nodes)
    _fix_shapes(model, input_shapes or {})
    model = _fold(model)
    remove_unused(model)
    _refuse_unsupported(model, path.stem)
    _free_batch(model)
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return _named_after_layers(model, scope)


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = onnx.helper.get_attribute_value(node.attribute[0])
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)


def _inputs_without_initializers(model: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _at_least_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), OPSET)
    return version_converter.convert_version(model, OPSET) if version < OPSET else model


def _cut(model: onnx.ModelProto, start_nodes: Sequence[str], end_nodes: Sequence[str]) -> onnx.ModelProto:
    nodes = {node.name: node for node in model.graph.node}
    missing = [name for name in (*start_nodes, *end_nodes) if name not in nodes]
    if missing:
        raise exceptions.MisspellNodeError(f"Unable to find nodes in the model: {', '.join(missing)}")
    graph = Graph(model)
    starts = [next(name for name in nodes[start].input if not graph.is_constant(name)) for start in start_nodes]
    ends = [output for end in end_nodes for output in nodes[end].output]
    inputs = list(dict.fromkeys(starts)) or [info.name for info in model.graph.input]
    return Extractor(shape_inference.infer_shapes(model)).extract_model(inputs, ends or graph.outputs)


def _fix_shapes(model: onnx.ModelProto, given: Mapping[str, Sequence[int]]) -> None:
    names = [info.name for info in model.graph.input]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise exceptions.InvalidArgumentsException(
            f"net_input_shapes names {', '.join(unknown)}; the model's inputs are {', '.join(names)}"
        )
    for info in model.graph.input:
        shape = info.type.tensor_type.shape
        if wanted := given.get(info.name):
            if len(shape.dim) not in (0, len(wanted)):
                raise exceptions.InvalidArgumentsException(
                    f"net_input_shapes gives {info.name} {len(wanted)} dimensions, the file {len(shape.dim)}"
                )
            del shape.dim[:]
            for size in wanted:
                shape.dim.add().dim_value = size
        for index, dim in enumerate(shape.dim):
            if index == 0 and not dim.dim_value > 0:
                dim.dim_value = 1
            if not dim.dim_value > 0:
                raise exceptions.UnsupportedModelError(
                    f"input {info.name} leaves dimension {index} open; give its whole shape in net_input_shapes"
                )
    del model.graph.value_info[:]
    for output in model.graph.output:  # stale symbols would survive inference
        output.type.tensor_type.ClearField("shape")


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Evaluate what depends on constants and shapes alone, until nothing is left to evaluate."""
    while True:
        model = shape_inference.infer_shapes(model, data_prop=True)
        if not _fold_once(model):
            return model


def _fold_once(model: onnx.ModelProto) -> bool:
    from onnx.reference import ReferenceEvaluator

    graph = Graph(model)
    constants = dict.fromkeys(graph.initializers)
    values: dict[str, np.ndarray] = {}
    folded = []
    for node in graph.nodes:
        names = [name for name in node.input if name]
        shape = graph.shapes.get(node.input[0], (-1,)) if node.op_type == "Shape" else ()
        if node.op_type == "Shape" and min(shape, default=0) >= 0:
            results: list[Any] = [np.array(shape, dtype=np.int64)[_shape_slice(node)]]
        elif names and all(name in constants or name in values for name in names):
            if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
                continue
            feeds = {name: values[name] if name in values else graph.constant(name) for name in names}
            if sum(value.nbytes for value in feeds.values()) > FOLDED_BYTES and node.op_type != "Identity":
                continue
            single = onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node],
                    "constant",
                    [
                        onnx.helper.make_tensor_value_info(
                            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                        )
                        for name, value in feeds.items()
                    ],
                    [onnx.helper.make_empty_tensor_value_info(name) for name in node.output],
                ),
                opset_imports=model.opset_import,
                ir_version=model.ir_version,
            )
            results = list(ReferenceEvaluator(single).run(None, feeds))
        else:
            continue
        values.update(zip(node.output, map(np.asarray, results), strict=False))
        folded.append(node)
    for node in folded:
        model.graph.node.remove(node)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return bool(folded)


def _shape_slice(node: onnx.NodeProto) -> slice:
    found = {attribute.name: attribute.i for attribute in node.attribute}
    return slice(found.get("start"), found.get("end"))


def _refuse_unsupported(model: onnx.ModelProto, name: str) -> None:
    refused = unsupported(model)
    if not refused:
        return
    graph = Graph(model)
    by_name = {node.name: node for node in graph.nodes}
    tainted: set[str] = set()
    bad = {node for _, node in refused}
    ends: list[str] = []
    for node in graph.nodes:
        if node.name in bad or any(name in tainted for name in node.input):
            tainted.update(node.output)
            ends += [
                graph.producer[name].name
                for name in by_name[node.name].input
                if name in graph.producer and name not in tainted
            ]
    raise exceptions.ParsingWithRecommendationException(name, refused, list(dict.fromkeys(ends)))


def _free_batch(model: onnx.ModelProto) -> None:
    """Open the batch dimension, in place, where nothing in the graph holds it to one."""
    graph = Graph(model)
    reshapes = [node for node in graph.nodes if node.op_type == "Reshape"]
    targets = {
        node.input[1]: graph.constant(node.input[1]).copy() for node in reshapes if graph.is_constant(node.input[1])
    }
    if len(targets) < len({node.input[1] for node in reshapes}):
        return
    if any(value.size == 0 or value[0] not in (0, 1, -1) for value in targets.values()):
        return
    for tensor in model.graph.initializer:
        if (value := targets.get(tensor.name)) is not None and value[0] == 1:
            value[0] = -1 if -1 not in value else 0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for info in model.graph.input:
        info.type.tensor_type.shape.dim[0].dim_param = BATCH
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _named_after_layers(model: onnx.ModelProto, scope: str) -> Translated:
    layers = find_layers(model)
    names = {info.name: f"{scope}/input_layer{index}" for index, info in enumerate(model.graph.input, 1)}
    original = {new: old for old, new in names.items()}
    for layer in layers:
        layer_name = layer.name
        for index, output in enumerate(layer.outputs):
            names[output] = f"{scope}/{layer_name}" + (f":{index}" if index else "")
    original.update({names[info.name]: info.name for info in model.graph.output})

    def rename(old: str) -> str:
        return names.get(old, f"{scope}/onnx::{old}")

    rename_tensors(model.graph, rename)
    for layer in layers:
        layer.inputs = [rename(name) for name in layer.inputs]
        layer.outputs = [rename(name) for name in layer.outputs]
        layer.inner = [rename(name) for name in layer.inner]
    for node in model.graph.node:
        node.name = f"{scope}/{node.name}"
    model.graph.name = scope
    return Translated(model, layers, original)
