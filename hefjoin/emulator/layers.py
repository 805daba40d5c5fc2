"""See an ONNX graph as the layers of the vendor's HN.

The rules, in the order in which they are tried on each node:

1. A node that only views (Reshape, Flatten, Transpose, Identity, …) is an alias of its input's layer; where others
   read that input too, and on a graph's input, it is a `format_conversion`, which does not occupy the chip.
2. A per-channel affine step (BatchNormalization, Mul/Add/Sub/Div by constants) whose input nobody else reads
   joins the convolution that feeds it; elsewhere it is a `normalization` layer, which takes the steps behind it. The
   division that equalization put behind an activation (`EQUALIZATION`) joins the activation's layer.
3. Point-wise nodes that compute one function of one tensor are one activation, however many nodes it took
   (x·sigmoid(x), x·clip(x+3, 0, 6)/6, the erf form of GELU). It joins the layer that makes the tensor when nobody
   else reads that tensor and layers of its type take one; elsewhere it is an `activation` layer.
4. Every other supported operator starts a layer. The addition of a residual branch is one too (`ew_add`): the HAR of
   DFC 3.33 has it so behind convolutions that nobody else reads, and the compiler fuses it when it optimizes
   (`pre_quantization_optimization(ew_add_fusing, …)`).
5. A 1x1 convolution of a 1x1 map is `dense`. Evidence: `osnet_reid/fc49`, OSNet's one linear layer behind 48 such
   convolutions in its channel gates. A larger kernel stays a convolution (`face_landmarks_lite/conv22`, 3x3).

Which types take an activation: those for which public readers of the HN (netron) list one. Names are given by
`hefjoin.emulator.layer_names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from hefjoin.emulator.graph import Graph, attributes
from hefjoin.formats.onnx_operators import AFFINE, BINARY, MAIN, UNARY, VIEWS, has_layer

WEIGHTED = frozenset({"conv", "dw", "deconv", "dense"})
"""Layer types with a kernel; they take affine steps and an activation with them."""
ACTIVATED = WEIGHTED | {
    "activation", "avgpool", "maxpool", "normalization", "reduce_max", "reduce_mean", "reduce_sum",
    "ew_add", "ew_div", "ew_max", "ew_min", "ew_mult", "ew_sub",
}  # fmt: skip
"""Layer types with an activation; what only moves values has none."""

EQUALIZATION = "/equalization"
"""Ends the name of a division of channels that is part of the layer before it."""


@dataclass
class Layer:
    """One layer: the ONNX nodes it stands for and the tensors at its borders."""

    type: str
    nodes: list[onnx.NodeProto]
    inputs: list[str]
    outputs: list[str]
    activation: str = "linear"
    name: str = ""
    """Without its scope: `conv1`; empty until `layer_names.give_names`."""

    @property
    def main(self) -> onnx.NodeProto:
        """The node the layer was started for."""
        return self.nodes[0]


def unsupported(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Return (operator, node) for every node that no layer can stand for."""
    graph = Graph(model)
    return [
        (node.op_type if not node.domain else f"{node.domain}.{node.op_type}", node.name)
        for node in graph.nodes
        if not has_layer(node, graph.is_constant)
    ]


