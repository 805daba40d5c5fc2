"""InferModel and what comes of it: formats before `configure`, buffers before `run_async`, a queue that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np

from hailo_platform.pyhailort import chip
from hailo_platform.pyhailort._pyhailort import FormatType
from hailo_platform.pyhailort.errors import HailoRTException, error_of
from hailo_platform.pyhailort.hef import HEF, format_of
from hefjoin.formats import hef as hef_file

NMS_BY_CLASS = "HAILO NMS BY CLASS"


class InferModel:
    class InferStream:
        def __init__(self, model: InferModel, stream: hef_file.Stream) -> None:
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
            return [SimpleNamespace(qp_zp=self._stream.zero_point, qp_scale=self._stream.scale)]

        @property
        def is_nms(self) -> bool:
            return self._stream.order == NMS_BY_CLASS

        def set_format_type(self, type: FormatType) -> None:
            if not isinstance(type, FormatType):
                raise TypeError(f"incompatible function arguments: {type!r}")
            self._model._check_open()
            self._type = FormatType[self._stream.dtype] if type is FormatType.AUTO else type

    def __init__(self, hef: HEF, vdevice: Any) -> None:
        group = hef._group(None)
        self._hef, self._vdevice, self._batch_size, self._is_configured = hef, vdevice, 0, False
        self._inputs = [InferModel.InferStream(self, stream) for stream in group.inputs]
        self._outputs = [InferModel.InferStream(self, stream) for stream in group.outputs]

    @property
    def hef(self) -> HEF:
        return self._hef

    @property
    def input_names(self) -> list[str]:
        return [stream.name for stream in self._inputs]

    @property
    def output_names(self) -> list[str]:
        return [stream.name for stream in self._outputs]

    @property
    def inputs(self) -> list[InferModel.InferStream]:
        return self._inputs

    @property
    def outputs(self) -> list[InferModel.InferStream]:
        return self._outputs

    def input(self, name: str = "") -> InferModel.InferStream:
        return _named(self._inputs, name)

    def output(self, name: str = "") -> InferModel.InferStream:
        return _named(self._outputs, name)

    def set_batch_size(self, batch_size: int) -> None:
        self._check_open()
        self._batch_size = batch_size

    def configure(self) -> ConfiguredInferModel:
        self._vdevice._check()
        if self._hef._hef.hw_arch_number not in chip.TAKES[chip.settings().architecture]:
            raise error_of(93)
        self._is_configured = True
        return ConfiguredInferModel(self)

    def _check_open(self) -> None:
        """Refuse what the real package ignores: formats and batch sizes are fixed once it is configured."""
        if self._is_configured:
            raise error_of(6)


def _named(streams: list[Any], name: str) -> Any:
    found = [stream for stream in streams if name in ("", stream.name)]
    if len(found) != 1:
        raise error_of(61)
    return found[0]


class AsyncInferJob:
    def __init__(self) -> None:
        self._done = threading.Event()

    def wait(self, timeout_ms: int) -> None:
        if not self._done.wait(timeout_ms / 1e3):
            raise error_of(4)


class ConfiguredInferModel:
    class Bindings:
        class InferStream:
            def __init__(self, stream: InferModel.InferStream) -> None:
                self._stream, self._buffer = stream, None

            def set_buffer(self, buffer: np.ndarray[Any, Any]) -> None:
                if not buffer.flags.c_contiguous:
                    raise HailoRTException("Buffer must be C_CONTIGUOUS")
                self._buffer = buffer

            def get_buffer(self, tf_format: bool = False) -> Any:
                return self._buffer

        def __init__(self, model: InferModel) -> None:
            self._inputs = [self.InferStream(stream) for stream in model.inputs]
            self._outputs = [self.InferStream(stream) for stream in model.outputs]

        def input(self, name: str = "") -> Any:
            return _bound(self._inputs, name)

        def output(self, name: str = "") -> Any:
            return _bound(self._outputs, name)

    def __init__(self, model: InferModel) -> None:
        self._model = model
        self._has_scheduler = model._vdevice._has_scheduler
        self._is_active = self._has_scheduler
        self._is_shut = False
        self._pipe = chip.Pipe(self._compute)

    def __enter__(self) -> ConfiguredInferModel:
        return self

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        if not self._is_shut:
            self._is_shut = True
            self._pipe.close()

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
        return chip.settings().queue

    def wait_for_async_ready(self, timeout_ms: int = 1000, frames_count: int = 1) -> None:
        free, pipe = chip.settings().queue - frames_count, self._pipe
        with pipe.changed:
            if not pipe.changed.wait_for(lambda: pipe.pending_frames <= free, timeout_ms / 1e3):
                raise error_of(4)

    def run(self, bindings: list[Bindings], timeout: int) -> None:
        self.run_async(bindings).wait(timeout)

    def run_async(self, bindings: list[Bindings], callback: Callable[..., Any] | None = None) -> AsyncInferJob:
        self._model._vdevice._check()
        if not isinstance(bindings, list):
            raise TypeError("bindings must be a list")
        if self._is_shut:
            raise error_of(63)
        if not self._is_active:
            raise error_of(69)
        if self._pipe.pending_frames + len(bindings) > chip.settings().queue:
            raise error_of(82)
        for each in bindings:
            _check_buffers(each)
        job = AsyncInferJob()

        def done(status: int) -> None:
            if callback is not None:
                callback(completion_info=SimpleNamespace(exception=error_of(status) if status else None))
            job._done.set()

        self._pipe.send(bindings, done)
        return job

    def _check_no_scheduler(self) -> None:
        if self._has_scheduler:
            raise error_of(6)

    def _compute(self, bindings: Bindings) -> None:
        sent = b"".join(each._buffer.tobytes() for each in bindings._inputs)
        for each in bindings._outputs:
            stream = each._stream._stream
            if each._stream.is_nms:
                each._buffer[...] = 0
                continue
            stored = chip.stored_output(stream.name, stream.shape, stream.dtype.lower(), sent)
            is_float = each._stream._type is FormatType.FLOAT32
            each._buffer[...] = (stored - np.float32(stream.zero_point)) * stream.scale if is_float else stored


def _bound(streams: list[Any], name: str) -> Any:
    found = [each for each in streams if name in ("", each._stream.name)]
    if len(found) != 1:
        raise error_of(61)
    return found[0]


def _check_buffers(bindings: ConfiguredInferModel.Bindings) -> None:
    for each in (*bindings._inputs, *bindings._outputs):
        wanted = np.dtype(each._stream._type.name.lower())
        if each._buffer is None or each._buffer.dtype != wanted:
            raise error_of(6)
        if each._buffer.nbytes != wanted.itemsize * int(np.prod(each._stream.shape)):
            raise error_of(2)
