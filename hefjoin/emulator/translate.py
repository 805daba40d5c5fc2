"""Translate an ONNX file: cut it, fix its shapes, fold what is constant, name its tensors after its layers.

The rule: what a translated graph computes is bit for bit what the file computes. Nothing is fused here; the
layers only say what the chip would fuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference, version_converter
from onnx.utils import Extractor

from hefjoin.emulator import exceptions
from hefjoin.emulator.graph import (
    Graph,
    attributes,
    channels_first,
    constants_to_initializers,
    name_nodes,
    remove_unused,
    rename_tensors,
)
from hefjoin.emulator.layer_names import give_names
from hefjoin.emulator.layers import Layer, find_layers, unsupported
from hefjoin.formats import onnx_file
from hefjoin.sessions import open_session

OPSET = 13
"""Least opset of a translated graph: QuantizeLinear has no channel axis before."""
BATCH = "batch"
FOLDED_BYTES = 1 << 20
"""Folding makes no constant larger than this and than what it is made of (a ConstantOfShape of a whole image)."""


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
        exceptions.UnsupportedModelError: An input is open, no float32 or no image; an output is constant or has axes
            that the chip does not; start nodes leave a part of the graph without its input.
    """
    model = onnx_file.load(path)
    _inputs_without_initializers(model)
    model = _at_least_opset(model)
    constants_to_initializers(model)
    name_nodes(model.graph)
    if start_nodes or end_nodes:
        model = _cut(model, start_nodes, end_nodes)
    _fix_shapes(model, input_shapes or {})
    channels_first(model)
    model = _fold(model)
    remove_unused(model)
    _refuse_unsupported(model, path.stem)
    _refuse_odd_outputs(model)
    _free_batch(model)
    try:
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise exceptions.UnsupportedModelError(f"the shapes in {path.name} contradict each other: {error}") from error
    return _named_after_layers(model, scope)


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
    model = shape_inference.infer_shapes(model)
    graph = Graph(model)
    starts = [name for start in start_nodes for name in nodes[start].input if name and not graph.is_constant(name)]
    ends = [output for end in end_nodes for output in nodes[end].output if output] or graph.outputs
    inputs, needed = _behind(graph, ends, set(starts))
    if beside := [name for name in inputs if starts and name not in starts]:
        raise exceptions.UnsupportedModelError(
            f"what ends at {', '.join(end_nodes) or 'the outputs'} also depends on {', '.join(beside)}, which the "
            f"start nodes {', '.join(start_nodes)} do not replace; add the nodes that read it, or choose other nodes"
        )
    if idle := [start for start in start_nodes if start not in needed]:
        raise exceptions.UnsupportedModelError(f"no end node depends on the start nodes {', '.join(idle)}")
    return Extractor(model).extract_model(inputs, ends)


def _behind(graph: Graph, ends: Sequence[str], starts: set[str]) -> tuple[list[str], set[str]]:
    """Return the tensors that `ends` need from outside when the walk back stops at `starts`, and the nodes between."""
    open_ends, seen = list(ends), set(ends)
    found: set[str] = set()
    nodes: set[str] = set()
    while open_ends:
        name = open_ends.pop()
        if name in starts or name not in graph.producer:
            found.add(name)
            continue
        node = graph.producer[name]
        nodes.add(node.name)
        new = {item for item in node.input if item and not graph.is_constant(item)} - seen
        seen |= new
        open_ends += new
    inputs = [info.name for info in graph.model.graph.input]
    return sorted(found, key=lambda name: (inputs.index(name) if name in inputs else -1, name)), nodes


def _fix_shapes(model: onnx.ModelProto, given: Mapping[str, Sequence[int]]) -> None:
    names = [info.name for info in model.graph.input]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise exceptions.InvalidArgumentsException(
            f"net_input_shapes names {', '.join(unknown)}; the model's inputs are {', '.join(names)}"
        )
    problems = [problem for info in model.graph.input for problem in _fix_input(info, given.get(info.name, ()))]
    if problems or not names:
        raise exceptions.UnsupportedModelError("\n".join(problems) or "the model has no input")
    del model.graph.value_info[:]
    for output in model.graph.output:  # stale symbols would survive inference
        output.type.tensor_type.ClearField("shape")


