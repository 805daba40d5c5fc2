"""Compare what two SDKs compute: outputs by signal-to-noise ratio, scales by their relative difference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from hefjoin.conformance.recording import Observed, Recorded, Recording
from hefjoin.formats.hef import Hef

SAME_SNR_DB = 100.0
"""From here on two results count as equal: what float32 leaves when sums are taken in another order is less."""
SAME_SCALE = 1e-5
"""Relative difference up to which two scales count as equal; a HEF stores them as float32."""
SHOWN_DIGITS = 4
NOT_THERE = "–"


Ratio = float | Literal["equal", "not comparable"]
"""SNR in dB, where there is one."""
Pair = tuple[str, str, str, str]
"""(where, what, in the first, in the second)."""


def snr_db(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Return 10·log10(Σ reference² / Σ (reference − other)²) in dB; infinite where both are equal.

    Not-a-number in one of them only, or as the reference's power, gives minus infinity.

    >>> round(snr_db(np.float32([1, -1]), np.float32([1.1, -1.1])), 2)
    20.0
    """
    if np.array_equal(reference, other, equal_nan=True):
        return math.inf
    exact = reference.astype(np.float64)
    with np.errstate(all="ignore"):
        noise = float(np.sum(np.square(exact - other)))
        ratio = float(np.sum(np.square(exact))) / noise
        return 10 * math.log10(ratio) if math.isfinite(ratio) and ratio > 0 else -math.inf


def compare_numbers(
    first: Recording, second: Recording, both: list[tuple[Recorded, Recorded]]
) -> tuple[list[Pair], dict[str, Ratio]]:
    """Return what differs, and the SNR of every array that both have, by `<case>/<context>.<index>`.

    Args:
        first: The reference.
        second: What is measured against it.
        both: The cases that both have.
    """
    pairs = list(_networks(first, second))
    ratios: dict[str, Ratio] = {}
    for left, right in both:
        case = left.observed.name
        for output in [output for output in left.numbers if output in right.numbers]:
            ratio, pair = _output(case, output, left.numbers[output], right.numbers[output])
            ratios[f"{case}/{output}"] = ratio
            pairs += pair
        for output in sorted(left.numbers.keys() ^ right.numbers.keys()):
            sides = (
                "there" if output in left.numbers else NOT_THERE,
                "there" if output in right.numbers else NOT_THERE,
            )
            pairs.append((case, f"the output {output}", *sides))
        pairs += _scales(case, left.observed, right.observed)
    return pairs, ratios


def _networks(first: Recording, second: Recording) -> Iterator[Pair]:
    mine, other = first.environment.networks, second.environment.networks
    for name in sorted(mine.keys() | other.keys()):
        if mine.get(name) != other.get(name):
            sides = (str(networks.get(name, NOT_THERE))[:12] for networks in (mine, other))
            yield name, "the file itself: its numbers cannot be compared", next(sides), next(sides)


def _output(
    case: str, output: str, reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> tuple[Ratio, list[Pair]]:
    if reference.shape != other.shape:
        return "not comparable", [(f"{case}/{output}", "shape", str(reference.shape), str(other.shape))]
    ratio = snr_db(reference, other)
    if math.isinf(ratio):
        is_equal = ratio > 0
        return (
            ("equal", []) if is_equal else ("not comparable", [(f"{case}/{output}", "values", "reference", "no SNR")])
        )
    return ratio, [] if ratio >= SAME_SNR_DB else [(f"{case}/{output}", "values", "reference", f"SNR {ratio:.1f} dB")]


def _scales(case: str, first: Observed, second: Observed) -> Iterator[Pair]:
    for file in sorted(first.hefs.keys() & second.hefs.keys()):
        left, right = _quantization(first.hefs[file]), _quantization(second.hefs[file])
        for name in sorted(left.keys() & right.keys()):
            if not all(
                math.isclose(mine, other, rel_tol=SAME_SCALE)
                for mine, other in zip(left[name], right[name], strict=True)
            ):
                sides = (
                    f"scale {scale:.{SHOWN_DIGITS}g}, zero point {zero:g}" for scale, zero in (left[name], right[name])
                )
                yield f"{case}/{file}/{name}", "quantization", next(sides), next(sides)


def _quantization(hef: Hef | str) -> dict[str, tuple[float, float]]:
    """Return (scale, zero point) of every virtual stream, by its name."""
    groups = () if isinstance(hef, str) else hef.groups
    return {stream.name: (stream.scale, stream.zero_point) for group in groups for stream in group.vstreams}
