"""Benchmark: run the HEF on real frames and time it, on the device that runs what was built."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import ClassVar

from hefjoin.artifacts import Ref
from hefjoin.devices import open_device
from hefjoin.devices.emulated import cpu_name
from hefjoin.errors import DeviceError
from hefjoin.manifest import Measured
from hefjoin.sdk.log import Progress
from hefjoin.spec import DeviceKind
from hefjoin.stages.contract import Stage, Workplace

NO_DEVICE = "no device drives a real HEF in this release; run `hailortcli benchmark` on it"


class Benchmark(Stage[Measured]):
    """Measure throughput and latency.

    Requires: a HEF and frames of its input's shape. Ensures: a figure for each batch size, with its source; or none,
    and why.
    """

    stage: ClassVar[str] = "benchmark"
    version: ClassVar[int] = 2
    result: ClassVar[type[Measured]] = Measured

    name: str
    hef: Ref
    is_emulated: bool
    frames: Ref
    batch_sizes: tuple[int, ...]
    seconds: float
    device: DeviceKind
    host: str
    """The machine: a figure of one is not reused for another."""

    @staticmethod
    def this_host() -> str:
        """Return what tells machines apart whose figures differ."""
        return f"{platform.node()}, {cpu_name()}"

    def run(self, work: Path, place: Workplace) -> Measured:
        """Bring the HEF and the frames to the device."""
        suffix = "emulated.hef" if self.is_emulated else "hef"
        hef = place.store.get(self.hef, work / f"{self.name}.{suffix}")
        frames = place.store.get(self.frames, work / "frames.npy")

        def on_round(done: int, total: int) -> None:
            if place.on_progress is not None:
                place.on_progress(Progress("Benchmark", done, total))

        device = open_device(self.device, self.is_emulated)
        if device is None:
            return Measured(source="not measured", device=NO_DEVICE, batches=(), load_average=os.getloadavg()[0])
        return device.benchmark(hef, frames, self.batch_sizes, self.seconds, on_round)

    def ensures(self, result: Measured) -> None:
        """Check that nothing emulated is taken for a measurement on a device."""
        measured = [batch.batch_size for batch in result.batches]
        wanted = list(self.batch_sizes) if result.source != "not measured" else []
        if measured != wanted or (result.source == "emulator") != self.is_emulated:
            raise DeviceError(
                f"{self.name}: {result.device} measured batch sizes {measured} as {result.source!r}, not {wanted}",
                is_transient=False,
            )
