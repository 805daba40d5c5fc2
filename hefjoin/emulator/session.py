"""ONNX Runtime sessions as the emulator uses them: on the CPU, quiet, and idle when idle."""

from __future__ import annotations

from typing import Any

import onnx


def open_session(model: onnx.ModelProto | bytes, threads: int = 0) -> Any:
    """Return an `onnxruntime.InferenceSession`.

    Args:
        model: The graph, or its serialized bytes.
        threads: Threads inside an operator; 0 for one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between operators burn the CPU of whatever else runs on a shared machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def with_outputs(model: onnx.ModelProto, names: list[str]) -> bytes:
    """Return the serialized graph with `names` (float32) as its only outputs; the graph is left as it was."""
    graph = model.graph
    kept = [*graph.output]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    try:
        return bytes(model.SerializeToString())
    finally:
        del graph.output[:]
        graph.output.extend(kept)
