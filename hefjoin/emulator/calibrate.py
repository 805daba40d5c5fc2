"""Learn the range of every quantized tensor from the calibration set, one frame at a time.

The rule: memory does not grow with the number of frames. Each frame's minimum and maximum are reduced inside
the graph, so that two numbers per tensor leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.graph import Array, with_outputs
from hefjoin.sessions import open_session

Ranges = dict[str, tuple[float, float]]


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[dict[str, Array]],
    progress: Callable[[int], None],
) -> Ranges:
    """Return the smallest and largest value of each tensor over all frames.

    Args:
        model: A float graph.
        tensors: Names of float tensors in it, its inputs allowed.
        frames: Feeds of the graph, one frame each.
        progress: Called with the number of frames done.

    Raises:
        exceptions.AccelerasNumerizationError: Tensors hold infinities or NaN; the first of them are named.
    """
    session, inputs = _reducing_session(model, tensors)
    low = np.full(len(tensors), np.inf)
    high = np.full(len(tensors), -np.inf)
    for done, feeds in enumerate(frames, 1):
        found = np.array(session.run(None, {name: feeds[name] for name in inputs}), dtype=np.float64).reshape(-1, 2)
        np.minimum(low, found[:, 0], out=low)
        np.maximum(high, found[:, 1], out=high)
        progress(done)
    finite = np.isfinite(low) & np.isfinite(high)
    odd = [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]
    if odd:
        raise exceptions.AccelerasNumerizationError(
            f"not finite on the calibration set: {', '.join(odd[:3])} ({len(odd)} of {len(tensors)} tensors); "
            "look for a division by zero or the logarithm of it, and for a normalization that is missing"
        )
    return {name: (float(a), float(b)) for name, a, b in zip(tensors, low, high, strict=True)}


def _reducing_session(model: onnx.ModelProto, tensors: Sequence[str]) -> tuple[Any, list[str]]:
    reductions = [
        helper.make_node(kind, [name], [f"{name}/{kind}"], f"{name}/{kind}", keepdims=0)
        for name in tensors
        for kind in ("ReduceMin", "ReduceMax")
    ]
    before = len(model.graph.node)
    model.graph.node.extend(reductions)
    try:
        data = with_outputs(model, [node.output[0] for node in reductions])
    finally:
        del model.graph.node[before:]
    session = open_session(data)
    return session, [info.name for info in session.get_inputs()]
