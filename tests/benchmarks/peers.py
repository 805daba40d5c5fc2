"""Other quantizers, at the settings that their documentation advises for convolutional networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any


def _static(model: Any, frames: Any, **settings: Any) -> bytes:
    """Quantize with ONNX Runtime: unsigned activations, signed kernels per channel."""
    import tempfile
    from pathlib import Path

    from onnxruntime import quantization

    name = model.graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[Any] = iter(frames)

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self.rest, None)
            return None if frame is None else {name: frame[None]}

    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "quantized.onnx"
        quantization.quantize_static(
            _with_opset(model),
            str(result),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            per_channel=True,
            **{"weight_type": quantization.QuantType.QInt8, **settings},
        )
        return result.read_bytes()


def _with_opset(model: Any) -> Any:
    """Return the model with an opset that has scales per channel."""
    from onnx import shape_inference, version_converter

    version = max(item.version for item in model.opset_import)
    return shape_inference.infer_shapes(version_converter.convert_version(model, 13) if version < 13 else model)


def _percentile(model: Any, frames: Any) -> bytes:
    from onnxruntime import quantization

    return _static(
        model,
        frames,
        calibrate_method=quantization.CalibrationMethod.Percentile,
        extra_options={"CalibPercentile": 99.999},
    )


def _four_bits(model: Any, frames: Any) -> bytes:
    """Quantize with 8-bit activations and ONNX Runtime's own 4-bit kernels."""
    from onnx import version_converter
    from onnxruntime import quantization

    return _static(version_converter.convert_version(model, 21), frames, weight_type=quantization.QuantType.QInt4)


def _nncf(model: Any, frames: Any) -> bytes:
    """Quantize with NNCF's MIXED preset: bias correction, signed or unsigned activations as the ranges ask for."""
    os.environ["CI"] = "1"  # without it, importing it sends usage data
    import nncf

    name = model.graph.input[0].name
    dataset = nncf.Dataset([{name: frame[None]} for frame in frames])
    quantized = nncf.quantize(
        _with_opset(model), dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(frames)
    )
    return bytes(quantized.SerializeToString())


QUANTIZERS: dict[str, Callable[[Any, Any], bytes]] = {
    "ort": _static,
    "ort_percentile": _percentile,
    "ort4": _four_bits,
    "nncf": _nncf,
}


def outputs_of(quantized: bytes, frames: Any) -> Any:
    """Return the first output for all frames."""
    import numpy as np

    from hefjoin.sessions import open_session

    session = open_session(quantized)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: frame[None]})[0] for frame in frames])
