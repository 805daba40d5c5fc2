"""ONNX Runtime sessions as the emulator and the emulated device use them: on the CPU, exact, idle when idle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DISABLED_OPTIMIZERS = ["WeightBiasQuantization"]
"""It puts float biases into 32 bits at the scale of kernel and input, which overflows for 16-bit kernels."""


def open_session(graph: bytes, threads: int = 0, weights: Mapping[str, Any] | None = None) -> Any:
    """Return an `onnxruntime.InferenceSession`.

    Args:
        graph: The serialized model.
        threads: Threads inside an operator; 0 for one per core.
        weights: Arrays of the initializers whose bytes are not in the graph, by name; the session keeps them.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between operators burn the CPU of whatever else runs on a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in (weights or {}).items()}
    options.add_external_initializers(list(held), list(held.values()))
    session = onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
    )
    session.held = held  # their memory is numpy's, and the session computes with it
    return session
