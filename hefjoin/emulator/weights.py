"""Large constants stay in the files they lie in until something computes with them.

The rule: of such a constant a graph holds name, shape and type, and a table beside the graph holds where its bytes
are. The files are mapped: nothing is read before it is used, and they may be renamed or removed meanwhile.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from hefjoin.emulator import exceptions
from hefjoin.errors import InputError
from hefjoin.formats import onnx_weights

LARGE_BYTES = 1 << 20
"""Constants below this are in the graph: shapes and limits are read from them."""
INLINE_LIMIT_BYTES = (1 << 31) - (1 << 26)
"""What constants may take in one graph: the rest of the 2 GiB of a protobuf is for its nodes."""
PIECE_BYTES = 1 << 20
PLAIN_KINDS = "fiub"
"""Kinds of numpy's own number types, which ONNX Runtime takes from memory; of others there is none that is large."""


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant outside its graph."""

    source: mmap.mmap | bytes
    """A file, or what was made in memory."""
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> npt.NDArray[Any]:
        """Return its values, read-only; pages of a file come to memory as they are used."""
        flat = np.frombuffer(self.source, self.dtype, self.size_bytes // self.dtype.itemsize, self.offset)
        return np.require(flat, requirements="A").reshape(self.shape)

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes, and give back the memory of each piece of a file before the next."""
        end = self.offset + self.size_bytes
        for start in range(self.offset, end, PIECE_BYTES):
            yield self.source[start : min(start + PIECE_BYTES, end)]
            if isinstance(self.source, mmap.mmap):
                page = start - start % mmap.PAGESIZE
                self.source.madvise(mmap.MADV_DONTNEED, page, min(start + PIECE_BYTES, end) - page)


Weights = Mapping[str, Weight]
"""By name of the initializer."""


def take_outside(model: onnx.ModelProto, path: Path) -> dict[str, Weight]:
    """Map the large initializers that a model keeps in files beside it, and read in all else that lies there.

    Raises:
        InputError: Files are missing or too short.
    """
    onnx_weights.refuse_unless_whole(model, path)
    try:
        return _taken(model, path.parent)
    except OSError as error:
        raise InputError(f"{path}: its external weights cannot be read: {error}") from error


def _taken(model: onnx.ModelProto, folder: Path) -> dict[str, Weight]:
    maps: dict[str, mmap.mmap] = {}
    found = {}
    for tensor in model.graph.initializer:
        if not _is_outside(tensor):
            continue
        if not _is_large(tensor):
            onnx_weights.read_in(tensor, folder)
            continue
        where = onnx_weights.place(tensor)
        if where.location not in maps:
            maps[where.location] = mapped(folder / where.location)
        found[tensor.name] = weight_of(tensor, maps[where.location], where.offset)
        leave(tensor)
    for tensor in onnx_weights.nested(model):
        onnx_weights.read_in(tensor, folder)
    return found


def take_large(model: onnx.ModelProto) -> dict[str, Weight]:
    """Take the large initializers out of a graph, in place, and return them."""
    found = {}
    for tensor in model.graph.initializer:
        if not _is_outside(tensor) and _is_large(tensor):
            is_raw = tensor.HasField("raw_data")
            found[tensor.name] = weight_of(
                tensor, tensor.raw_data if is_raw else numpy_helper.to_array(tensor).tobytes()
            )
            leave(tensor)
    return found


def inline_bytes(model: onnx.ModelProto) -> int:
    """Return how many bytes the constants take that are in the graph."""
    return sum(map(_size_bytes, filterfalse(_is_outside, model.graph.initializer)))


def _is_outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _is_large(tensor: onnx.TensorProto) -> bool:
    return _dtype(tensor).kind in PLAIN_KINDS and _size_bytes(tensor) >= LARGE_BYTES


def _size_bytes(tensor: onnx.TensorProto) -> int:
    return int(math.prod(tensor.dims)) * _dtype(tensor).itemsize


def _dtype(tensor: onnx.TensorProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))


def weight_of(tensor: onnx.TensorProto, source: mmap.mmap | bytes, offset: int = 0) -> Weight:
    """Return the constant that a tensor stands for."""
    return Weight(source, offset, _dtype(tensor), tuple(tensor.dims))


def mapped(path: Path) -> mmap.mmap:
    """Return a file as memory that is filled as it is read."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def leave(tensor: onnx.TensorProto, location: str = "outside", offset: int = 0, length: int = 0) -> None:
    """Make of a tensor, in place, one without bytes that says where they lie."""
    named = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    named.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        named.external_data.add(key=key, value=value)
    tensor.CopyFrom(named)


def converted(model: onnx.ModelProto, opset: int, weights: Weights) -> onnx.ModelProto:
    """Return the model at another opset; its constants outside stay there, which onnx 1.17 forgets."""
    model = version_converter.convert_version(model, opset)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            leave(tensor)
    return model


def fill(model: onnx.ModelProto, weights: Weights) -> None:
    """Bring the constants into the graph, in place.

    Raises:
        exceptions.InvalidArgumentsException: The graph would become too large.
    """
    inside, outside = inline_bytes(model), sum(weight.size_bytes for weight in weights.values())
    if weights and inside + outside > INLINE_LIMIT_BYTES:
        scopes = Counter[str]()
        for name, weight in weights.items():
            scopes[name.partition("/")[0]] += weight.size_bytes
        shares = ", ".join(f"{scope} {size:,}" for scope, size in scopes.items())
        raise exceptions.InvalidArgumentsException(
            f"{inside + outside:,} bytes of weights ({shares} of the large ones) are too many to be optimized; the "
            f"emulator optimizes and quantizes networks of at most {INLINE_LIMIT_BYTES:,}, all that an ONNX graph holds"
        )
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].array(), tensor.name))


def arrays(weights: Weights) -> dict[str, npt.NDArray[Any]]:
    """Return the values of all, for a session."""
    return {name: weight.array() for name, weight in weights.items()}
