"""Benchmark: run the HEF on real frames and time it, on the device that runs what was built."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hefjoin.artifacts import Ref
from hefjoin.devices import open_device
from hefjoin.devices.emulated import cpu_name
from hefjoin.manifest import Measured
from hefjoin.sdk.log import Progress
from hefjoin.spec import DeviceKind
from hefjoin.stages.contract import Stage, Workplace


class Benchmark(Stage[Measured]):
    """Measure throughput and latency.

    Requires: a HEF and frames of its input's shape. Ensures: a figure for each batch size, with its source.
    """

    stage: ClassVar[str] = "benchmark"
    version: ClassVar[int] = 1
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
        return cpu_name()

    def run(self, work: Path, place: Workplace) -> Measured:
        """Bring the HEF and the frames to the device."""
        suffix = "emulated.hef" if self.is_emulated else "hef"
        hef = place.store.get(self.hef, work / f"{self.name}.{suffix}")
        frames = place.store.get(self.frames, work / "frames.npy")

        def on_round(done: int, total: int) -> None:
            if place.on_progress is not None:
                place.on_progress(Progress("Benchmark", done, total))

        device = open_device(self.device, self.is_emulated)
        return device.benchmark(hef, frames, self.batch_sizes, self.seconds, on_round)

    def ensures(self, result: Measured) -> None:
        """Check that nothing emulated is taken for a measurement on a device."""
        assert [batch.batch_size for batch in result.batches] == list(self.batch_sizes)
        assert (result.source == "emulator") == self.is_emulated
