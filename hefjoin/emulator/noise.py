"""How much quantizing costs, layer by layer: the float and the quantized graph run side by side.

The rule: signal-to-noise ratio in dB, 10·log10(Σ signal² / Σ (signal - quantized)²), over all elements and frames.
The noise at a layer is all that has gathered up to it, not what it adds alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx

from hefjoin.emulator.graph import Array, with_outputs
from hefjoin.sessions import open_session

EXACT_DB = 120.0
"""What an output without any noise is given: more than 16 bits can show."""


def layer_snr(
    reference: onnx.ModelProto,
    quantized: onnx.ModelProto,
    tensors: Sequence[str],
    frames: Iterable[dict[str, Array]],
) -> dict[str, float]:
    """Return the SNR in dB at each tensor.

    Args:
        reference: The full-precision graph.
        quantized: The quantized graph, which has tensors of the same names.
        tensors: What to compare.
        frames: Feeds of both graphs, one frame each.
    """
    names = list(tensors)
    sessions = [open_session(with_outputs(model, names)) for model in (reference, quantized)]
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for feeds in frames:
        pairs = zip(*(session.run(None, feeds) for session in sessions), strict=True)
        for index, (exact, rough) in enumerate(pairs):
            signal[index] += np.sum(np.square(exact, dtype=np.float64))
            noise[index] += np.sum(np.square(exact.astype(np.float64) - rough))
    return {name: snr_db(s, n) for name, s, n in zip(names, signal, noise, strict=True)}


def snr_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB, at most `EXACT_DB`.

    >>> snr_db(1000.0, 1.0)
    30.0
    """
    if noise <= 0:
        return EXACT_DB
    return float(min(10 * np.log10(max(signal, np.finfo(float).tiny) / noise), EXACT_DB))
