"""The emulated device: ONNX Runtime on this machine's CPU.

The rule: it refuses a real HEF, and its figures say `emulator`. Frames per second of a CPU are no statement about
the chip; they show that the whole path works and whether one build is slower than another on the same machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.errors import DeviceError
from hefjoin.formats import hef as hef_file
from hefjoin.manifest import BatchMeasurement, Measured
from hefjoin.sessions import open_session

Array = npt.NDArray[Any]

ROUND_SECONDS = 0.25
LEAST_ROUNDS = 3
WARM_UP_BATCHES = 2
GRAPH_RESOURCE = "emulator.onnx"


class EmulatedDevice:
    """Runs emulated HEFs; see `hefjoin.devices.Device`."""

    def __init__(self, threads: int = 0) -> None:
        """Use `threads` threads inside an operator; 0 for one per core."""
        self.threads = threads

    def benchmark(
        self,
        hef: Path,
        frames: Path,
        batch_sizes: tuple[int, ...],
        seconds: float,
        on_round: Callable[[int, int], None] | None = None,
    ) -> Measured:
        """Time the HEF's graph in repeated rounds after a warm-up."""
        session = self.open(hef)
        images = quantized(np.load(frames, mmap_mode="r"), hef_file.read(hef).groups[0].inputs[0])
        load = os.getloadavg()[0]
        rounds = max(LEAST_ROUNDS, round(seconds / ROUND_SECONDS))
        batches = []
        for index, size in enumerate(batch_sizes):

            def report(done: int, before: int = index * rounds) -> None:
                if on_round is not None:
                    on_round(before + done, rounds * len(batch_sizes))

            batches.append(_measure(session, _batch(images, size), seconds / rounds, rounds, report))
        return Measured(
            source="emulator", device=f"emulator on {cpu_name()}", batches=tuple(batches), load_average=load
        )

    def open(self, hef: Path) -> Any:
        """Return an ONNX Runtime session of an emulated HEF: quantized frames in (NHWC), quantized outputs out."""
        found = hef_file.read(hef)
        if not found.is_emulated:
            raise DeviceError(
                f"{hef.name} was compiled by DFC {found.sdk_version} for a {found.hw_arch}: its microcode runs on the "
                "chip only. Measure it on a machine with a Hailo-8",
                is_transient=False,
            )
        return open_session(hef_file.resource(hef, GRAPH_RESOURCE), self.threads)


def quantized(frames: Array, stream: hef_file.Stream) -> Array:
    """Return frames as the host sends them: integers of the input stream's type and scale.

    Args:
        frames: uint8 or float32, (frames, height, width, channels).
        stream: The HEF's input; `real = (quantized - zero_point) * scale`.
    """
    kind = np.dtype(stream.dtype.lower())
    if frames.dtype == kind and stream.scale == 1 and stream.zero_point == 0:
        return frames
    limits = np.iinfo(kind)
    return np.clip(np.rint(frames / stream.scale) + stream.zero_point, limits.min, limits.max).astype(kind)


def _measure(
    session: Any, feeds: list[Array], seconds: float, rounds: int, on_round: Callable[[int], None]
) -> BatchMeasurement:
    """Time rounds of `seconds` each, every batch by itself."""
    name = session.get_inputs()[0].name
    for batch in feeds[:WARM_UP_BATCHES]:
        session.run(None, {name: batch})
    size = len(feeds[0])
    fps, latencies = [], []
    for done in range(1, rounds + 1):
        start = time.perf_counter()
        times = list(_timed(session, name, feeds, start + seconds))
        latencies += times
        fps.append(size * len(times) / (time.perf_counter() - start))
        on_round(done)
    low, middle, high = np.percentile(fps, [25, 50, 75])
    p50, p95, p99 = np.percentile(np.array(latencies) * 1e3, [50, 95, 99])
    return BatchMeasurement(
        batch_size=size,
        rounds_fps=tuple(fps),
        fps=float(middle),
        fps_low=float(low),
        fps_high=float(high),
        latency_p50_ms=float(p50),
        latency_p95_ms=float(p95),
        latency_p99_ms=float(p99),
    )


def _timed(session: Any, name: str, feeds: list[Array], end: float) -> Iterator[float]:
    """Yield seconds per batch until `end`; at least one."""
    index = 0
    while True:
        start = time.perf_counter()
        session.run(None, {name: feeds[index % len(feeds)]})
        now = time.perf_counter()
        yield now - start
        index += 1
        if now >= end:
            return


def _batch(images: Array, size: int) -> list[Array]:
    """Return a few batches of `size` frames, repeating frames where there are too few."""
    count = min(max(1, len(images) // size), 8)
    return [np.take(images, range(i * size, (i + 1) * size), axis=0, mode="wrap") for i in range(count)]


def cpu_name() -> str:
    """Return the processor's own name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
