"""What the emulator needs to know of an ONNX graph, and the few edits it makes to one.

The rule: a graph is a list of nodes in topological order whose names are all different; constants are
initializers, never Constant nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from hefjoin.emulator.weights import Weights
from hefjoin.formats.onnx_layout import CHANNELS_FIRST, CHANNELS_LAST, is_channels_last

Array = npt.NDArray[Any]


class Graph:
    """An index over an ONNX graph: who makes a tensor, who reads it, what is constant, what shape it has."""

    def __init__(self, model: onnx.ModelProto, weights: Weights | None = None) -> None:
        """Take a model and, where values may be asked for that are not in it, the table that has them."""
        self.model = model
        self.weights = weights or {}
        self.nodes: Sequence[onnx.NodeProto] = model.graph.node

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {output: node for node in self.nodes for output in node.output if output}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor, once per node."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """The constants."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs, in order."""
        return [output.name for output in self.model.graph.output]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that inference could tell; the open batch dimension is -1."""
        graph = self.model.graph
        shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for info in (*graph.input, *graph.value_info, *graph.output):
            kind = info.type.tensor_type
            if kind.HasField("shape"):
                shapes[info.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        return shapes

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is an initializer."""
        return name in self.initializers

    def constant(self, name: str) -> Array:
        """Return an initializer's values."""
        if name in self.weights:
            return self.weights[name].array()
        return numpy_helper.to_array(self.initializers[name])

    def is_scalar(self, name: str) -> bool:
        """Return whether a tensor is a constant of one element."""
        return self.is_constant(name) and int(np.prod(self.initializers[name].dims, dtype=np.int64)) == 1

    def readers(self, name: str) -> int:
        """Return how many nodes read a tensor, the graph's own output counted as one."""
        return len(self.consumers.get(name, ())) + (name in self.outputs)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def rename_tensors(graph: onnx.GraphProto, rename: Callable[[str], str]) -> None:
    """Rename every tensor of a graph in place, the captured names inside control-flow bodies included.

    `rename` maps an old name to a new one; the empty name (an optional input left out) is never asked for.
    """
    for info in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        info.name = rename(info.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = rename(sparse.values.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name:
                    names[index] = rename(name)
        for body in bodies(node):
            rename_tensors(body, rename)


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs inside a node: branches, the body of a loop."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        found += attribute.graphs
    return found


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own, in place: its own where that is unique, else one from its output."""
    taken: Counter[str] = Counter(node.name for node in graph.node)
    for index, node in enumerate(graph.node):
        if not node.name or taken[node.name] > 1:
            name = f"{node.op_type}_{next(iter(filter(None, node.output)), index)}"
            while name in taken:
                name += "_"
            taken[name] += 1
            node.name = name


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers, in place; those of strings and sparse tensors stay nodes."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        (given,) = node.attribute
        if given.name == "value":
            tensor = given.t
        elif given.name in _CONSTANT_TYPES:
            value = np.asarray(onnx.helper.get_attribute_value(given), dtype=_CONSTANT_TYPES[given.name])
            tensor = numpy_helper.from_array(value)
        else:
            continue
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)


_CONSTANT_TYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def channels_first(model: onnx.ModelProto) -> None:
    """Give every image input the order NCHW, in place, and turn it round for those that read it as NHWC."""
    graph = Graph(model)
    for info in reversed(model.graph.input):
        if not is_channels_last(info, graph.consumers.get(info.name, ())):
            continue
        turned = f"{info.name}/channels_last"
        for reader in graph.consumers.get(info.name, ()):
            reader.input[:] = [turned if name == info.name else name for name in reader.input]
        model.graph.node.insert(
            0, onnx.helper.make_node("Transpose", [info.name], [turned], turned, perm=CHANNELS_LAST)
        )
        last = model.graph.value_info.add()
        last.CopyFrom(info)
        last.name = turned
        dims = info.type.tensor_type.shape.dim
        for axis, source in enumerate(CHANNELS_FIRST):
            dims[axis].CopyFrom(last.type.tensor_type.shape.dim[source])


def remove_unused(model: onnx.ModelProto) -> None:
    """Drop, in place, nodes whose outputs nobody reads and initializers that no node names."""
    graph = model.graph
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(output in wanted for output in node.output):
            kept.append(node)
            wanted.update(filter(None, node.input))
            wanted.update(captured(node))
    replace(graph.node, reversed(kept))
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in wanted])
    replace(graph.value_info, [info for info in graph.value_info if info.name in wanted])


def captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that are read inside a node's bodies, those among them that are made there too."""
    names: set[str] = set()
    for body in bodies(node):
        for inner in body.node:
            names.update(filter(None, inner.input))
            names.update(captured(inner))
    return names


def replace(field: object, items: Iterable[object]) -> None:
    """Put other items into a repeated field."""
    kept = list(items)
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]


def with_outputs(model: onnx.ModelProto, names: list[str]) -> bytes:
    """Return the serialized graph with `names` (float32) as its only outputs; the graph is left as it was."""
    graph = model.graph
    kept = [*graph.output]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    try:
        return bytes(model.SerializeToString())
    finally:
        del graph.output[:]
        graph.output.extend(kept)
