"""Reads ONNX files: what `hefjoin inspect` shows of them, and the one door through which models are loaded.

The rule kept here: every file that is no usable ONNX model ends in an `InputError` that says which kind of wrong
it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hefjoin.errors import InputError

if TYPE_CHECKING:
    import onnx

EXPORT_AGAIN = "export or fetch the model again"
PROTOBUF_LIMIT_BYTES = 2**31 - 1
INT64_MAX = 2**63 - 1


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output of the graph."""

    name: str
    shape: tuple[int | str, ...] | None
    """A size, a symbol such as `batch`, or `?` for each axis; None where the file does not say."""
    dtype: str
    """As ONNX names it: `FLOAT`, `UINT8`, …"""


@dataclass(frozen=True)
class OnnxSummary:
    """What an ONNX file holds; weights kept outside it are counted, not read."""

    ir_version: int
    opsets: dict[str, int]
    """Operator domain (`ai.onnx` is the standard one) to version."""
    producer: str
    inputs: tuple[OnnxTensor, ...]
    """What a caller feeds: initializers are left out."""
    outputs: tuple[OnnxTensor, ...]
    operators: dict[str, int]
    """Operator to how often it occurs, subgraphs included, the most frequent first."""
    parameters: int
    """Elements of all initializers."""
    size_bytes: int
    """Of the file alone."""


def read(path: Path | str) -> OnnxSummary:
    """Summarize an ONNX file without loading external data.

    Raises:
        InputError: as `load`; or a weight has a shape that no tensor can have.
    """
    path = Path(path)
    model = load(path)
    graphs = list(_graphs(model.graph))
    weights = {tensor.name for tensor in model.graph.initializer}
    return OnnxSummary(
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        operators=dict(Counter(node.op_type for graph in graphs for node in graph.node).most_common()),
        parameters=sum(_elements(path, tensor) for graph in graphs for tensor in graph.initializer),
        size_bytes=path.stat().st_size,
    )


def load(path: Path | str) -> onnx.ModelProto:
    """Load an ONNX model; weights that lie in files beside it stay there (`onnx_weights`).

    Raises:
        InputError: the file is missing, empty, a Git LFS pointer, other text, truncated, otherwise damaged, larger
            than a protobuf may be, or a protobuf without graph or operator sets.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    content = _content(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise InputError(f"{path}: {_why_unreadable(content)}; {EXPORT_AGAIN}") from error
    if not model.HasField("graph"):
        raise InputError(
            f"{path}: {len(content):,} bytes of protobuf without a graph: no ONNX model, or one cut off before its "
            f"graph; {EXPORT_AGAIN}"
        )
    if not model.opset_import:
        raise InputError(
            f"{path}: a graph without operator set versions ({len(content):,} bytes): the file is cut off behind "
            f"its graph, or no exporter wrote it; {EXPORT_AGAIN}"
        )
    return model


def _content(path: Path) -> bytes:
    """Return the bytes of a file that may be ONNX."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no file there; give the path of an ONNX model")
        size_bytes = path.stat().st_size
        if size_bytes > PROTOBUF_LIMIT_BYTES:
            raise InputError(
                f"{path}: {size_bytes:,} bytes, a protobuf has at most {PROTOBUF_LIMIT_BYTES:,}; save the model "
                "with its weights as external data"
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: empty, 0 bytes; {EXPORT_AGAIN}")
    if content.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer, not the model itself; run `git lfs pull` where it came from")
    return content


def _why_unreadable(content: bytes) -> str:
    """Say why a file that protobuf refuses is unreadable, by walking its outermost fields.

    The wire format (https://protobuf.dev/programming-guides/encoding) starts each field with a varint: field number
    and wire type. A file that was cut off has good fields up to one that asks for more bytes than there are.
    """
    import onnx

    fields = {field.number: field.name for field in onnx.ModelProto.DESCRIPTOR.fields}
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        if place > len(content):
            break
        name, wire_type = fields.get(tag >> 3), tag & 7
        if name is None or wire_type not in (0, 2):
            return f"no ONNX model: {len(content):,} bytes that start with {content[:8].hex(' ')}"
        value, place = _varint(content, place)
        if wire_type == 2:
            place += value
        if place > len(content):
            return f"truncated, {len(content):,} of at least {place:,} bytes: the file ends inside `{name}`"
    return f"damaged inside its fields, its {len(content):,} bytes have the right length"


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the varint at `place` and where it ends, which lies behind `content` if it was cut off."""
    value = 0
    for shift in range(0, 70, 7):
        if place + shift // 7 >= len(content):
            return value, len(content) + 1
        byte = content[place + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, place + shift // 7 + 1


def _tensor(value: onnx.ValueInfoProto) -> OnnxTensor:
    import onnx

    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return OnnxTensor(value.name, None, kind.removesuffix("_type").upper())
    tensor = value.type.tensor_type
    known = onnx.TensorProto.DataType.values()
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in known else str(tensor.elem_type)
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim
        )
    return OnnxTensor(value.name, shape, dtype)


def _elements(path: Path, tensor: onnx.TensorProto) -> int:
    """Count the elements of an initializer, at most `INT64_MAX` of them."""
    elements = 1
    for size in tensor.dims:
        elements *= size
        if size < 0 or elements > INT64_MAX:
            raise InputError(
                f"{path}: initializer {tensor.name[:40]!r} has the shape {list(tensor.dims[:8])} ({len(tensor.dims):,} "
                f"axes): sizes are at least 0, their product is below 2**63; {EXPORT_AGAIN}"
            )
    return elements


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the graphs in its nodes' attributes (`If`, `Loop`)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)
