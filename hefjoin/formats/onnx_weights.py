"""The weights that an ONNX model keeps in files beside it, so that the model itself stays small.

Such a tensor has `data_location: EXTERNAL` and names a file, an offset and a length (onnx.proto, `external_data`). The
rule: a file lies below the model's folder, whatever the model says, and none is read before all are known to be whole.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from hefjoin.errors import InputError

if TYPE_CHECKING:
    import onnx

PROBLEMS_SHOWN = 10
SUB_BYTE_BITS = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}


class Place(NamedTuple):
    """Where the bytes of a tensor lie."""

    location: str
    """The file, relative to the model's folder."""
    offset: int
    size_bytes: int


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor whose bytes lie outside."""
    yield from filter(_is_outside, model.graph.initializer)
    yield from nested(model)


def nested(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield those that are no initializers of the graph: sparse ones, and what nodes, bodies and functions hold."""
    found = [*_sparse(model.graph), *_of_nodes(model.graph.node)]
    for function in model.functions:
        found += _of_nodes(function.node)
    yield from filter(_is_outside, found)


def files(model: onnx.ModelProto) -> list[str]:
    """Return the files that a model's weights lie in, relative to its folder.

    Raises:
        ValueError: A tensor's place cannot be; the text says why.
    """
    return list(dict.fromkeys(place(tensor).location for tensor in tensors(model)))


def may_name_files(path: Path) -> bool:
    """Return whether a model may keep weights outside, without parsing it: the key of every place is in its bytes."""
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"location") >= 0


def place(tensor: onnx.TensorProto) -> Place:
    """Return where the bytes of a tensor lie.

    Raises:
        ValueError: The file's name leads out of the folder, or offset and length are none or not those of its shape.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{_called(tensor)} lies in {location!r}, which is no file below the model's folder")
    wanted = size_bytes(tensor)
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or wanted)
    except ValueError as error:
        raise ValueError(f"{location}: {_called(tensor)} has no whole number for its place: {error}") from None
    if offset < 0 or length != wanted:
        raise ValueError(
            f"{location}: {_called(tensor)} takes {wanted:,} bytes by shape and type, the model says {length:,} from "
            f"byte {offset:,} on"
        )
    return Place(str(path), offset, wanted)


def size_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor takes by its shape and type.

    Raises:
        ValueError: Its type has no size, or its shape cannot be.
    """
    import onnx

    known = onnx.TensorProto.DataType.values()
    name = onnx.TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in known else str(tensor.data_type)
    if name in ("UNDEFINED", "STRING") or tensor.data_type not in known or min(tensor.dims, default=0) < 0:
        raise ValueError(f"{_called(tensor)} of type {name} and shape {list(tensor.dims[:8])} has no size in bytes")
    elements: int = math.prod(tensor.dims)
    if name in SUB_BYTE_BITS:
        return -(-elements * SUB_BYTE_BITS[name] // 8)
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def refuse_unless_whole(model: onnx.ModelProto, path: Path) -> None:
    """Check that all weights outside a model are there, by the sizes of the files.

    Args:
        model: The model.
        path: Its file; the others lie below its folder.

    Raises:
        InputError: Files are missing or too short, or a place cannot be; with file, tensor, bytes wanted and found.
    """
    problems = list(_problems(model, path.parent))
    if problems:
        shown = "\n  ".join(problems[:PROBLEMS_SHOWN])
        more = f"\n  and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InputError(
            f"{path}: its external weights cannot be read:\n  {shown}{more}\n"
            "put the files beside the model, whole, as they were exported"
        )


def read_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Bring the bytes of a tensor into it, in place; they are known to be there."""
    import onnx

    where = place(tensor)
    with (folder / where.location).open("rb") as stream:
        stream.seek(where.offset)
        tensor.raw_data = stream.read(where.size_bytes)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _problems(model: onnx.ModelProto, folder: Path) -> Iterator[str]:
    for tensor in tensors(model):
        try:
            where = place(tensor)
        except ValueError as error:
            yield str(error)
            continue
        file = folder / where.location
        is_there = file.is_file()
        found = min(max(file.stat().st_size - where.offset, 0), where.size_bytes) if is_there else 0
        if found < where.size_bytes or not is_there:
            yield (
                f"{where.location}: {_called(tensor)} takes {where.size_bytes:,} bytes from byte {where.offset:,} on, "
                f"{f'{found:,} are' if is_there else 'no such file is'} there"
            )


def _called(tensor: onnx.TensorProto) -> str:
    return f"tensor {tensor.name[:80]!r}"


def _is_outside(tensor: onnx.TensorProto) -> bool:
    import onnx

    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _sparse(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from body.initializer
                yield from _sparse(body)
                yield from _of_nodes(body.node)
