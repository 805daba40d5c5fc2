"""Layer-wise reconstruction: choose a kernel's integers so that the layer's output, not the kernel, errs least.

With x what a feature's kernel w is laid over (a patch, in integers as the layers before give it) and H = E[x xᵀ], the
error of the output is (w - q) H (w - q)ᵀ. The kernel is

1. given the scale of least error Σ Hᵢᵢ (wᵢ - qᵢ)² among `SHRINKS` of the one that holds w;
2. rounded one input after the other, the largest Hᵢᵢ first, the error of each being made up by those that follow.

H is not taken about the mean of x, so that the mean output is kept as well and hardly any of it is left to the bias.
The number of steps is that of the inputs, and nothing is random.

Source: GPTQ, Frantar et al. 2022 (arXiv 2210.17323), algorithm 1, after Optimal Brain Surgeon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hefjoin.emulator.graph import Array, attributes
from hefjoin.emulator.walk import Stop

PLACES = 8192
"""Output places, over all frames, at which a layer is looked at."""
DAMPING = 0.01
"""Of the mean of H's diagonal, added to it."""
SHRINKS = np.arange(1.0, 0.39, -0.05)
BLOCK = 128


def reconstruct(stop: Stop) -> None:
    """Give the node the kernel whose quantized form errs least; kernels of 16 bits and odd forms stay as they are."""
    kernel = stop.kernel
    if stop.bits > 8 or not _is_understood(stop):
        return
    groups = int(attributes(stop.node).get("group", 1)) if stop.node.op_type == "Conv" else 1
    matrix = _as_matrix(stop, kernel).astype(np.float64)
    per_group = len(matrix) // groups
    fitted, steps = np.empty_like(matrix), np.empty(len(matrix), np.float32)
    for group, second in enumerate(_second_moments(stop, groups)):
        rows = slice(group * per_group, (group + 1) * per_group)
        fitted[rows], steps[rows] = fit(matrix[rows], second, stop.bits)
    stop.set_kernel(_as_kernel(stop, fitted, kernel.shape), steps)


def fit(kernel: Array, second: Array, bits: int) -> tuple[Array, Array]:
    """Return the quantized kernel, float64, and its float32 scales.

    Args:
        kernel: float64, shape (features, inputs).
        second: E[x xᵀ], float64, shape (inputs, inputs).
        bits: Of the kernel, at most 8.
    """
    level = float(np.mean(np.diag(second)))
    if level <= 0:
        second, level = np.eye(len(second)), 1.0
    top = (1 << (bits - 1)) - 1
    steps = _steps(kernel, np.diag(second), top)
    order = np.argsort(-np.diag(second), kind="stable")
    damped = (second + DAMPING * level * np.eye(len(second)))[np.ix_(order, order)]
    rounded = np.empty_like(kernel)
    rounded[:, order] = _rounded(kernel[:, order], damped, steps.astype(np.float64), top)
    return rounded, steps


def _steps(wanted: Array, weight: Array, top: int) -> Array:
    largest = np.max(np.abs(wanted), axis=1) / top
    best, least = np.where(largest > 0, largest, 1.0), np.full(len(wanted), np.inf)
    for share in SHRINKS:
        steps = (np.where(largest > 0, largest, 1.0) * share).astype(np.float32).astype(np.float64)[:, np.newaxis]
        lost = np.square(wanted - np.clip(np.rint(wanted / steps), -top, top) * steps) @ weight
        better = lost < least
        best[better], least[better] = steps[better, 0], lost[better]
    return best.astype(np.float32)


def _rounded(wanted: Array, second: Array, steps: Array, top: int) -> Array:
    """Round one column after the other; each error is spread over the columns that are left, as H tells."""
    upper = np.linalg.cholesky(np.linalg.inv(second)).T
    left, result = wanted.copy(), np.empty_like(wanted)
    for start in range(0, wanted.shape[1], BLOCK):
        stop = min(start + BLOCK, wanted.shape[1])
        errors = np.empty((len(wanted), stop - start))
        for column in range(start, stop):
            value = left[:, column]
            result[:, column] = np.clip(np.rint(value / steps), -top, top) * steps
            errors[:, column - start] = (value - result[:, column]) / upper[column, column]
            left[:, column:stop] -= np.outer(errors[:, column - start], upper[column, column:stop])
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return result


def _second_moments(stop: Stop, groups: int) -> Iterator[Array]:
    """Yield E[x xᵀ] of each group, float64."""
    taken = [_laid_over(stop, index) for index in range(len(stop.exact))]
    inputs = taken[0].shape[1] // groups
    for group in range(groups):
        x = np.concatenate([places[:, group * inputs : (group + 1) * inputs] for places in taken])
        yield (x.T @ x).astype(np.float64) / len(x)


def _laid_over(stop: Stop, index: int) -> Array:
    """Return what the kernel is laid over in a frame: float32, shape (places, inputs of all groups)."""
    source, target = stop.rough_inputs[index], stop.exact[index]
    if stop.node.op_type != "Conv":
        return source.reshape(-1, source.shape[-1])
    every = math.ceil(math.sqrt(target.shape[2] * target.shape[3] * len(stop.exact) / PLACES))
    return _patches(source, stop, max(1, min(every, *target.shape[2:])))


def _patches(source: Array, stop: Stop, every: int) -> Array:
    """Return what the kernel is laid over at each `every`th place of both axes: (places, inputs)."""
    given = attributes(stop.node)
    size, stride, dilation = stop.kernel.shape[2:], given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    reach = [(s - 1) * d + 1 for s, d in zip(size, dilation, strict=True)]
    pads = _pads(given, source.shape[2:], reach, stride)
    padded = np.pad(source[0], ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = sliding_window_view(padded, reach, axis=(1, 2))
    windows = windows[:, :: stride[0] * every, :: stride[1] * every, :: dilation[0], :: dilation[1]]
    return np.ascontiguousarray(windows.transpose(1, 2, 0, 3, 4)).reshape(windows.shape[1] * windows.shape[2], -1)


def _pads(given: dict[str, object], shape: tuple[int, ...], reach: list[int], stride: list[int]) -> list[int]:
    mode = given.get("auto_pad", b"NOTSET")
    if mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = given.get("pads", [0, 0, 0, 0])
        assert isinstance(pads, list)
        return pads
    whole = [max(0, (-(-n // s) - 1) * s + r - n) for n, r, s in zip(shape, reach, stride, strict=True)]
    small, large = [n // 2 for n in whole], [n - n // 2 for n in whole]
    return small + large if mode == b"SAME_UPPER" else large + small


def _is_understood(stop: Stop) -> bool:
    kind, rank = stop.node.op_type, stop.kernel.ndim
    return (kind == "Conv" and rank == 4) or (kind in ("Gemm", "MatMul") and rank == 2)


def _as_matrix(stop: Stop, kernel: Array) -> Array:
    """Return the kernel as (features, inputs)."""
    if stop.node.op_type == "Conv":
        return kernel.reshape(len(kernel), -1)
    return kernel if attributes(stop.node).get("transB") else kernel.T


def _as_kernel(stop: Stop, matrix: Array, shape: tuple[int, ...]) -> Array:
    if stop.node.op_type == "Conv":
        return matrix.reshape(shape)
    return matrix if attributes(stop.node).get("transB") else matrix.T
