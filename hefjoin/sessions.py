"""ONNX Runtime sessions as the emulator and the emulated device use them: on the CPU, exact, idle when idle."""

from __future__ import annotations

from typing import Any

DISABLED_OPTIMIZERS = ["WeightBiasQuantization"]
"""It puts float biases into 32 bits at the scale of kernel and input, which overflows for 16-bit kernels."""


def open_session(graph: bytes, threads: int = 0) -> Any:
    """Return an `onnxruntime.InferenceSession`.

    Args:
        graph: The serialized model.
        threads: Threads inside an operator; 0 for one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between operators burn the CPU of whatever else runs on a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
    )
