"""From timed rounds to the figures of one batch size, the same for every device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hefjoin.results.measured import BatchMeasurement

RESAMPLES = 2000
CONFIDENCE_PERCENT = (2.5, 97.5)
SEED = 8
"""The interval of equal rounds is equal."""


def summary(
    batch_size: int,
    rounds_fps: Sequence[float],
    latencies_s: Sequence[float] = (),
    *,
    hw_fps: float | None = None,
    hw_latency_ms: float | None = None,
    overall_latency_ms: float | None = None,
) -> BatchMeasurement:
    """Return the figures of one batch size.

    Args:
        batch_size: Frames sent together.
        rounds_fps: Frames per second of each round, in the order they were timed; at least one.
        latencies_s: Host round trip of each batch, seconds; empty where it was not measured.
        hw_fps: Of the chip alone, where it can be asked.
        hw_latency_ms: Of one frame through the chip alone, milliseconds.
        overall_latency_ms: Mean host round trip of one frame, milliseconds, where only a mean is known.
    """
    low, high = median_interval(rounds_fps)
    percentiles = np.percentile(np.array(latencies_s) * 1e3, [50, 95, 99]).tolist() if latencies_s else [None] * 3
    return BatchMeasurement(
        batch_size=batch_size,
        rounds_fps=tuple(rounds_fps),
        fps=float(np.median(rounds_fps)),
        fps_low=low,
        fps_high=high,
        latency_p50_ms=percentiles[0],
        latency_p95_ms=percentiles[1],
        latency_p99_ms=percentiles[2],
        hw_fps=hw_fps,
        hw_latency_ms=hw_latency_ms,
        overall_latency_ms=overall_latency_ms,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by the percentile bootstrap.

    Rounds are taken as independent; with fewer than about six of them the interval is narrower than it should be.
    """
    resampled = np.random.default_rng(SEED).choice(np.asarray(values, float), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(resampled, axis=1), CONFIDENCE_PERCENT)
    return float(low), float(high)