def _fix_input(info: onnx.ValueInfoProto, wanted: Sequence[int]) -> Iterator[str]:
    """Give an input its whole shape, in place, and yield what keeps it from being an image (or a row of features)."""
    kind = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
    if kind != "FLOAT":
        yield f"input {info.name} is {kind}; export the model with a FLOAT input"
    shape = info.type.tensor_type.shape
    if wanted:
        if len(shape.dim) not in (0, len(wanted)):
            raise exceptions.InvalidArgumentsException(
                f"net_input_shapes gives {info.name} {len(wanted)} dimensions, the file {len(shape.dim)}"
            )
        del shape.dim[:]
        for size in wanted:
            shape.dim.add().dim_value = size
    if len(shape.dim) not in (2, 4):
        yield f"input {info.name} has {len(shape.dim)} dimensions, 4 (an image) or 2 (features) are supported"
    if len(shape.dim) and not shape.dim[0].dim_value > 0:
        shape.dim[0].dim_value = 1
    if still_open := [index for index, dim in enumerate(shape.dim) if not dim.dim_value > 0]:
        yield (
            f"input {info.name} leaves dimension {', '.join(map(str, still_open))} open; "
            "give its whole shape in net_input_shapes"
        )


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Evaluate what depends on constants and shapes alone, until nothing is left to evaluate."""
    while True:
        model = shape_inference.infer_shapes(model, data_prop=True)
        if not _fold_once(model):
            return model


def _fold_once(model: onnx.ModelProto) -> bool:
    graph = Graph(model)
    values: dict[str, np.ndarray] = {}
    folded = []
    for node in graph.nodes:
        names = [name for name in node.input if name]
        shape = graph.shapes.get(node.input[0], (-1,)) if node.op_type == "Shape" else ()
        if node.op_type == "Shape" and min(shape, default=0) >= 0:
            results: list[Any] = [np.array(shape, dtype=np.int64)[_shape_slice(node)]]
        elif names and all(graph.is_constant(name) or name in values for name in names):
            feeds = {name: values[name] if name in values else graph.constant(name) for name in names}
            is_new = any(name in values for name in names) and not all(name in graph.shapes for name in node.output)
            if is_new or _has_body(node) or _grows(graph, node, feeds):
                continue  # what is new is inferred and tried again
            results = _evaluate(model, node, feeds)
        else:
            continue
        values.update({name: np.asarray(value) for name, value in zip(node.output, results, strict=False) if name})
        folded.append(node)
    for node in folded:
        model.graph.node.remove(node)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return bool(folded)


def _has_body(node: onnx.NodeProto) -> bool:
    return any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute)


def _grows(graph: Graph, node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> bool:
    """Whether a node makes a large constant of a small one."""
    made = 4 * sum(math.prod(graph.shapes.get(name, ())) for name in node.output)
    return made > max(FOLDED_BYTES, *(value.nbytes for value in feeds.values()))


def _evaluate(model: onnx.ModelProto, node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> list[Any]:
    """Run one node on ONNX Runtime: numpy's sums and exponentials differ from its own in the last bit."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    wanted = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    single = onnx.helper.make_model(
        onnx.helper.make_graph([node], "constant", inputs, wanted),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    found = iter(
        open_session(shape_inference.infer_shapes(single).SerializeToString(), threads=1).run(None, dict(feeds))
    )
    return [next(found) if name else None for name in node.output]


def _shape_slice(node: onnx.NodeProto) -> slice:
    found = {attribute.name: attribute.i for attribute in node.attribute}
    return slice(found.get("start"), found.get("end"))


