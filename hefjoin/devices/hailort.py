"""The device through HailoRT's Python API, `hailo_platform` 4.20 to 4.23.

The rules:

1. Only this file loads `hailo_platform`, by name and when a device is used.
2. The HEF is examined before a device is looked for, the device is locked before it is opened, its versions are
   compared before anything is sent to it.
3. The scheduler is set by name: the API's own default is NONE, under which a model runs only when activated by hand.
   The device is chosen in the same parameters, because HailoRT forgets them beside its `device_ids` keyword.
4. A VDevice is made, used and released within one call: it does not outlive a fork.
5. Whatever HailoRT raises leaves this file as a DeviceError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hefjoin.devices import guard
from hefjoin.devices.claim import claimed
from hefjoin.devices.frames import input_frames
from hefjoin.devices.hailort_errors import LOG_FOLDER, device_error
from hefjoin.devices.hailort_turns import HailoRtTurns
from hefjoin.devices.inflight import Buffer, Pipeline
from hefjoin.devices.rounds import summary
from hefjoin.devices.sensors import Sensors
from hefjoin.devices.turns import Side, Turns
from hefjoin.errors import DeviceError
from hefjoin.folders import work_folder
from hefjoin.formats.hef import Hef
from hefjoin.results.measured import BatchMeasurement, Measured

PACKAGE, DISTRIBUTION = "hailo_platform", "hailort"
ROUND_SECONDS = 0.25
LEAST_ROUNDS = 3
LATENCY_SHARE = 0.25
"""Of the time of a batch size, spent on round trips after the rounds."""
NMS = "NMS"


class Held(NamedTuple):
    """A device that is ours, and what runs on it."""

    platform: Any
    """The package `hailo_platform`."""
    host: guard.Host
    hef: Hef
    path: Path


class Timed(NamedTuple):
    """One batch size with its queue full."""

    batch_size: int
    rounds_fps: list[float]
    in_flight: int
    """Frames under way at a time."""


def is_installed() -> bool:
    """Return whether HailoRT's Python package is there; it is not imported."""
    return find_spec(PACKAGE) is not None


def installed_version() -> str:
    """Return the version of HailoRT's Python package; empty where it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


class HailoRtDevice:
    """Runs HEFs of the DFC on a Hailo-8; see `hefjoin.devices.Device`."""

    def benchmark(
        self,
        hef: Path,
        frames: Path,
        batch_sizes: tuple[int, ...],
        seconds: float,
        on_round: Callable[[int, int], None] | None = None,
    ) -> Measured:
        """Time the HEF with its queue full, then batch by batch for the round trip.

        Power, temperature and throttling are sampled while the queue is full.
        """
        found = guard.admit(hef)
        images = input_frames(frames, found)
        rounds = max(LEAST_ROUNDS, round(seconds / ROUND_SECONDS))
        done = iter(range(1, rounds * len(batch_sizes) + 1))

        def report() -> None:
            if on_round is not None:
                on_round(next(done), rounds * len(batch_sizes))

        load = os.getloadavg()[0]
        with _held(found, hef) as held:
            with (
                held.platform.Device(held.host.device_id) as watched,
                Sensors(watched.control, _failures()) as sensors,
            ):
                timed = [_timed(held, images, size, seconds, rounds, report) for size in batch_sizes]
            batches = [_with_latency(held, images, each, seconds * LATENCY_SHARE) for each in timed]
        return Measured(
            source="device",
            device=f"{held.host.architecture} at {held.host.device_id}",
            method=f"HailoRT InferModel.run_async, {max(each.in_flight for each in timed)} frames in flight, "
            "outputs copied to the host",
            batches=tuple(batches),
            load_average=load,
            power_w=sensors.power_w,
            temperature_c=sensors.temperature_c,
            is_throttled=sensors.is_throttled,
            versions=held.host.versions,
            notes=(*guard.notes(found, held.host), *sensors.notes, *_split(timed)),
        )

    def outputs(self, hef: Path, frames: Path) -> dict[str, npt.NDArray[np.float32]]:
        """Run every frame and return the outputs, dequantized by HailoRT; lists of detections are left out."""
        found = guard.admit(hef)
        images = input_frames(frames, found)
        with _held(found, hef) as held, _pipeline(held, 1, output_type="FLOAT32") as pipeline:
            arrays = pipeline.run(images)
        return {stream.name: arrays[stream.name] for stream in found.groups[0].outputs if NMS not in stream.order}

    @contextmanager
    def turns(self, sides: Sequence[Side], frames: Path, batch_size: int) -> Iterator[Turns]:
        """Load all HEFs onto one VDevice, whose scheduler gives the chip to the one that has frames.

        A side of several HEFs has frames for all of them at any time. The same HEF is loaded once.
        """
        found = {path: guard.admit(path) for side in sides for path in side}
        images = {path: input_frames(frames, hef) for path, hef in found.items()}
        first = sides[0][0]
        with (
            _held(found[first], first) as held,
            held.platform.Device(held.host.device_id) as watched,
            Sensors(watched.control, _failures()) as sensors,
            _opened(held) as vdevice,
            ExitStack() as loaded,
        ):
            pipelines = {}
            for path, hef in found.items():
                guard.refuse_mismatch(hef, held.host)
                model = _configured(held._replace(hef=hef, path=path), vdevice, batch_size)
                pipelines[path] = loaded.enter_context(model)
                pipelines[path].fill(images[path])
            notes = dict.fromkeys(note for hef in found.values() for note in guard.notes(hef, held.host))
            yield HailoRtTurns([[pipelines[path] for path in side] for side in sides], held.host, sensors, tuple(notes))


def _timed(
    held: Held, images: npt.NDArray[Any], size: int, seconds: float, rounds: int, on_round: Callable[[], None]
) -> Timed:
    with _pipeline(held, size) as pipeline:
        pipeline.fill(images)
        return Timed(size, pipeline.rounds_fps(seconds, rounds, on_round), pipeline.frames_in_flight)


def _with_latency(held: Held, images: npt.NDArray[Any], timed: Timed, seconds: float) -> BatchMeasurement:
    with _pipeline(held, timed.batch_size) as pipeline:
        pipeline.fill(images)
        return summary(timed.batch_size, timed.rounds_fps, pipeline.latencies_s(seconds))


def _split(timed: Sequence[Timed]) -> Iterator[str]:
    """Yield a note for each batch size of which the queue does not hold two batches."""
    for each in timed:
        if each.batch_size > 1 and each.in_flight < 2 * each.batch_size:
            yield f"batch size {each.batch_size}: the queue holds {each.in_flight} frames, so they were sent one by one"


@contextmanager
def _held(hef: Hef, path: Path) -> Iterator[Held]:
    """Hold a device and compare its versions with the HEF's."""
    platform = _platform()
    with _mapped("cannot look for devices"):
        device_id = guard.chosen(platform.Device.scan())
    with claimed(device_id):
        host = _identified(platform, device_id)
        guard.refuse_mismatch(hef, host)
        with _mapped(f"device {device_id} failed on {path.name}"):
            yield Held(platform, host, hef, path)


