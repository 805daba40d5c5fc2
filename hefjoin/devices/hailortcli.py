"""The device through HailoRT's command-line program, where its Python API is not installed.

The rules:

1. Throughput is measured in several short runs, on real frames. Latency needs runs of its own, in which the program
   sends one batch at a time; it gives their mean, no percentiles.
2. A sensor that the board does not have fails a whole run: it is found out before anything is measured.
3. The program hands no outputs back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar

from hefjoin.devices import guard
from hefjoin.devices import hailortcli_output as output
from hefjoin.devices.claim import claimed
from hefjoin.devices.frames import input_frames
from hefjoin.devices.hailortcli_program import Program
from hefjoin.devices.rounds import summary
from hefjoin.devices.turns import Side, Turns
from hefjoin.errors import DeviceError, ToolchainError
from hefjoin.formats.hef import Hef
from hefjoin.results.measured import BatchMeasurement, Measured, Range
from hefjoin.results.timed import Conditions

Row = TypeVar("Row", output.Run, output.Summary)

WINDOW_SECONDS = 2
"""The program takes whole seconds."""
LEAST_WINDOWS = 3
TURN_SECONDS = 1
WARM_UP_SECONDS = 1
MOST_INPUT_BYTES = 64 << 20
"""The program reads its input file into memory; frames beyond this are left out."""
RUN, RUN2, BENCHMARK = "run.csv", "run2.json", "benchmark.csv"
"""Where each command writes, in the program's directory."""
SENSORS = {"power": "--measure-power", "temperature": "--measure-temp"}


class HailoRtCliDevice:
    """Runs real HEFs with `hailortcli`; see `hefjoin.devices.Device`."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look for the driver below `root`, where `/sys` is."""
        self.root = root

    def benchmark(
        self,
        hef: Path,
        frames: Path,
        batch_sizes: tuple[int, ...],
        seconds: float,
        on_round: Callable[[int, int], None] | None = None,
    ) -> Measured:
        """Time the HEF in repeated runs after a warm-up; latency, the chip alone and power in runs beside them."""
        described = guard.admit(hef)
        load = os.getloadavg()[0]
        with TemporaryDirectory(prefix="hefjoin-hailortcli-") as folder:
            program = Program.found(Path(folder))
            host = program.host(self.root)
            guard.refuse_mismatch(described, host)  # with a driver of another version the device does not answer
            host = program.identified(host)
            guard.refuse_mismatch(described, host)
            raw = raw_frames(frames, described, Path(folder))
            windows = max(LEAST_WINDOWS, round(seconds / WINDOW_SECONDS))
            done = iter(range(1, windows * len(batch_sizes) + 1))

            def report() -> None:
                if on_round is not None:
                    on_round(next(done), windows * len(batch_sizes))

            with claimed(host.device_id):
                bench = Bench(program, hef.resolve(), raw, max(1, round(seconds / windows)))
                bench.warm_up()
                batches = [bench.measure(size, windows, report) for size in batch_sizes]
                bench.compare(batch_sizes)
        return Measured(
            source="device",
            device=f"{host.architecture or 'Hailo device'} at {host.device_id}",
            batches=tuple(batches),
            load_average=load,
            method=f"hailortcli run, {windows} runs of {bench.seconds} s for each batch size",
            power_w=_over(bench.sensed["power"]),
            temperature_c=_over(bench.sensed["temperature"]),
            versions=host.versions,
            notes=(*guard.notes(described, host), *bench.notes),
        )

    def outputs(self, hef: Path, frames: Path) -> None:
        """Return None: `hailortcli` hands no outputs back."""

    @contextmanager
    def turns(self, sides: Sequence[Side], frames: Path, batch_size: int) -> Iterator[Turns]:
        """Time sides by turns, a run of the program for each round; a side is one HEF."""
        found = {path: guard.admit(path) for side in sides for path in side}
        if any(len(side) > 1 for side in sides):
            raise DeviceError(
                "hailortcli feeds several HEFs with frames of its own making only, so they cannot be one side: install "
                "HailoRT's Python package on this machine and measure with device hailort",
                reason="refused",
                is_transient=False,
            )
        with TemporaryDirectory(prefix="hefjoin-hailortcli-") as folder:
            program = Program.found(Path(folder))
            host = program.identified(program.host(self.root))
            benches = {}
            for number, (path, hef) in enumerate(found.items()):
                guard.refuse_mismatch(hef, host)
                own = Path(folder) / str(number)
                own.mkdir()
                raw = raw_frames(frames, hef, own)
                benches[path] = Bench(program._replace(folder=own), path.resolve(), raw, TURN_SECONDS)
            notes = tuple(dict.fromkeys(note for hef in found.values() for note in guard.notes(hef, host)))
            with claimed(host.device_id):
                for bench in benches.values():
                    bench.warm_up()
                yield CliTurns([benches[side[0]] for side in sides], batch_size, host, notes)


