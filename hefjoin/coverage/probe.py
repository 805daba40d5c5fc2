"""Run a model's float network and tell what each channel of each layer reaches on a frame.

The rule: values are reduced inside the graph; what leaves it is a number or two for each channel, never an activation.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hefjoin.formats import har, onnx_weights
from hefjoin.sessions import open_session

Array = npt.NDArray[Any]

GRAPH, GRAPH_LIMIT_BYTES = ".native.onnx", 1 << 31
"""The member of an emulator's HAR that computes; its layers' outputs have the layers' names."""
MOVES_ONLY = frozenset(
    {"concat", "depth_to_space", "feature_splitter", "format_conversion", "maxpool", "slice", "space_to_depth"}
)
"""Types of layers whose channels have no ranges of their own."""


class Layer(NamedTuple):
    """A layer that has ranges."""

    name: str
    channels: int


class Probe:
    """One model's float network, as parsed, its channels in the order of its layers."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Read a HAR of the emulator.

        Args:
            path: The HAR.
            names: Its layers that have ranges; those whose outputs have no channels are left out.

        Raises:
            InputError: It is no whole HAR of the emulator.
        """
        self._model = onnx.load_from_string(har.read_member(path, GRAPH, GRAPH_LIMIT_BYTES))
        self._weights = _outside(self._model, path)
        shapes = _shapes(self._model)
        self._ranks = {name: len(shapes[name]) for name in names if len(shapes.get(name, ())) > 1}
        self.layers = tuple(Layer(name, shapes[name][1]) for name in self._ranks)
        self._input = self._model.graph.input[0].name

    @property
    def channels(self) -> int:
        """Of all layers together."""
        return sum(layer.channels for layer in self.layers)

    def extremes(self, frame: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest value of each channel on a frame.

        Args:
            frame: float32, shape (height, width, channels), normalized as the network wants it.

        Returns:
            Both float32, shape (channels,).
        """
        low, high = self._extremes.run(None, self._feed(frame))
        return low, high

    def outside(self, frame: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
        """Return the extremes of each channel, and the share of its values that lie below `low` or above `high`.

        Args:
            frame: As for `extremes`.
            low: float32, shape (channels,).
            high: The same.

        Returns:
            Three arrays, float32, shape (channels,); shares are 0–1.
        """
        found = self._outside.run(None, self._feed(frame) | {LOW: low, HIGH: high})
        return found[0], found[1], found[2]

    def _feed(self, frame: Array) -> dict[str, Array]:
        return {self._input: np.ascontiguousarray(frame.transpose(2, 0, 1)[np.newaxis], dtype=np.float32)}

    @cached_property
    def _extremes(self) -> Any:
        graph = _Addition(self._model)
        ends = [graph.over_places(kind, name, rank) for kind in REDUCTIONS for name, rank in self._ranks.items()]
        return self._session(graph, [ends[: len(ends) // 2], ends[len(ends) // 2 :]])

    @cached_property
    def _outside(self) -> Any:
        graph = _Addition(self._model)
        ends = [[graph.over_places(kind, name, rank) for name, rank in self._ranks.items()] for kind in REDUCTIONS]
        shares, begin = [], 0
        for layer, rank in zip(self.layers, self._ranks.values(), strict=True):
            shares.append(graph.share_outside(layer, rank, begin))
            begin += layer.channels
        return self._session(graph, [*ends, shares], [LOW, HIGH])

    def _session(self, graph: _Addition, parts: Sequence[Sequence[str]], inputs: Sequence[str] = ()) -> Any:
        outputs = [graph.node("Concat", names, axis=0) for names in parts]
        return open_session(graph.serialized(inputs, outputs), weights=self._weights)


LOW, HIGH = "hefjoin/low", "hefjoin/high"
REDUCTIONS = ("ReduceMin", "ReduceMax")


class _Addition:
    """Nodes put behind a graph, which is left as it was."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        del self._model.graph.output[:]
        self._version = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return its output."""
        name = f"hefjoin/{len(self._model.graph.node)}"
        self._model.graph.node.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def over_places(self, kind: str, name: str, rank: int) -> str:
        """Add a reduction to one number for each channel (axis 1)."""
        axes = [axis for axis in range(rank) if axis != 1]
        if self._version < 18:
            return self.node(kind, [name], axes=axes, keepdims=0)
        return self.node(kind, [name, self._constant(axes)], keepdims=0)

    def share_outside(self, layer: Layer, rank: int, begin: int) -> str:
        """Add the share of each channel's values outside the part of `LOW` and `HIGH` that begins at `begin`."""
        column = self._constant([1, layer.channels, *[1] * (rank - 2)])
        bounds = [self._constant([begin]), self._constant([begin + layer.channels])]
        low, high = (self.node("Reshape", [self.node("Slice", [end, *bounds]), column]) for end in (LOW, HIGH))
        below, above = self.node("Less", [layer.name, low]), self.node("Greater", [layer.name, high])
        outside = self.node("Cast", [self.node("Or", [below, above])], to=TensorProto.FLOAT)
        return self.over_places("ReduceMean", outside, rank)

    def _constant(self, values: Sequence[int]) -> str:
        name = f"hefjoin/constant{len(self._model.graph.initializer)}"
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def serialized(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        """Return the graph with these outputs, and these inputs beside its own, all lists of float32."""
        graph = self._model.graph
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in inputs)
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in outputs)
        return bytes(self._model.SerializeToString())


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = model.graph
    return {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def _outside(model: onnx.ModelProto, path: Path) -> dict[str, Array]:
    """Return the constants that lie in the archive beside their graph, mapped."""
    tensors = list(onnx_weights.tensors(model))
    if not tensors:
        return {}
    begin, _ = har.member_place(path, har.WEIGHTS_SUFFIX)
    with path.open("rb") as stream:
        source = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return {tensor.name: _mapped(tensor, source, begin) for tensor in tensors}


def _mapped(tensor: onnx.TensorProto, source: mmap.mmap, begin: int) -> Array:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    place = onnx_weights.place(tensor)
    flat = np.frombuffer(source, dtype, place.size_bytes // dtype.itemsize, begin + place.offset)
    return np.require(flat, requirements="A").reshape(tuple(tensor.dims))
