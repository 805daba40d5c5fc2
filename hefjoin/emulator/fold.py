"""Evaluate what depends on constants and shapes alone, and take the branches that they choose.

The rule: what is evaluated has the very bits that it would have at run time, so ONNX Runtime evaluates it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from hefjoin.emulator.graph import Graph, attributes, bodies, constants_to_initializers, name_nodes, rename_tensors
from hefjoin.emulator.weights import Weight, take_large
from hefjoin.sessions import open_session

FOLDED_BYTES = 1 << 20
"""Folding makes no constant larger than this and than what it is made of (a ConstantOfShape of a whole image)."""


def fold(model: onnx.ModelProto, weights: dict[str, Weight]) -> onnx.ModelProto:
    """Return a graph in which nothing is left to evaluate.

    Args:
        model: The graph; it is changed.
        weights: The constants that are not in it; those that are made of them are added.
    """
    while True:
        model = shape_inference.infer_shapes(model, data_prop=True)
        if not _fold_once(model, weights) and not _take_branches(model):
            return model


def _fold_once(model: onnx.ModelProto, weights: dict[str, Weight]) -> bool:
    graph = Graph(model, weights)
    values: dict[str, np.ndarray] = {}
    folded = []
    for node in graph.nodes:
        names = [name for name in node.input if name]
        if node.op_type == "Identity" and names[0] in weights and graph.is_constant(names[0]):  # nothing is read
            model.graph.initializer.add().CopyFrom(graph.initializers[names[0]])
            model.graph.initializer[-1].name = node.output[0]
            weights[node.output[0]] = weights[names[0]]
            folded.append(node)
            continue
        shape = graph.shapes.get(node.input[0], (-1,)) if node.op_type == "Shape" else ()
        if node.op_type == "Shape" and min(shape, default=0) >= 0:
            results: list[Any] = [np.array(shape, dtype=np.int64)[_shape_slice(node)]]
        elif names and all(graph.is_constant(name) or name in values for name in names):
            feeds = {name: values[name] if name in values else graph.constant(name) for name in names}
            is_new = any(name in values for name in names) and not all(name in graph.shapes for name in node.output)
            if is_new or bodies(node) or _grows(graph, node, feeds):
                continue  # what is new is inferred and tried again
            results = _evaluate(model, node, feeds)
        else:
            continue
        values.update({name: np.asarray(value) for name, value in zip(node.output, results, strict=False) if name})
        folded.append(node)
    for node in folded:
        model.graph.node.remove(node)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    weights |= take_large(model) if weights else {}
    return bool(folded)


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


def _take_branches(model: onnx.ModelProto) -> bool:
    """Replace each If whose condition is a constant by the branch that it takes, in place; return whether any was."""
    graph = Graph(model)
    chosen = [node for node in graph.nodes if node.op_type == "If" and graph.is_constant(node.input[0])]
    for node in chosen:
        branch = onnx.GraphProto()
        branch.CopyFrom(attributes(node)["then_branch" if graph.constant(node.input[0]).item() else "else_branch"])
        _put_in_place(model.graph, node, branch)
    constants_to_initializers(model)
    name_nodes(model.graph)
    return bool(chosen)


def _put_in_place(graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto) -> None:
    """Put the nodes of a branch where its If is; what it makes inside is named after the If."""
    made = {name for item in branch.node for name in item.output if name}
    ends = [item.name for item in branch.output]
    renamed = {name: f"{node.name}/{name}" for name in made | {item.name for item in branch.initializer}}
    renamed |= {end: out for end, out in zip(ends, node.output, strict=True) if end in made and ends.count(end) == 1}
    rename_tensors(branch, lambda name: renamed.get(name, name))
    nodes = [*branch.node]
    for item in nodes:
        item.name = f"{node.name}/{item.name}" if item.name else ""
    nodes += [
        helper.make_node("Identity", [renamed.get(end, end)], [out])
        for end, out in zip(ends, node.output, strict=True)
        if out and renamed.get(end) != out
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for item in reversed(nodes):
        graph.node.insert(place, item)
    graph.initializer.extend(branch.initializer)