class Bench:
    """The runs of one HEF on one device, and what they sensed besides throughput."""

    def __init__(self, program: Program, hef: Path, raw: Path, seconds: int) -> None:
        """Measure `hef` with the input file `raw`, which lies in the program's directory, `seconds` in each run."""
        self.program = program
        self.hef = str(hef)
        self.raw = raw
        self.seconds = seconds
        self.sensed: dict[str, list[output.Spread]] = {name: [] for name in SENSORS}
        self.notes: list[str] = []
        self._sensors = dict(SENSORS)

    def warm_up(self) -> None:
        """Run once, and leave out the sensors that the device does not have: a run with one of them fails."""
        while True:
            try:
                self._run(WARM_UP_SECONDS, *self._sensors.values())
                return
            except DeviceError as error:
                absent = {
                    name: said
                    for said in error.attributes.get("said", ())
                    for name in self._sensors
                    if re.search(rf"\b{name}\b", said, re.IGNORECASE)
                }
                if not absent:
                    raise
                for name, said in absent.items():
                    del self._sensors[name]
                    self.notes.append(f"{name}: not available ({said})")

    def measure(self, size: int, windows: int, on_window: Callable[[], None]) -> BatchMeasurement:
        """Return the figures of one batch size."""
        batch = ("--batch-size", str(size))
        fps = []
        for _ in range(windows):
            fps.append(self.fps(size))
            on_window()
        hw_fps = _throughput(self._run(self.seconds, *batch, "-m", "hw_only"), f"batch {size}, hw_only")
        latency = self._run(self.seconds, *batch, "--measure-latency", "--measure-overall-latency")
        return summary(
            size,
            fps,
            hw_fps=hw_fps,
            hw_latency_ms=latency.hw_latency_ms,
            overall_latency_ms=latency.overall_latency_ms,
        )

    def fps(self, size: int) -> float:
        """Return frames per second of one run, and keep what it sensed."""
        run = self._run(self.seconds, "--batch-size", str(size), "-m", "streaming", *self._sensors.values())
        self._sense(run)
        return _throughput(run, f"batch {size}")

    def compare(self, batch_sizes: Sequence[int]) -> None:
        """Note what the program's other ways to measure give, on frames of their own making, and what is missing."""
        for name in self._sensors:
            if not self.sensed[name]:
                self.notes.append(f"{name}: not available (hailortcli gave no value)")
        for size in batch_sizes:
            self._note(f"hailortcli run2 full_async, batch {size}", partial(self._full_async, size))
        size = batch_sizes[0]
        self._note(f"hailortcli benchmark, batch {size}", partial(self._summary, size))

    def _run(self, seconds: int, *options: str) -> output.Run:
        where = ("--dont-show-progress", "-s", self.program.device_id, "--input-files", self.raw.name)
        self.program.run("run", self.hef, "-t", str(seconds), "--csv", RUN, *options, *where, seconds=seconds)
        return _only(output.runs(self.program.written(RUN)))

    def _full_async(self, size: int) -> str:
        options = ("-s", self.program.device_id, "-t", str(self.seconds), "-m", "full_async", "-j", RUN2)
        self.program.run("run2", *options, "set-net", self.hef, "--batch-size", str(size), seconds=self.seconds)
        run = _only(output.run2(self.program.written(RUN2)))
        return f"{_throughput(run, 'run2'):.2f} FPS"

    def _summary(self, size: int) -> str:
        options = ("-t", str(self.seconds), "--batch-size", str(size), "--csv", BENCHMARK)
        where = ("-s", self.program.device_id)
        self.program.run("benchmark", self.hef, *options, *where, seconds=3 * self.seconds)
        found = _only(output.benchmark(self.program.written(BENCHMARK)))
        figures = {
            "FPS hw_only": found.hw_fps,
            "FPS streaming": found.streaming_fps,
            "ms hardware latency": found.hw_latency_ms,
            "W mean": found.power_w and found.power_w.mean,
        }
        return ", ".join(f"{value:.2f} {unit}" for unit, value in figures.items() if value is not None)

    def _note(self, what: str, measure: Callable[[], str]) -> None:
        try:
            self.notes.append(f"{what}: {measure()}")
        except (DeviceError, ToolchainError) as error:
            self.notes.append(f"{what}: not available ({error})")

    def _sense(self, run: output.Run) -> None:
        for name, found in (("power", run.power_w), ("temperature", run.temperature_c)):
            if found is not None:
                self.sensed[name].append(found)


