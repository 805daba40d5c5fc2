"""The HEF as it ran.

The rule: what ran says its source, so that nothing emulated is taken for a measurement of the chip."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref
from hefjoin.results.quantized import ModelAccuracy


class BatchMeasurement(Record):
    """Timed rounds at one batch size."""

    batch_size: int
    rounds_fps: tuple[float, ...]
    fps: float
    """Median of the rounds."""
    fps_low: float
    fps_high: float
    """95 % confidence interval of the median, see `hefjoin.devices.rounds`."""
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    """Host round trip of one batch; None where it was not measured."""
    overall_latency_ms: float | None = None
    """Mean host round trip of one frame, as `hailortcli` gives it."""
    hw_fps: float | None = None
    """Frames per second of the chip alone, without the host (`hw_only`)."""
    hw_latency_ms: float | None = None
    """Of one frame through the chip alone."""


class Range(Record):
    """A sensor over the time of a measurement."""

    low: float
    mean: float
    high: float
    samples: int


class Earlier(Record):
    """What an earlier build of the name came to where this one was measured: same machine, same device, same way."""

    build_id: str
    created_at: str
    """ISO 8601, UTC."""
    fps: float
    """At the smallest batch of this build; its source is that of this build."""


class Measured(Record):
    """The HEF as it ran."""

    source: Literal["device", "emulator", "not measured"]
    device: str
    """What measured, or why nothing could."""
    batches: tuple[BatchMeasurement, ...]
    load_average: float
    """Of the host over the last minute, when the measurement began."""
    method: str = ""
    """How: `InferModel async, 8 frames in flight`, `hailortcli run`."""
    power_w: Range | None = None
    temperature_c: Range | None = None
    is_throttled: bool | None = None
    """The chip slowed itself down; None where it cannot be asked."""
    accuracy: tuple[ModelAccuracy, ...] = ()
    """Of the outputs that the device gave, against the float network; empty where none were read back."""
    outputs: Ref | None = None
    """.npz with `device_<i>` per output that could be compared, as in `Quantized.outputs`."""
    versions: dict[str, str] = Field(default_factory=dict)
    """HailoRT, driver and firmware, where there are any."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""
