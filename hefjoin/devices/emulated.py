"""The emulated device: ONNX Runtime on this machine's CPU.

The rule: it refuses a real HEF, and its figures say `emulator`. Frames per second of a CPU are no statement about
the chip; they show that the whole path works and whether one build is slower than another on the same machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hefjoin.devices.emulated_turns import EmulatedTurns
from hefjoin.devices.frames import Array, dequantized, input_frames
from hefjoin.devices.in_line import time_in_line
from hefjoin.devices.rounds import summary
from hefjoin.devices.turns import Side, Turns
from hefjoin.errors import DeviceError
from hefjoin.formats import hef as hef_file
from hefjoin.results.measured import BatchMeasurement, Measured
from hefjoin.sessions import open_session

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
        images = input_frames(frames, hef_file.read(hef))
        load = os.getloadavg()[0]
        rounds = max(LEAST_ROUNDS, round(seconds / ROUND_SECONDS))
        measured = []
        for index, size in enumerate(batch_sizes):

            def report(done: int, before: int = index * rounds) -> None:
                if on_round is not None:
                    on_round(before + done, rounds * len(batch_sizes))

            measured.append(_measure(session, batches(images, size), seconds / rounds, rounds, report))
        return Measured(
            source="emulator",
            device=f"emulator on {cpu_name()}",
            method="ONNX Runtime",
            batches=tuple(measured),
            load_average=load,
        )

    def outputs(self, hef: Path, frames: Path) -> dict[str, npt.NDArray[np.float32]]:
        """Run every frame by itself and return dequantized outputs; the graph gives them in the HEF's order."""
        session, found = self.open(hef), hef_file.read(hef)
        name, images = session.get_inputs()[0].name, input_frames(frames, found)
        rows = [session.run(None, {name: images[i : i + 1]}) for i in range(len(images))]
        return {
            stream.name: dequantized(np.concatenate(arrays), stream)
            for stream, arrays in zip(found.groups[0].outputs, zip(*rows, strict=True), strict=True)
        }

    @contextmanager
    def turns(self, sides: Sequence[Side], frames: Path, batch_size: int) -> Iterator[Turns]:
        """Time sides by turns, each on one thread in a session of its own that is made anew for each block."""
        alone = type(self)(threads=self.threads or 1)
        openers = {hef: alone.opener(hef) for side in sides for hef in side}
        feeds = {hef: batches(input_frames(frames, hef_file.read(hef)), batch_size) for hef in openers}
        with time_in_line() as in_line:
            yield EmulatedTurns([[(openers[hef], feeds[hef]) for hef in side] for side in sides], cpu_name(), in_line)

    def open(self, hef: Path) -> Any:
        """Return an ONNX Runtime session of an emulated HEF: quantized frames in (NHWC), quantized outputs out."""
        return self.opener(hef)()

    def opener(self, hef: Path) -> Callable[[], Any]:
        """Return what opens a session of an emulated HEF, any number of times; the file is read once.

        Raises:
            DeviceError: The HEF is not an emulated one.
        """
        found = hef_file.read(hef)
        if not found.is_emulated:
            raise DeviceError(
                f"{hef.name} was compiled by DFC {found.sdk_version} for a {found.hw_arch}: its microcode runs on the "
                "chip only. Measure it on a machine with a Hailo-8",
                reason="refused",
                is_transient=False,
            )
        graph = hef_file.resource(hef, GRAPH_RESOURCE)
        return lambda: open_session(graph, self.threads)


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
    return summary(size, fps, latencies)


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


def batches(images: Array, size: int) -> list[Array]:
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
