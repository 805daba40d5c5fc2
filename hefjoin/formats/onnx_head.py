"""What an ONNX file says of its image and its operators, read in a moment and without translating it.

The rule: where `unsettled` is empty, the file's network is what stands here; all else only a parse can tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from hefjoin.artifacts import Record
from hefjoin.errors import InputError
from hefjoin.formats import onnx_file
from hefjoin.formats.onnx_layout import is_channels_last
from hefjoin.formats.onnx_operators import STANDARD_DOMAINS, WEIGHTED_OPS, contradiction, has_layer

if TYPE_CHECKING:
    import numpy as np
    import onnx

LEAST_OPSET, SETTLED_OPSET = 13, 21
"""From the first on nothing has to be converted (`hefjoin.emulator.translate`); every ONNX Runtime that we run on
knows the second."""
SMALL_ELEMENTS = 1024
"""Of constants whose values may decide about shapes; those of larger ones are let go."""
PASSES = frozenset({"Cast", "Identity", "Transpose", "Dropout"})
"""What an image may pass before it is normalized."""


class OwnNormalization(Record):
    """Affine steps at the beginning of a graph: they show the network (x - mean) / std."""

    nodes: tuple[str, ...]
    mean: tuple[float, ...]
    """One for each channel, or one for all; so is `std`."""
    std: tuple[float, ...]
    readers: tuple[str, ...] = ()
    """The nodes that read what they give; empty where one has no name."""


class Head(Record):
    """What a file says."""

    opset: int
    inputs: tuple[str, ...]
    shape: tuple[int | str, ...]
    """Of the first input; an open axis by its symbol. Empty where the file does not say."""
    dtype: str
    """As ONNX names it: `FLOAT`, `UINT8`."""
    is_channels_last: bool
    operators: dict[str, int]
    outputs: tuple[str, ...]
    normalization: OwnNormalization | None = None
    """What it does of itself before anything else."""
    cast_readers: tuple[str, ...] = ()
    """Where all that reads the image is a Cast to float32: the nodes behind it; empty where one has no name."""
    unsettled: tuple[str, ...] = ()
    """Why only a parse can tell whether it can be parsed."""

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Height, width and channels; None where the file leaves one open, or takes no image."""
        sizes = [size for size in self.shape[1:] if isinstance(size, int) and size > 0]
        if len(self.shape) != 4 or len(sizes) != 3:
            return None
        height, width, channels = sizes if self.is_channels_last else (sizes[1], sizes[2], sizes[0])
        return height, width, channels


def read_head(path: Path) -> Head:
    """Read a file.

    Raises:
        InputError: It is no whole ONNX model.
    """
    try:
        return _Reader(onnx_file.load(path)).head()
    except ValidationError as error:  # names that are not UTF-8
        raise InputError(f"{path}: names in it are no text; {onnx_file.EXPORT_AGAIN}") from error


def weighted_behind(path: Path, end_nodes: Sequence[str]) -> int:
    """Return how many nodes with a kernel lie in no way to the end nodes, and are lost if a network ends there.

    Raises:
        InputError: It is no whole ONNX model.
    """
    graph = onnx_file.load(path).graph
    wanted = {name for node in graph.node if node.name in end_nodes for name in node.output}
    kept = 0
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept += node.op_type in WEIGHTED_OPS
    return sum(node.op_type in WEIGHTED_OPS for node in graph.node) - kept