class CliTurns:
    """See `hefjoin.devices.turns.Turns`; every round is a process that loads the HEF anew."""

    source: Literal["device", "emulator"] = "device"

    def __init__(self, sides: Sequence[Bench], batch_size: int, host: guard.Host, notes: tuple[str, ...]) -> None:
        """Prepare to time the HEFs of `sides`."""
        self.device = f"{host.architecture or 'Hailo device'} at {host.device_id}"
        self.method = f"hailortcli run, {TURN_SECONDS} s each"
        self._sides, self._batch_size, self._host, self._notes = sides, batch_size, host, notes

    def begin(self, order: Sequence[int]) -> None:
        """Do nothing: each run is a process of its own."""

    def fps(self, side: int) -> float:
        """Run the program once."""
        return self._sides[side].fps(self._batch_size)

    def conditions(self) -> Conditions:
        """Return what the runs sensed."""
        benches = dict.fromkeys(self._sides)
        sensed = {name: [each for bench in benches for each in bench.sensed[name]] for name in SENSORS}
        notes = [*self._notes, *(note for bench in benches for note in bench.notes)]
        return Conditions(
            temperature_c=_over(sensed["temperature"]),
            power_w=_over(sensed["power"]),
            versions=self._host.versions,
            notes=tuple(dict.fromkeys([*notes, "throttling: not available (hailortcli does not say it)"])),
        )


def raw_frames(frames: Path, hef: Hef, folder: Path) -> Path:
    """Write frames as `hailortcli --input-files` reads them: one after the other, in the input's type and order.

    The size of the file must be a multiple of a frame's (`create_dataset_from_files` of hailo-ai/hailort v4.23.0); the
    program repeats it.

    Args:
        frames: .npy, uint8, (frames, height, width, channels).
        hef: What they are for.
        folder: Where to write.

    Raises:
        InputError: As `input_frames`.
    """
    images = input_frames(frames, hef)
    images[: max(1, MOST_INPUT_BYTES // images[0].nbytes)].tofile(folder / "frames.bin")
    return folder / "frames.bin"


def _only(rows: Sequence[Row]) -> Row:
    if len(rows) != 1:
        raise DeviceError(f"hailortcli measured {len(rows)} network groups, not one: compile the join anew")
    return rows[0]


def _throughput(run: output.Run, what: str) -> float:
    if run.problem:
        raise DeviceError(f"{run.group}, {what}: hailortcli wrote {run.problem}")
    if not run.fps or run.frames == 0:
        raise DeviceError(f"{run.group}, {what}: no frame came back: look at `dmesg | grep -i hailo`, restart")
    return run.fps


def _over(spreads: Sequence[output.Spread]) -> Range | None:
    """Return a sensor over all runs: lowest, mean of the means, highest."""
    if not spreads:
        return None
    return Range(
        low=min(spread.low for spread in spreads),
        mean=sum(spread.mean for spread in spreads) / len(spreads),
        high=max(spread.high for spread in spreads),
        samples=len(spreads),
    )