@contextmanager
def _opened(held: Held) -> Iterator[Any]:
    """Open the device, as a VDevice."""
    device_id = held.host.device_id
    with ExitStack() as stack:
        with _mapped(f"cannot open device {device_id}", is_seen=True):
            params = held.platform.VDevice.create_params()
            params.device_ids = [device_id]
            params.scheduling_algorithm = held.platform.HailoSchedulingAlgorithm.ROUND_ROBIN
            vdevice = stack.enter_context(held.platform.VDevice(params))
        yield vdevice


@contextmanager
def _pipeline(held: Held, batch_size: int, output_type: str = "") -> Iterator[Pipeline]:
    """Load the HEF for a batch size, on a VDevice of its own: one in use may refuse a larger batch than its first."""
    with _opened(held) as vdevice, _configured(held, vdevice, batch_size, output_type) as pipeline:
        yield pipeline


@contextmanager
def _configured(held: Held, vdevice: Any, batch_size: int, output_type: str = "") -> Iterator[Pipeline]:
    """Load the HEF for a batch size; formats are set first, because a configured model keeps them."""
    group = held.hef.groups[0]
    model = vdevice.create_infer_model(str(held.path))
    model.set_batch_size(batch_size)

    def buffer(stream: Any, kind: str) -> Buffer:
        stream.set_format_type(getattr(held.platform.FormatType, kind))
        return Buffer(tuple(stream.shape), np.dtype(kind.lower()))

    inputs = {each.name: buffer(model.input(each.name), each.dtype) for each in group.inputs}
    outputs = {each.name: buffer(model.output(each.name), output_type or each.dtype) for each in group.outputs}
    with model.configure() as configured, Pipeline(configured, inputs, outputs, batch_size) as pipeline:
        yield pipeline


def _identified(platform: Any, device_id: str) -> guard.Host:
    """Ask a device what it is; that works while another program runs on it."""
    with _mapped(f"cannot identify device {device_id}"), platform.Device(device_id) as device:
        board = device.control.identify()
    firmware = re.search(r"\d+\.\d+\.\d+", str(board.firmware_version))
    return guard.Host(
        device_id=device_id,
        architecture=board.device_architecture.name,
        hailort=platform.__version__,
        driver=guard.driver_version(),
        firmware=firmware.group() if firmware else "",
    )


def _platform() -> Any:
    """Return the package `hailo_platform`; its log goes to a folder of ours unless the environment names one."""
    folder = work_folder() / "hailort"
    if LOG_FOLDER not in os.environ:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[LOG_FOLDER] = str(folder)
    try:
        return import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name == PACKAGE:
            raise DeviceError(
                f"HailoRT's Python package {PACKAGE} is not installed here. Install the wheel of HailoRT 4.x for this "
                "Python, from Hailo's developer zone, or measure with device: hailortcli",
                reason="missing",
                is_transient=False,
            ) from error
        raise _not_loaded(error) from error
    except (ImportError, OSError) as error:
        raise _not_loaded(error) from error


def _not_loaded(error: Exception) -> DeviceError:
    return DeviceError(
        f"{PACKAGE} is installed but does not load: {error}. Library, driver and wheel must be of one HailoRT version, "
        "the wheel made for this Python, and numpy below 2: `hefjoin doctor` compares the versions",
        reason="version",
        is_transient=False,
    )


def _failures() -> tuple[type[Exception], ...]:
    """Return all that HailoRT's API raises; a raw status is no HailoRTException."""
    wrapped, raw = (import_module(f"{PACKAGE}.pyhailort.{name}") for name in ("pyhailort", "_pyhailort"))
    return wrapped.HailoRTException, wrapped.HailoStatusInvalidValueException, raw.HailoRTStatusException


@contextmanager
def _mapped(what: str, *, is_seen: bool = False) -> Iterator[None]:
    """Raise what HailoRT raises as a DeviceError; see `device_error`."""
    try:
        yield
    except _failures() as error:
        raise device_error(error, what, is_seen=is_seen) from error