class _Reader:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.made = {name for node in self.graph.node if node.op_type == "Constant" for name in node.output}
        self.inputs = [info for info in self.graph.input if info.name not in self.initializers]

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    def head(self) -> Head:
        import onnx

        first = self.inputs[0] if self.inputs else onnx.ValueInfoProto()
        kind = first.type.tensor_type
        known = onnx.TensorProto.DataType.values()
        return Head(
            opset=self.opset,
            inputs=tuple(info.name for info in self.inputs),
            shape=tuple(axis.dim_value or axis.dim_param or "?" for axis in kind.shape.dim),
            dtype=onnx.TensorProto.DataType.Name(kind.elem_type) if kind.elem_type in known else str(kind.elem_type),
            is_channels_last=is_channels_last(first, self.readers.get(first.name, ())),
            operators=dict(Counter(node.op_type for node in self.graph.node).most_common()),
            outputs=tuple(info.name for info in self.graph.output),
            normalization=self.normalization(first.name) if first.name else None,
            cast_readers=self.behind_cast(first.name) if first.name else (),
            unsettled=tuple(dict.fromkeys(self.unsettled())),
        )

    @property
    def opset(self) -> int:
        found = (entry.version for entry in self.model.opset_import if entry.domain in STANDARD_DOMAINS)
        return next(found, 0)

    def is_constant(self, name: str) -> bool:
        return name in self.initializers or name in self.made

    def unsettled(self) -> Iterator[str]:
        """Yield what only a parse can settle: why it may refuse, or translate more than is here."""
        import onnx

        if len(self.inputs) != 1:
            yield f"{len(self.inputs)} inputs"
            return
        kind = self.inputs[0].type.tensor_type
        sizes = [axis.dim_value for axis in kind.shape.dim]
        if kind.elem_type != onnx.TensorProto.FLOAT:
            yield "its input is no float32"
        if len(sizes) != 4 or min(sizes[1:]) < 1:
            yield "its input is no image of a known size"
        elif sizes[0] > 1:
            yield f"a batch of {sizes[0]}"
        if not LEAST_OPSET <= self.opset <= SETTLED_OPSET:
            yield f"opset {self.opset}"
        if self.model.functions:
            yield "functions"
        for node in self.graph.node:
            if node.op_type != "Constant" and not self._is_plain(node):
                yield f"{node.op_type} {node.name}".rstrip()
        yield from self._odd_outputs()

    def _is_plain(self, node: onnx.NodeProto) -> bool:
        """Return whether a node computes of the image, and a layer can stand for it."""
        is_fed = any(name and not self.is_constant(name) for name in node.input)
        has_bodies = any(item.HasField("g") or item.graphs for item in node.attribute)
        return is_fed and not has_bodies and has_layer(node, self.is_constant)

    def _odd_outputs(self) -> Iterator[str]:
        """Yield outputs that are not made by a node or have no shape of an output, and shapes that contradict."""
        from onnx import checker, shape_inference

        made = {name for node in self.graph.node for name in node.output}
        for tensor in self.graph.initializer:  # inference serializes the model
            if math.prod(tensor.dims) > SMALL_ELEMENTS:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                    tensor.ClearField(field)
        try:
            inferred = shape_inference.infer_shapes(self.model, strict_mode=True, data_prop=True)
        except (shape_inference.InferenceError, checker.ValidationError, ValueError, RuntimeError) as error:
            yield f"its shapes: {error}"
            return
        shapes = {tensor.name: [*tensor.dims] for tensor in inferred.graph.initializer}
        for info in (*inferred.graph.input, *inferred.graph.value_info):
            shapes.setdefault(info.name, [axis.dim_value for axis in info.type.tensor_type.shape.dim])
        yield from filter(None, (contradiction(node, lambda item: shapes.get(item, [])) for node in self.graph.node))
        for info in inferred.graph.output:
            if info.name not in made or not 2 <= len(info.type.tensor_type.shape.dim) <= 4:
                yield f"its output {info.name}"

    def normalization(self, tensor: str) -> OwnNormalization | None:
        """Follow an image from the input on, as long as it is multiplied and added to by constants alone."""
        import numpy as np

        scale, shift = np.array([1.0]), np.array([0.0])
        nodes: list[str] = []
        passed: set[str] = set()
        with np.errstate(all="ignore"):
            while tensor not in passed and len(readers := self.readers.get(tensor, [])) == 1 and readers[0].output:
                passed.add(tensor)
                node = readers[0]
                if node.op_type not in PASSES:
                    factor, summand = self._affine(node, tensor) or (None, None)
                    if factor is None or summand is None or not _are_channels(scale, factor, summand):
                        break
                    scale, shift = scale * factor, shift * factor + summand
                    nodes.append(node.name or f"{node.op_type} behind {tensor}")
                tensor = node.output[0]
            mean, std = np.broadcast_arrays(-shift / scale, 1 / scale)
        if not nodes or not (np.isfinite(mean) & np.isfinite(std)).all():
            return None
        return OwnNormalization(
            nodes=tuple(nodes), mean=tuple(mean.tolist()), std=tuple(std.tolist()), readers=self._named_readers(tensor)
        )

    def behind_cast(self, tensor: str) -> tuple[str, ...]:
        """Return the nodes behind the one Cast to float32 that reads a tensor."""
        import onnx

        readers = self.readers.get(tensor, [])
        casts = [node for node in readers if node.op_type == "Cast"]
        targets = [item.i for node in casts for item in node.attribute if item.name == "to"]
        if len(readers) != 1 or targets != [onnx.TensorProto.FLOAT] or not readers[0].output:
            return ()
        return self._named_readers(casts[0].output[0])

    def _named_readers(self, tensor: str) -> tuple[str, ...]:
        names = tuple(node.name for node in self.readers.get(tensor, []))
        return names if all(names) else ()

    def _affine(self, node: onnx.NodeProto, tensor: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (scale, shift) of a node that does x · scale + shift, by channel or for all alike."""
        import numpy as np

        if node.op_type == "BatchNormalization":
            values = [self._values(name) for name in node.input[1:5]]
            epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
            known = [value for value in values if value is not None]
            if len(known) != 4 or not _are_channels(*known):
                return None
            gamma, beta, mean, variance = known
            scale = gamma / np.sqrt(variance + epsilon)
            return scale, beta - mean * scale
        if node.op_type not in ("Sub", "Add", "Mul", "Div") or len(node.input) != 2:
            return None
        constant = self._values(node.input[1] if node.input[0] == tensor else node.input[0])
        if constant is None or (node.op_type in ("Sub", "Div") and node.input[0] != tensor):
            return None
        return {
            "Sub": (np.ones(1), -constant),
            "Add": (np.ones(1), constant),
            "Mul": (constant, np.zeros(1)),
            "Div": (1 / constant, np.zeros(1)),
        }[node.op_type]

    def _values(self, name: str) -> np.ndarray | None:
        """Return a constant of at most four numbers; None where it is none."""
        import onnx
        from onnx import numpy_helper

        tensor = self.initializers.get(name)
        if tensor is None:
            given = (node for node in self.graph.node if node.op_type == "Constant" and name in node.output)
            tensor = next((item.t for node in given for item in node.attribute if item.name == "value"), None)
        is_inside = tensor is not None and tensor.data_location != onnx.TensorProto.EXTERNAL
        if tensor is None or not is_inside or not 1 <= math.prod(tensor.dims) <= 4:
            return None
        try:
            return numpy_helper.to_array(tensor).astype("float64").ravel()
        except (ValueError, TypeError, LookupError):  # fewer values than the shape says, or of no type
            return None


def _are_channels(*values: np.ndarray) -> bool:
    """Return whether values can be those of one row of channels: as many, or one for all."""
    return len({array.size for array in values} - {1}) <= 1