def find_layers(model: onnx.ModelProto) -> list[Layer]:
    """Return the layers of a graph in topological order, the input and output layers not among them.

    Args:
        model: Only supported operators, shapes inferred, constants as initializers.
    """
    return _Finder(Graph(model)).layers()


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: list[Layer] = []
        self.owner: dict[str, Layer] = {}
        self.regions = pointwise_regions(graph)

    def layers(self) -> list[Layer]:
        for node in self.graph.nodes:
            root = self.regions.get(node.output[0])
            if node.op_type in VIEWS:
                self._alias(node)
            elif self._joins_as_affine(node):
                self._absorb(self.owner[self._data_input(node)], node)
            elif root is not None:
                if self._ends_region(node, root):
                    self._activation(root, self._function(node, root))
            else:
                self._start(node)
        return self.found

    def _data_input(self, node: onnx.NodeProto) -> str:
        names = [str(name) for name in node.input if name]
        return next((name for name in names if not self.graph.is_constant(name)), names[0])

    def _alias(self, node: onnx.NodeProto) -> None:
        owner = self.owner.get(node.input[0])
        if owner is not None and self.graph.readers(node.input[0]) == 1:
            self._absorb(owner, node)
        else:
            self._start(node, "format_conversion")

    def _joins_as_affine(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in AFFINE or not is_affine(self.graph, node):
            return False
        name = self._data_input(node)
        owner = self.owner.get(name)
        return (
            owner is not None
            and owner.type in WEIGHTED | {"normalization"}
            and (owner.activation == "linear" or node.name.endswith(EQUALIZATION))
            and self.graph.readers(name) == 1
        )

    def _absorb(self, layer: Layer, node: onnx.NodeProto) -> None:
        layer.nodes.append(node)
        layer.outputs = [node.output[0] if output in node.input else output for output in layer.outputs]
        self.owner[node.output[0]] = layer

    def _ends_region(self, node: onnx.NodeProto, root: str) -> bool:
        return (
            any(self.regions.get(reader.output[0]) != root for reader in self.graph.consumers.get(node.output[0], ()))
            or node.output[0] in self.graph.outputs
        )

    def _function(self, end: onnx.NodeProto, root: str) -> list[onnx.NodeProto]:
        """Return the nodes that compute `end` from `root`, in order."""
        inside, behind = {end.name}, [end]
        while behind:
            for name in behind.pop().input:
                if self.regions.get(name) == root and (maker := self.graph.producer[name]).name not in inside:
                    inside.add(maker.name)
                    behind.append(maker)
        return [node for node in self.graph.nodes if node.name in inside]

    def _activation(self, root: str, nodes: list[onnx.NodeProto]) -> None:
        inside = {node.name for node in nodes}
        outside = [reader for reader in self.graph.consumers[root] if reader.name not in inside]
        host = self.owner.get(root)
        name = "relu6" if _is_relu6(self.graph, nodes) else activation_name([node.op_type for node in nodes])
        if host is None or not _is_open(host) or outside or root in self.graph.outputs:
            layer = self._start(nodes[0], "activation")
            layer.inputs, layer.nodes, layer.outputs = [root], nodes, [nodes[-1].output[0]]
            layer.activation = name
        else:
            layer = host
            layer.nodes += nodes
            layer.outputs = [nodes[-1].output[0] if output == root else output for output in layer.outputs]
            layer.activation = name
        self.owner[nodes[-1].output[0]] = layer

    def _start(self, node: onnx.NodeProto, kind: str = "") -> Layer:
        layer = Layer(
            type=kind or self._kind(node),
            nodes=[node],
            inputs=[name for name in node.input if name and not self.graph.is_constant(name)],
            outputs=[name for name in node.output if name and self.graph.readers(name)],
        )
        self.found.append(layer)
        for output in layer.outputs:
            self.owner[output] = layer
        return layer

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type == "Conv":
            group = int(attributes(node).get("group", 1))
            _, depth, *kernel = self.graph.shapes[node.input[1]]
            if group > 1:
                return "dw" if depth == 1 else "conv"
            _, _, *space = self.graph.shapes.get(node.input[0], ())
            return "dense" if {*kernel, *space} == {1} else "conv"
        if node.op_type in AFFINE and is_affine(self.graph, node):
            return "normalization"
        if node.op_type == "ReduceMean" and _over_space(self.graph, node):
            return "avgpool"
        if node.op_type in BINARY and any(self.graph.is_constant(name) for name in node.input):
            return "normalization" if node.op_type in AFFINE else "activation"
        return MAIN.get(node.op_type, "activation")


def _is_open(host: Layer) -> bool:
    """Whether a layer can still take an activation."""
    return host.type in ACTIVATED and host.activation == "linear" and len(host.outputs) == 1


def is_affine(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node multiplies and adds one constant per channel (or one for all)."""
    if node.op_type == "BatchNormalization":
        return True
    if node.op_type not in AFFINE or len(node.input) != 2:
        return False
    constants = [name for name in node.input if graph.is_constant(name)]
    if len(constants) != 1 or (node.op_type == "Div" and not graph.is_constant(node.input[1])):
        return False
    data = next(name for name in node.input if name not in constants)
    shape, dims = graph.shapes.get(data, ()), graph.shapes[constants[0]]
    padded = (1,) * (len(shape) - len(dims)) + tuple(dims)
    channel = 1 if len(shape) != 3 else 2
    return len(padded) == len(shape) and all(
        size == 1 or (axis == channel and size == shape[axis]) for axis, size in enumerate(padded)
    )


def pointwise_regions(graph: Graph) -> dict[str, str]:
    """Return, for every tensor that is a point-wise function of one other tensor, that other tensor.

    A tensor that is read outside its function ends it: what follows is a function of that tensor.
    """
    borders: set[str] = set()
    while True:
        roots = _roots(graph, borders)
        escapes: dict[str, list[str]] = {}
        for name, root in roots.items():
            outside = any(roots.get(reader.output[0]) != root for reader in graph.consumers.get(name, ()))
            if outside or name in graph.outputs:
                escapes.setdefault(root, []).append(name)
        several = {root for root, names in escapes.items() if len(names) > 1}
        forks = {name for name, root in roots.items() if root in several and graph.readers(name) > 1}
        more = ({name for root in several for name in escapes[root]} | forks) - borders
        if not more:
            return roots
        borders |= more


def _roots(graph: Graph, borders: set[str]) -> dict[str, str]:
    roots: dict[str, str] = {}
    for node in graph.nodes:
        data = [name for name in node.input if name and not graph.is_constant(name)]
        if node.op_type in UNARY and len(data) == 1:
            candidates = {data[0]}
        elif node.op_type in BINARY and _scalars_only(graph, node) and data:
            candidates = set(data)
        else:
            continue
        found = {name if name in borders else roots.get(name, name) for name in candidates}
        if len(found) == 1 and (node.op_type in UNARY or len(data) == 2 or _in_function(graph, node, roots)):
            roots[node.output[0]] = found.pop()
    return roots


def _scalars_only(graph: Graph, node: onnx.NodeProto) -> bool:
    return all(graph.is_scalar(name) for name in node.input if graph.is_constant(name))


def _in_function(graph: Graph, node: onnx.NodeProto, roots: Mapping[str, str]) -> bool:
    """Whether a step with a scalar constant is part of a function; a multiplication or addition alone is affine."""
    if not is_affine(graph, node):
        return True
    data = next(name for name in node.input if not graph.is_constant(name))
    return data in roots or graph.readers(data) > 1


def _over_space(graph: Graph, node: onnx.NodeProto) -> bool:
    axes = attributes(node).get("axes")
    if axes is None and len(node.input) > 1 and graph.is_constant(node.input[1]):
        axes = graph.constant(node.input[1]).tolist()
    rank = len(graph.shapes.get(node.input[0], ()))
    return axes is not None and sorted(axis % rank for axis in axes) == [2, 3]


def _is_relu6(graph: Graph, nodes: list[onnx.NodeProto]) -> bool:
    limits = nodes[0].input[1:] if [node.op_type for node in nodes] == ["Clip"] else []
    return all(map(graph.is_scalar, limits)) and [graph.constant(name).item() for name in limits] == [0, 6]


def activation_name(operators: list[str]) -> str:
    """Return the HN's name of the activation that a list of ONNX operators computes."""
    found = set(operators)
    for name, parts in _ACTIVATIONS:
        if parts <= found:
            return name
    return operators[0].lower() if len(operators) == 1 else "custom"


_ACTIVATIONS: tuple[tuple[str, set[str]], ...] = (
    ("gelu", {"Erf"}),
    ("gelu", {"Gelu"}),
    ("mish", {"Mish"}),
    ("mish", {"Softplus", "Tanh", "Mul"}),
    ("silu", {"Sigmoid", "Mul"}),
    ("hardswish", {"HardSwish"}),
    ("hardswish", {"HardSigmoid", "Mul"}),
    ("hardswish", {"Add", "Clip", "Mul"}),
    ("hardsigmoid", {"HardSigmoid"}),
    ("leaky", {"LeakyRelu"}),
    ("prelu", {"PRelu"}),
    ("relu", {"Relu"}),
)
