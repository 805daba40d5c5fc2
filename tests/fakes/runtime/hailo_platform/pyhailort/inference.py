"""InferModel and what comes of it: formats before `configure`, buffers before `run_async`, a queue that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np

from hailo_platform.pyhailort import chip
from hailo_platform.pyhailort._pyhailort import FormatOrder, FormatType
from hailo_platform.pyhailort.errors import HailoRTException, error_of
from hailo_platform.pyhailort.hef import HEF, format_of, quant_infos
from hailo_platform.pyhailort.streams import Stream

TIMEOUT, INVALID_OPERATION, INVALID_HEF, NOT_FOUND = 4, 6, 26, 61
NOT_ACTIVATED, QUEUE_IS_FULL, NOT_COMPATIBLE = 69, 82, 93
BOX_VALUES = 5


class InferModel:
    class InferStream:
        def __init__(self, model: InferModel, stream: Stream) -> None:
            self._model, self._stream = model, stream
            self._type = FormatType[stream.dtype]

        @property
        def name(self) -> str:
            return self._stream.name

        @property
        def shape(self) -> list[int]:
            shape = self._stream.shape
            return [shape[0] * (1 + shape[1] * shape[2])] if self.is_nms else list(shape)

        @property
        def format(self) -> SimpleNamespace:
            return format_of(self._stream, self._type)

        @property
        def quant_infos(self) -> list[SimpleNamespace]:
            return quant_infos(self._stream)

        @property
        def is_nms(self) -> bool:
            return self.format.order is FormatOrder.HAILO_NMS_BY_CLASS

        def set_format_type(self, type: FormatType) -> None:
            if not isinstance(type, FormatType):
                raise TypeError(f"incompatible function arguments: {type!r}")
            self._model._check_open()
            self._type = FormatType[self._stream.dtype] if type is FormatType.AUTO else type

    def __init__(self, hef: HEF, vdevice: Any) -> None:
        group = hef._group(None)
        self._hef, self._vdevice, self._batch_size, self._is_configured = hef, vdevice, 0, False
        self._inputs = {stream.name: InferModel.InferStream(self, stream) for stream in group.inputs}
        self._outputs = {stream.name: InferModel.InferStream(self, stream) for stream in group.outputs}

    @property
    def hef(self) -> HEF:
        return self._hef

    @property
    def input_names(self) -> list[str]:
        return list(self._inputs)

    @property
    def output_names(self) -> list[str]:
        return list(self._outputs)

    @property
    def inputs(self) -> list[InferModel.InferStream]:
        return list(self._inputs.values())

    @property
    def outputs(self) -> list[InferModel.InferStream]:
        return list(self._outputs.values())

    def input(self, name: str = "") -> InferModel.InferStream:
        return _named(self._inputs, name)

    def output(self, name: str = "") -> InferModel.InferStream:
        return _named(self._outputs, name)

    def set_batch_size(self, batch_size: int) -> None:
        self._check_open()
        self._batch_size = batch_size

    def configure(self) -> ConfiguredInferModel:
        self._vdevice._check()
        if self._hef._hw_arch not in chip.TAKES[chip.settings().architecture]:
            raise error_of(NOT_COMPATIBLE)
        if len(self._hef.get_network_group_names()) != 1:
            raise error_of(INVALID_HEF)
        self._is_configured = True
        return ConfiguredInferModel(self)

    def _check_open(self) -> None:
        """Refuse what the real package ignores: formats and batch sizes are fixed once it is configured."""
        if self._is_configured:
            raise error_of(INVALID_OPERATION)


def _named(streams: dict[str, Any], name: str) -> Any:
    """Return a stream, without a name the only one.

    The package's docstrings promise HailoRTNotFoundException for both; `infer_model.cpp` tells them apart.
    """
    if not name and len(streams) != 1:
        raise error_of(INVALID_OPERATION)
    if name and name not in streams:
        raise error_of(NOT_FOUND)
    return streams[name or next(iter(streams))]


class AsyncInferJob:
    def __init__(self) -> None:
        self._done = threading.Event()

    def wait(self, timeout_ms: int) -> None:
        if not self._done.wait(timeout_ms / 1e3):
            raise error_of(TIMEOUT)


class ConfiguredInferModel:
    class Bindings:
        class InferStream:
            def __init__(self, stream: InferModel.InferStream) -> None:
                self._stream = stream
                self._buffer: np.ndarray[Any, Any] | None = None

            def set_buffer(self, buffer: np.ndarray[Any, Any]) -> None:
                if not buffer.flags.c_contiguous:
                    raise HailoRTException("Buffer must be C_CONTIGUOUS")
                if not buffer.flags.writeable:  # of an input too
                    raise ValueError("array is not writeable")
                self._buffer = buffer

            def get_buffer(self, tf_format: bool | None = False) -> Any:
                """Return the buffer as it is, or detections: by class, or with `tf_format` as one array."""
                if tf_format is None or self._buffer is None or not self._stream.is_nms:
                    return self._buffer
                classes, _, boxes = self._stream._stream.shape
                by_class = _by_class(self._buffer.reshape(-1), classes)
                if not tf_format:
                    return by_class
                array = np.zeros((classes, boxes, BOX_VALUES), np.float32)
                for place, found in zip(array, by_class, strict=True):
                    place[: len(found)] = found
                return array.swapaxes(1, 2)

        def __init__(self, model: InferModel) -> None:
            self._inputs = {stream.name: self.InferStream(stream) for stream in model.inputs}
            self._outputs = {stream.name: self.InferStream(stream) for stream in model.outputs}

        def input(self, name: str = "") -> Any:
            return _named(self._inputs, name)

        def output(self, name: str = "") -> Any:
            return _named(self._outputs, name)

    def __init__(self, model: InferModel) -> None:
        self._model = model
        self._has_scheduler = model._vdevice._has_scheduler
        self._is_active = self._has_scheduler
        self._pipe: Any = chip.Pipe(model.input_names[0], self._compute)

    def __enter__(self) -> ConfiguredInferModel:
        return self

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        """Let go of everything: as with the package, whatever is called then is an AttributeError."""
        self.shutdown()
        self._pipe = None

    def shutdown(self) -> None:
        self._pipe.shut_down()

    def activate(self) -> None:
        self._check_no_scheduler()
        self._is_active = True

    def deactivate(self) -> None:
        self._check_no_scheduler()
        self._is_active = False

    def create_bindings(
        self,
        input_buffers: dict[str, np.ndarray[Any, Any]] | None = None,
        output_buffers: dict[str, np.ndarray[Any, Any]] | None = None,
    ) -> ConfiguredInferModel.Bindings:
        bindings = self.Bindings(self._model)
        for name, buffer in (input_buffers or {}).items():
            bindings.input(name).set_buffer(buffer)
        for name, buffer in (output_buffers or {}).items():
            bindings.output(name).set_buffer(buffer)
        return bindings

    def get_async_queue_size(self) -> int:
        return self._pipe.size

    def wait_for_async_ready(self, timeout_ms: int = 1000, frames_count: int = 1) -> None:
        if not self._pipe.wait_for_room(frames_count, timeout_ms / 1e3):
            raise error_of(TIMEOUT)

    def run(self, bindings: list[Bindings], timeout: int) -> None:
        self.run_async(bindings).wait(timeout)

    def run_async(self, bindings: list[Bindings], callback: Callable[..., Any] | None = None) -> AsyncInferJob:
        """Send frames; whatever is refused also shuts the model down."""
        self._model._vdevice._check()
        if not isinstance(bindings, list):
            raise TypeError("bindings must be a list")
        if status := self._refusal(bindings):
            self.shutdown()
            raise error_of(status)
        job = AsyncInferJob()

        def done(status: int) -> None:
            if callback is not None:
                callback(completion_info=SimpleNamespace(exception=error_of(status) if status else None))
            job._done.set()

        self._pipe.send(bindings, done)
        return job

    def _refusal(self, bindings: list[Bindings]) -> int:
        """Return the status with which frames are refused, or 0."""
        for each in bindings:
            if not all(_fits(stream) for stream in each._outputs.values()):
                return INVALID_OPERATION
            if any(stream._buffer is None for stream in each._inputs.values()):
                return NOT_FOUND
            if not all(_fits(stream) for stream in each._inputs.values()):
                return INVALID_OPERATION
        if self._pipe.status:
            return int(self._pipe.status)
        if not self._is_active:
            return NOT_ACTIVATED
        return 0 if self._pipe.has_room(len(bindings)) else QUEUE_IS_FULL

    def _check_no_scheduler(self) -> None:
        if self._has_scheduler:
            raise error_of(INVALID_OPERATION)

    def _compute(self, bindings: Bindings) -> None:
        sent = b"".join(each._buffer.tobytes() for each in bindings._inputs.values() if each._buffer is not None)
        for each in bindings._outputs.values():
            stream, buffer = each._stream._stream, each._buffer
            if buffer is None:
                continue
            if each._stream.is_nms:
                classes, _, boxes = stream.shape
                buffer.reshape(-1)[...] = chip.stored_detections(stream.name, classes, boxes, sent)
                continue
            stored = chip.stored_output(stream.name, stream.shape, stream.dtype.lower(), sent)
            if each._stream._type is FormatType.FLOAT32:
                zero_points, scales = (np.array(values, np.float32) for values in (stream.zero_points, stream.scales))
                stored = (stored - zero_points) * scales
            buffer.reshape(stream.shape)[...] = stored


def _fits(stream: ConfiguredInferModel.Bindings.InferStream) -> bool:
    """Return whether a buffer has the bytes of its stream.

    The package asks for no more; the type is asked for too, because it would read the same bytes as other numbers.
    """
    wanted = np.dtype(stream._stream._type.name.lower())
    buffer = stream._buffer
    return (
        buffer is not None
        and buffer.dtype == wanted
        and buffer.nbytes == wanted.itemsize * int(np.prod(stream._stream.shape))
    )


def _by_class(buffer: np.ndarray[Any, Any], classes: int) -> list[np.ndarray[Any, Any]]:
    """Return the detections of each class: float32, (detections, 5)."""
    found, start = [], 0
    for _ in range(classes):
        end = start + 1 + BOX_VALUES * int(buffer[start])
        found.append(buffer[start + 1 : end].reshape(-1, BOX_VALUES))
        start = end
    return found
