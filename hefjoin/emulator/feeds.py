"""Read what the API's callers hand over as data: arrays, dictionaries of arrays, .npy files.

The rule: frames are NHWC and raw (0–255), batch first, as for the DFC; a graph's input is NCHW.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hefjoin.emulator import exceptions
from hefjoin.emulator.exposed_definitions import CalibrationDataType
from hefjoin.emulator.graph import Array, Graph
from hefjoin.emulator.hn import nhwc

CHUNK_FRAMES = 16


class Feeds:
    """A data set for the inputs of a graph, handed out one frame at a time."""

    def __init__(self, model: onnx.ModelProto, dataset: Any) -> None:
        shapes = Graph(model).shapes
        self._inputs = {info.name: shapes[info.name] for info in model.graph.input}
        self._sources = self._by_input(dataset)
        for name, source in self._sources.items():
            self._check(name, _open(source).shape)
        self.count = min(len(_open(source)) for source in self._sources.values())
        self.is_uint8 = all(_open(source).dtype == np.uint8 for source in self._sources.values())

    def _by_input(self, dataset: Any) -> dict[str, Any]:
        if isinstance(dataset, Mapping):
            if set(dataset) != set(self._inputs):
                raise exceptions.BadInputsShape(
                    f"the data set has {', '.join(sorted(dataset))}; the input layers are {', '.join(self._inputs)}"
                )
            return dict(dataset)
        if len(self._inputs) != 1:
            raise exceptions.BadInputsShape(
                f"one array for {len(self._inputs)} inputs; give a dictionary of {', '.join(self._inputs)}"
            )
        return {next(iter(self._inputs)): dataset}

    def _check(self, name: str, given: tuple[int, ...]) -> None:
        shape = self._inputs[name]
        expected = tuple(nhwc(shape)[1:])
        if not given or tuple(given[1:]) != expected or not given[0]:
            raise exceptions.BadInputsShape(
                f"Data shape {tuple(given)} for layer {name} doesn't match network's input shape {expected}"
            )

    def frames(self, count: int | None = None, start: int = 0) -> Iterator[dict[str, Array]]:
        """Yield feeds of one frame each, float32, channels first; those before `start` are not read."""
        if count is not None and count < 1:
            raise exceptions.InvalidArgumentsException(f"data_count must be at least 1, is {count}")
        for chunk in self._chunks(start, self.count if count is None else min(count, self.count)):
            for index in range(len(next(iter(chunk.values())))):
                yield {name: _channels_first(array[index : index + 1]) for name, array in chunk.items()}

    def sha256(self, count: int) -> bytes:
        """Return a digest of the first `count` frames, as they were handed over."""
        digest = hashlib.sha256()
        for chunk in self._chunks(0, min(count, self.count)):
            for name, array in sorted(chunk.items()):
                digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def _chunks(self, start: int, stop: int) -> Iterator[dict[str, Array]]:
        for first in range(start, stop, CHUNK_FRAMES):
            last = min(first + CHUNK_FRAMES, stop)
            # A file is mapped for one chunk only: mapped pages count as resident memory until they are let go.
            yield {name: np.array(_open(source)[first:last]) for name, source in self._sources.items()}


def _channels_first(frame: Array) -> Array:
    frame = frame.astype(np.float32)
    return np.ascontiguousarray(frame.transpose(0, 3, 1, 2) if frame.ndim == 4 else frame)


def refuse_unlike(data_type: CalibrationDataType, dataset: Any) -> None:
    """Raise unless a data set is what the caller says it is.

    Raises:
        exceptions.InvalidArgumentsException: `data_type` names arrays and there is a path, or the other way round.
    """
    if not isinstance(data_type, CalibrationDataType):
        raise exceptions.InvalidArgumentsException(f"data_type must be a CalibrationDataType, is {data_type!r}")
    sources = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    forms: dict[CalibrationDataType, tuple[type, ...]] = {
        CalibrationDataType.np_array: (np.ndarray,),
        CalibrationDataType.npy_file: (str, Path),
    }
    if data_type in forms and not all(isinstance(source, forms[data_type]) for source in sources):
        raise exceptions.InvalidArgumentsException(
            f"data_type is {data_type.name}, the data set is {type(sources[0]).__name__}"
        )


def to_nhwc(array: Array) -> Array:
    """Return an output as the API gives it: channels last, with a height of 1 where there is one image axis."""
    if array.ndim == 3:
        array = array[:, :, np.newaxis]
    return array.transpose(0, *range(2, array.ndim), 1) if array.ndim > 2 else array


def _open(source: Any) -> Array:
    if isinstance(source, np.ndarray):
        return source
    if not isinstance(source, str | Path):
        raise exceptions.InvalidArgumentsException(
            f"a data set is an array, a dictionary of arrays or the path of a .npy file, not {type(source).__name__}"
        )
    try:
        found = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise exceptions.InvalidArgumentsException(f"{source} is not a readable .npy file: {error}") from error
    if not isinstance(found, np.ndarray):
        raise exceptions.InvalidArgumentsException(f"{source} holds several arrays; give the path of a .npy file")
    return found
