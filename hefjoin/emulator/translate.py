"""Translate an ONNX file: cut it, fix its shapes, fold what is constant, name its tensors after its layers.

The rule: what a translated graph computes is bit for bit what the file computes. Nothing is fused here; the
layers only say what the chip would fuse.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import checker, helper, inliner, numpy_helper, shape_inference

from hefjoin.emulator import exceptions
from hefjoin.emulator.fold import fold
from hefjoin.emulator.graph import (
    Graph,
    attributes,
    captured,
    channels_first,
    constants_to_initializers,
    name_nodes,
    remove_unused,
    rename_tensors,
    replace,
)
from hefjoin.emulator.layer_names import give_names
from hefjoin.emulator.layers import Layer, find_layers, unsupported
from hefjoin.emulator.weights import Weight, Weights, converted, take_outside
from hefjoin.formats import onnx_file
from hefjoin.formats.onnx_head import SETTLED_OPSET
from hefjoin.formats.onnx_operators import STANDARD_DOMAINS, contradiction
from hefjoin.sessions import open_session

OPSET = 13
"""Least opset of a translated graph: QuantizeLinear has no channel axis before."""
BATCH = "batch"


@dataclass(frozen=True)
class Translated:
    """A network in one scope: the graph, its layers, and where its tensors came from."""

    model: onnx.ModelProto
    layers: list[Layer]
    original_names: dict[str, str]
    """Original name of each renamed input and output tensor."""
    weights: dict[str, Weight]
    """The constants that are not in the graph."""


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
    model, weights = _loaded(path)
    _refuse_unknown_opset(model)
    names = {node.name for node in model.graph.node}
    if start_nodes or end_nodes:
        model = _cut(model, start_nodes, end_nodes)
    model = _without_functions(model)
    _fix_shapes(model, input_shapes or {})
    channels_first(model)
    model = fold(model, weights)
    model = _at_least_opset(model, weights)
    remove_unused(model)
    _refuse_unsupported(model, path.stem, names)
    _refuse_odd_outputs(model)
    _free_batch(model)
    try:
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        raise exceptions.UnsupportedModelError(f"the shapes in {path.name} contradict each other: {error}") from error
    _refuse_contradictions(model, path.name)
    return _named_after_layers(model, scope, weights)


def _loaded(path: Path) -> tuple[onnx.ModelProto, dict[str, Weight]]:
    """Return the model of a file, its constants as initializers and its nodes named, and the constants outside it."""
    model = onnx_file.load(path)
    _inputs_without_initializers(model)
    constants_to_initializers(model)
    name_nodes(model.graph)
    return model, take_outside(model, path)


def _inputs_without_initializers(model: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each call of a function that it defines replaced by what the function computes."""
    if not model.functions:
        return model
    try:
        model = inliner.inline_local_functions(model, convert_version=True)
    except checker.ValidationError as error:
        raise exceptions.UnsupportedModelError(f"its local functions cannot be told apart: {error}") from error
    constants_to_initializers(model)
    name_nodes(model.graph)
    return model


def _at_least_opset(model: onnx.ModelProto, weights: dict[str, Weight]) -> onnx.ModelProto:
    """Return the model at `OPSET` or above, folded; what it has in branches is not converted."""
    version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), OPSET)
    if version >= OPSET:
        return model
    model = converted(model, OPSET, weights)
    constants_to_initializers(model)
    name_nodes(model.graph)
    return fold(model, weights)


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
    _keep(model.graph, needed, inputs, ends)
    return model


