"""Walk through a network layer by layer with the same frames in float and in integers, and mend each layer in turn.

The rule: a layer is mended knowing what the integers before it really are, and only once. What it is mended towards
is its float output, computed from float inputs. Each layer runs a fixed number of times per frame, however deep it
lies, and only tensors that a later layer reads are kept, for a number of frames that `BUDGET_BYTES` bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hefjoin.emulator.graph import Array, Graph, attributes
from hefjoin.emulator.layers import Layer, find_layers
from hefjoin.emulator.quantize import Encoding, feature_axis, quantize
from hefjoin.formats.onnx_operators import WEIGHTED_OPS
from hefjoin.sessions import open_session

FRAMES = 64
"""At most; a fixed number, so that neither time nor memory grows with the calibration set."""
BUDGET_BYTES = 1 << 28
"""For the tensors of all frames that are kept at one time, in float and in integers."""

Frames = Sequence[Array]
"""One array per frame, each with a batch of one."""


@dataclass(frozen=True)
class Recipe:
    """All that `quantize` needs; mending changes the constants of `model`, and `steps`."""

    model: onnx.ModelProto
    codes: Mapping[str, Encoding]
    bits: Mapping[str, int]
    steps: dict[str, Array] = field(default_factory=dict)

    def write(self) -> onnx.ModelProto:
        """Return the quantized graph."""
        return quantize(self.model, self.codes, self.bits, self.steps)


@dataclass(frozen=True)
class Stop:
    """A node with a kernel, and what the frames look like there."""

    recipe: Recipe
    node: onnx.NodeProto
    exact: Frames
    """What the node gives in float from float inputs, its activation not applied."""
    rough_inputs: Frames
    """What the layers before hand it in integers, as real numbers."""

    @property
    def bits(self) -> int:
        """Bits of the kernel."""
        return self.recipe.bits[self.node.input[1]]

    @property
    def kernel(self) -> Array:
        """The kernel, float32."""
        return numpy_helper.to_array(self._tensor(1))

    @property
    def bias(self) -> Array | None:
        """The bias, float32, one per output feature; None where the operator has none."""
        return numpy_helper.to_array(self._tensor(2)) if len(self.node.input) > 2 else None

    def set_kernel(self, kernel: Array, steps: Array) -> None:
        """Replace the kernel by one that its scales, float32, one per output feature, represent exactly."""
        self._replace(1, kernel)
        self.recipe.steps[self.node.input[1]] = steps

    def set_bias(self, bias: Array) -> None:
        """Replace the bias."""
        self._replace(2, bias)

    def rough(self) -> list[Array]:
        """Return what the node gives from `rough_inputs` with quantized constants, before it is quantized itself."""
        source, result = self.node.input[0], self.node.output[0]
        alone = _part(self.recipe, [self.node], [source], [result])
        codes = {source: self.recipe.codes[source]} if source in self.recipe.codes else {}
        return _run(replace(alone, codes=codes).write(), {source: self.rough_inputs})[result]

    def _tensor(self, index: int) -> onnx.TensorProto:
        name = self.node.input[index]
        tensors: Iterable[onnx.TensorProto] = self.recipe.model.graph.initializer
        return next(tensor for tensor in tensors if tensor.name == name)

    def _replace(self, index: int, value: Array) -> None:
        name = self.node.input[index]
        self._tensor(index).CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def walk(recipe: Recipe, frames: Iterable[dict[str, Array]], mend: Callable[[Stop], None]) -> None:
    """Mend every node with a kernel, in the order of the layers.

    Args:
        recipe: Of the whole network, its model prepared by `own_constants`; it is changed.
        frames: Feeds of the graph, one frame each; the first of them are taken.
        mend: Called with each node; changes its constants.
    """
    layers = find_layers(recipe.model)
    last = {name: index for index, layer in enumerate(layers) for name in layer.inputs}
    held = list(islice(frames, _affordable_frames(recipe.model, layers, last)))
    exact: dict[str, Frames] = {info.name: [feeds[info.name] for feeds in held] for info in recipe.model.graph.input}
    rough = dict(exact)
    for index, layer in enumerate(layers):
        node = layer.main
        mendable = can_be_mended(node) and node.input[0] in layer.inputs
        seen = list(dict.fromkeys([*layer.outputs, *([node.output[0]] if mendable else [])]))
        found = _run(_part(recipe, layer.nodes, layer.inputs, seen).model, exact)
        if mendable:
            mend(Stop(recipe, node, found[node.output[0]], rough[node.input[0]]))
        kept = [name for name in layer.outputs if name in last]
        if kept:
            rough |= _run(_part(recipe, layer.nodes, layer.inputs, kept).write(), rough)
            exact |= {name: found[name] for name in kept}
        for name in {name for name in layer.inputs if last[name] <= index}:
            del exact[name], rough[name]


def own_constants(model: onnx.ModelProto) -> None:
    """Give every node that can be mended a kernel of its own and, where it may have one, a bias, in place."""
    graph = model.graph
    known = Graph(model).initializers
    for index, node in enumerate(graph.node):
        if not can_be_mended(node):
            continue
        kernel = numpy_helper.to_array(known[node.input[1]])
        own = f"{node.output[0]}/kernel{index}"
        graph.initializer.append(numpy_helper.from_array(kernel, own))
        node.input[1] = own
        if node.op_type == "MatMul":
            continue
        has_bias = len(node.input) > 2 and bool(node.input[2])
        features = kernel.shape[feature_axis(node, kernel.shape)] * (
            attributes(node).get("group", 1) if node.op_type == "ConvTranspose" else 1
        )
        bias = numpy_helper.to_array(known[node.input[2]]).reshape(-1) if has_bias else np.zeros(1, np.float32)
        own = f"{node.output[0]}/bias{index}"
        graph.initializer.append(numpy_helper.from_array(np.broadcast_to(bias, features).astype(np.float32), own))
        node.input[:] = [*node.input[:2], own]


def can_be_mended(node: onnx.NodeProto) -> bool:
    """Return whether a node has a kernel, and applies it and its bias as they are."""
    if node.op_type != "Gemm":
        return node.op_type in WEIGHTED_OPS
    given = attributes(node)
    return not given.get("transA") and (given.get("alpha", 1.0), given.get("beta", 1.0)) == (1.0, 1.0)


def _affordable_frames(model: onnx.ModelProto, layers: Sequence[Layer], last: Mapping[str, int]) -> int:
    shapes = Graph(model).shapes
    live = {info.name for info in model.graph.input}
    peak = 1
    for index, layer in enumerate(layers):
        live.update(name for name in layer.outputs if name in last)
        peak = max(peak, sum(8 * abs(int(np.prod(shapes.get(name, (1,))))) for name in live))
        live -= {name for name in layer.inputs if last[name] <= index}
    return int(np.clip(BUDGET_BYTES // peak, 1, FRAMES))


def _part(recipe: Recipe, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> Recipe:
    """Return the recipe of some nodes alone."""
    whole = Graph(recipe.model)
    chosen = {node.name for node in nodes}
    ordered = [node for node in recipe.model.graph.node if node.name in chosen]
    used = {name for node in ordered for name in node.input}
    graph = helper.make_graph(
        ordered,
        "part",
        [_info(whole, name) for name in dict.fromkeys(inputs)],
        [_info(whole, name) for name in outputs],
        [tensor for tensor in recipe.model.graph.initializer if tensor.name in used],
    )
    source = recipe.model
    model = helper.make_model(graph, opset_imports=source.opset_import, ir_version=source.ir_version)
    return replace(recipe, model=model)


def _info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    shape = graph.shapes.get(name)
    dims = None if shape is None else ["batch" if size < 0 else size for size in shape]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def _run(model: onnx.ModelProto, values: Mapping[str, Frames]) -> dict[str, list[Array]]:
    session = open_session(model.SerializeToString())
    inputs, outputs = ([info.name for info in ends] for ends in (session.get_inputs(), session.get_outputs()))
    count = len(values[inputs[0]])
    results = [session.run(None, {name: values[name][frame] for name in inputs}) for frame in range(count)]
    return {name: [result[index] for result in results] for index, name in enumerate(outputs)}
