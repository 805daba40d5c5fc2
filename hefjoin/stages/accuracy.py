"""How far outputs are from those of an earlier stage, such as the quantized ones from the float ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.results.quantized import ModelAccuracy, OutputAccuracy

Array = npt.NDArray[Any]
MASK_THRESHOLD = 0.5
EXACT_DB = 120.0


def model_accuracy(model: str, outputs: Mapping[str, tuple[Array, Array]]) -> ModelAccuracy:
    """Compare one model's outputs.

    Args:
        model: Its name.
        outputs: By layer, (float, quantized): float32, shape (frames, …, features).
    """
    return ModelAccuracy(
        model=model,
        frames=len(next(iter(outputs.values()))[0]),
        outputs=tuple(output_accuracy(layer, exact, rough) for layer, (exact, rough) in outputs.items()),
    )


def snr_db(exact: Array, rough: Array) -> float:
    """Return 10·log10(Σ exact² / Σ (exact - rough)²) in dB, at most `EXACT_DB`.

    >>> round(snr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])))
    20
    """
    signal = float(np.sum(np.square(exact, dtype=np.float64)))
    noise = float(np.sum(np.square(exact.astype(np.float64) - rough)))
    if noise == 0:
        return EXACT_DB
    return float(min(10 * np.log10(max(signal, np.finfo(float).tiny) / noise), EXACT_DB))


def output_accuracy(layer: str, exact: Array, rough: Array) -> OutputAccuracy:
    """Compare one output, float32, shape (frames, …, features), with that of an earlier stage."""
    metric, agreement = _agreement(exact, rough)
    return OutputAccuracy(layer=layer, snr_db=snr_db(exact, rough), metric=metric, agreement=agreement)


def _agreement(exact: Array, rough: Array) -> tuple[str, float]:
    """Return how often both say the same, in the way that suits the output's shape and range."""
    if exact.shape[-1] > 1 and exact.ndim == 2:
        return "top-1", float(np.mean(exact.argmax(-1) == rough.argmax(-1)))
    if exact.ndim == 4 and exact.min() >= 0 and exact.max() <= 1:
        ours, theirs = rough > MASK_THRESHOLD, exact > MASK_THRESHOLD
        union = int(np.sum(ours | theirs))
        return f"mask IoU at {MASK_THRESHOLD}", float(np.sum(ours & theirs) / union) if union else 1.0
    flat = exact.ravel().astype(np.float64), rough.ravel().astype(np.float64)
    if min(np.std(flat[0]), np.std(flat[1])) == 0:
        return "correlation", float(np.array_equal(*flat))
    return "correlation", float(np.corrcoef(*flat)[0, 1])