def _keep(graph: onnx.GraphProto, nodes: Container[str], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Reduce a graph, in place, to some of its nodes and to what goes into and comes out of them."""
    infos = {info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}
    replace(graph.node, [node for node in graph.node if node.name in nodes])
    for field, names in ((graph.input, inputs), (graph.output, outputs)):
        replace(field, [infos.get(name) or helper.make_empty_tensor_value_info(name) for name in names])


def _behind(graph: Graph, ends: Sequence[str], starts: set[str]) -> tuple[list[str], set[str]]:
    """Return the tensors that `ends` need from outside when the walk back stops at `starts`, and the nodes between."""
    open_ends, seen = list(ends), set(ends)
    found: set[str] = set()
    nodes: set[str] = set()
    inputs = [info.name for info in graph.model.graph.input]
    while open_ends:
        name = open_ends.pop()
        if name in starts or name not in graph.producer:
            found.add(name)
            continue
        node = graph.producer[name]
        nodes.add(node.name)
        outer = {item for item in captured(node) if item in graph.producer or item in inputs}
        new = {item for item in (*node.input, *outer) if item and not graph.is_constant(item)} - seen
        seen |= new
        open_ends += new
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


def _refuse_unsupported(model: onnx.ModelProto, name: str, names: Container[str]) -> None:
    """Refuse what no layer stands for, and recommend end nodes among `names`, those of the file itself."""
    refused = unsupported(model)
    if not refused:
        return
    graph = Graph(model)
    tainted: set[str] = set()
    bad = {node for _, node in refused}
    ends: list[str] = []
    for node in graph.nodes:
        read = [*node.input, *sorted(captured(node))]
        if node.name in bad or any(name in tainted for name in read):
            tainted.update(node.output)
            ends += [item for item in read if item not in tainted]
    ends += [item for item in graph.outputs if item not in tainted]
    nodes = dict.fromkeys(graph.producer[item].name for item in ends if item in graph.producer)
    raise exceptions.ParsingWithRecommendationException(name, refused, [node for node in nodes if node in names])


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


def _refuse_unknown_opset(model: onnx.ModelProto) -> None:
    """Refuse operator sets that ONNX Runtime does not know, by asking it for the least of graphs."""
    version = max((item.version for item in model.opset_import if item.domain in STANDARD_DOMAINS), default=0)
    if version <= SETTLED_OPSET:
        return
    given, same = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("given", "same"))
    graph = helper.make_graph([helper.make_node("Identity", ["given"], ["same"])], "least", [given], [same])
    least = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    try:
        open_session(least.SerializeToString(), threads=1)
    except Exception as error:
        raise exceptions.UnsupportedModelError(
            f"opset {version} is newer than what ONNX Runtime knows; export the model with an older one, such as "
            f"{SETTLED_OPSET}"
        ) from error


def _refuse_contradictions(model: onnx.ModelProto, name: str) -> None:
    graph = Graph(model)
    found = [text for node in graph.nodes if (text := contradiction(node, lambda item: graph.shapes.get(item, ())))]
    if found:
        raise exceptions.UnsupportedModelError(
            f"the shapes in {name} contradict each other: {'; '.join(found[:5])}; is the size right?"
        )


def _free_batch(model: onnx.ModelProto) -> None:
    """Open the batch dimension, in place, where nothing in the graph holds it to one."""
    graph = Graph(model)
    freed: dict[str, np.ndarray] = {}
    batch = max((graph.shapes[info.name][0] for info in model.graph.input), default=1)
    for node in graph.nodes:
        if node.op_type == "Reshape":
            target = _free_reshape(graph, node, batch)
        elif node.op_type == "Resize" and len(node.input) > 3:
            target = _free_resize(graph, node)
        else:
            continue
        if target is None:
            if batch != 1:
                raise exceptions.UnsupportedModelError(
                    f"the file takes {batch} frames at once and {node.op_type} {node.name} holds it to that; export "
                    "the model with a batch of 1"
                )
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


def _free_reshape(graph: Graph, node: onnx.NodeProto, batch: int) -> np.ndarray | None:
    before, after = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if not graph.is_constant(node.input[1]) or before[:1] != (batch,) or after[:1] != (batch,):
        return None
    target = graph.constant(node.input[1]).copy()
    if target[0] == batch:
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


def _named_after_layers(model: onnx.ModelProto, scope: str, weights: Weights) -> Translated:
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

    kept = {rename(item.name): weights[item.name] for item in model.graph.initializer if item.name in weights}
    rename_tensors(model.graph, rename)
    for layer in layers:
        layer.inputs = [rename(name) for name in layer.inputs]
        layer.outputs = [rename(name) for name in layer.outputs]
    for node in model.graph.node:
        node.name = f"{scope}/{node.name}"
    model.graph.name = scope
    return Translated(model, layers, original, kept)