def _refuse_unsupported(model: onnx.ModelProto, name: str) -> None:
    refused = unsupported(model)
    if not refused:
        return
    graph = Graph(model)
    tainted: set[str] = set()
    bad = {node for _, node in refused}
    ends: list[str] = []
    for node in graph.nodes:
        if node.name in bad or any(name in tainted for name in node.input):
            tainted.update(node.output)
            ends += [item for item in node.input if item not in tainted]
    ends += [item for item in graph.outputs if item not in tainted]
    nodes = dict.fromkeys(graph.producer[item].name for item in ends if item in graph.producer)
    raise exceptions.ParsingWithRecommendationException(name, refused, list(nodes))


def _refuse_odd_outputs(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    problems = [
        f"output {name} does not depend on an input; choose end nodes without it"
        for name in graph.outputs
        if name not in graph.producer
    ]
    problems += [
        f"output {name} has {len(graph.shapes[name])} dimensions, 2 to 4 are supported; choose end nodes before it"
        for name in graph.outputs
        if name in graph.producer and len(graph.shapes.get(name, (1, 1))) not in (2, 3, 4)
    ]
    if problems:
        raise exceptions.UnsupportedModelError("\n".join(problems))


def _free_batch(model: onnx.ModelProto) -> None:
    """Open the batch dimension, in place, where nothing in the graph holds it to one."""
    graph = Graph(model)
    freed: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.op_type == "Reshape":
            target = _free_reshape(graph, node)
        elif node.op_type == "Resize" and len(node.input) > 3:
            target = _free_resize(graph, node)
        else:
            continue
        if target is None:
            return
        freed[node.name] = target
    for node in graph.nodes:
        if (target := freed.get(node.name)) is None:
            continue
        name = f"{node.name}/free_batch"
        model.graph.initializer.append(numpy_helper.from_array(target, name))
        # A Resize takes scales instead of sizes: sizes would name the batch.
        node.input[1:] = [name] if node.op_type == "Reshape" else [node.input[1], name]
    for info in model.graph.input:
        info.type.tensor_type.shape.dim[0].dim_param = BATCH
    remove_unused(model)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _free_reshape(graph: Graph, node: onnx.NodeProto) -> np.ndarray | None:
    before, after = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if not graph.is_constant(node.input[1]) or before[:1] != (1,) or after[:1] != (1,):
        return None
    target = graph.constant(node.input[1]).copy()
    if target[0] == 1:
        target[0] = -1 if -1 not in target else 0
    return target


def _free_resize(graph: Graph, node: onnx.NodeProto) -> np.ndarray | None:
    before = graph.shapes[node.input[0]]
    if not graph.is_constant(node.input[3]) or attributes(node).keys() & {"axes", "keep_aspect_ratio_policy"}:
        return None
    sizes = graph.constant(node.input[3])
    scales = sizes.astype(np.float32) / np.asarray(before, dtype=np.float32)
    exact = np.array_equal(np.floor(np.asarray(before, dtype=np.float32) * scales).astype(np.int64), sizes)
    return scales if exact and scales[0] == 1 else None


def _named_after_layers(model: onnx.ModelProto, scope: str) -> Translated:
    layers = find_layers(model)
    give_names(layers)
    names = {info.name: f"{scope}/input_layer{index}" for index, info in enumerate(model.graph.input, 1)}
    original = {new: old for old, new in names.items()}
    for layer in layers:
        for index, output in enumerate(layer.outputs):
            names[output] = f"{scope}/{layer.name}" + (f":{index}" if index else "")
    original.update({names[info.name]: info.name for info in model.graph.output})

    def rename(old: str) -> str:
        return names.get(old, f"{scope}/onnx::{old}")

    rename_tensors(model.graph, rename)
    for layer in layers:
        layer.inputs = [rename(name) for name in layer.inputs]
        layer.outputs = [rename(name) for name in layer.outputs]
    for node in model.graph.node:
        node.name = f"{scope}/{node.name}"
    model.graph.name = scope
    return Translated(model, layers, original)
