"""Takes a model built in code through `ClientRunner`, for the emulator's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import onnx
from graphs import Array

from hefjoin.emulator import ClientRunner, InferenceContext


def parsed(model: onnx.ModelProto | Path, folder: Path, name: str = "net") -> ClientRunner:
    """Return a runner that has translated a model (or a file) under a name."""
    path = model if isinstance(model, Path) else graphs.save(model, folder, name)
    runner = ClientRunner()
    runner.translate_onnx_model(str(path), name)
    return runner


def quantized(
    model: onnx.ModelProto, folder: Path, calibration: Any, script: str = "", name: str = "net"
) -> ClientRunner:
    """Return a runner that has quantized a model on the calibration frames (NHWC)."""
    runner = parsed(model, folder, name)
    runner.load_model_script(script)
    runner.optimize(calibration)
    return runner


def infer(runner: ClientRunner, dataset: Any, how: str = "SDK_NATIVE") -> list[Array]:
    """Return the outputs for the frames in one of the contexts, always as a list."""
    with runner.infer_context(InferenceContext[how]) as context:
        found = runner.infer(context, dataset)
    return found if isinstance(found, list) else [found]
