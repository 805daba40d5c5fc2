"""The device through HailoRT's Python API, on the strict fake: figures against known ones, outputs, every refusal."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.devices import claim, inflight, sensors
from hefjoin.devices.hailort import HailoRtDevice, is_installed
from hefjoin.devices.hailort_errors import status_of
from hefjoin.errors import DeviceError, InputError
from hefjoin.formats import hef as hef_file
from hefjoin.formats.hef import Edge
from hefjoin.results.measured import Measured
from tests import runtime
from tests.tiny import SIZE, images

REAL_HEFS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hef"
DEVICE = "0000:01:00.0"
FRAME_MS = 2.5


@pytest.fixture
def hef(tmp_path: Path) -> Path:
    return runtime.write_dfc_hef(tmp_path / "pair.hef")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    np.save(tmp_path / "frames.npy", images(5))
    return tmp_path / "frames.npy"


@pytest.fixture
def patch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with runtime.installed(tmp_path, frame_ms=0.5) as patch:
        yield patch


def measure(hef: Path, frames: Path, sizes: tuple[int, ...] = (1,), seconds: float = 0.05) -> Measured:
    return HailoRtDevice().benchmark(hef, frames, sizes, seconds)


def stored(name: str, shape: tuple[int, ...], dtype: str, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the integers the fake chip holds for a frame."""
    chip = importlib.import_module("hailo_platform.pyhailort.chip")
    return chip.stored_output(name, shape, dtype, frame.tobytes()).astype(np.float64)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A chip that takes 2.5 ms for a frame and queues 8."""
    folder = tmp_path_factory.mktemp("figures")
    np.save(folder / "frames.npy", images(5))
    with runtime.installed(folder, frame_ms=FRAME_MS, queue=8):
        return measure(runtime.write_dfc_hef(folder / "pair.hef"), folder / "frames.npy", (1, 4, 16), seconds=0.3)


class TestFigures:
    @pytest.mark.alone
    def test_they_are_those_of_the_chip_within_some_per_cent(self, found: Measured) -> None:
        for batch in found.batches:
            assert batch.fps == pytest.approx(1000 / FRAME_MS, rel=0.08)
            assert batch.latency_p50_ms is not None
            assert 1 <= batch.latency_p50_ms / (FRAME_MS * batch.batch_size) < 2

    def test_the_result_says_how_and_where_it_was_measured(self, found: Measured) -> None:
        assert found.source == "device"
        assert found.device == f"HAILO8 at {DEVICE}"
        assert "8 frames in flight" in found.method
        assert found.versions["HailoRT"] == found.versions["firmware"] == "4.23.0"

    def test_a_batch_that_the_queue_does_not_hold_twice_is_sent_frame_by_frame_and_said_so(
        self, found: Measured
    ) -> None:
        assert [note for note in found.notes if "batch size" in note] == [
            "batch size 16: the queue holds 8 frames, so they were sent one by one"
        ]


class TestSensors:
    def test_power_is_that_of_the_sensor_and_nothing_is_left_running(
        self, tmp_path: Path, hef: Path, frames: Path
    ) -> None:
        with runtime.installed(tmp_path, power_w=3.0):
            found = measure(hef, frames, seconds=0.7)
            assert found.power_w is not None
            assert (found.power_w.low, found.power_w.mean, found.power_w.high) == pytest.approx((2.7, 3.0, 3.3))
            assert found.power_w.samples == 1
            assert found.temperature_c is not None
            assert found.temperature_c.mean == 48.25  # the warmer of both
            assert found.is_throttled is False
            assert not importlib.import_module("hailo_platform.pyhailort.chip").PowerSensor.running

    def test_what_a_board_does_not_have_is_none_with_its_reason(self, tmp_path: Path, hef: Path, frames: Path) -> None:
        with runtime.installed(tmp_path, power_sensor=False, thermal_sensor=False):
            found = measure(hef, frames)
        assert found.power_w is None
        assert found.temperature_c is None
        notes = " ".join(found.notes)
        assert "power: not available (HailoRT has failed because an unsupported opcode" in notes
        assert "temperature: not available (libhailort control operation failed)" in notes

    def test_a_measurement_shorter_than_the_sensors_average_has_no_power(
        self, patch: Any, hef: Path, frames: Path
    ) -> None:
        found = measure(hef, frames)
        assert found.power_w is None
        assert any(f"first {sensors.SAMPLE_SECONDS} s" in note for note in found.notes)

    @pytest.mark.parametrize("is_throttled", [True, False])
    @pytest.mark.parametrize("protection", [True, False])
    def test_throttled_is_a_chip_that_slowed_down_not_one_that_could(
        self, tmp_path: Path, hef: Path, frames: Path, is_throttled: bool, protection: bool
    ) -> None:
        with runtime.installed(tmp_path, throttling=is_throttled, protection=protection):
            assert measure(hef, frames).is_throttled is is_throttled

    def test_power_measurement_stops_when_the_run_fails(self, tmp_path: Path, hef: Path, frames: Path) -> None:
        with runtime.installed(tmp_path, fail_frame=3):
            with pytest.raises(DeviceError):
                measure(hef, frames)
            assert not importlib.import_module("hailo_platform.pyhailort.chip").PowerSensor.running


class TestOutputs:
    def test_each_is_what_the_chip_stored_dequantized_in_the_order_of_the_frames(
        self, patch: Any, hef: Path, frames: Path
    ) -> None:
        found = HailoRtDevice().outputs(hef, frames)
        assert list(found) == ["left/fc1", "right/conv9"]
        for index, frame in enumerate(np.load(frames)):
            left = (stored("left/fc1", (4,), "uint8", frame) - 12.0) * 0.5
            right = (stored("right/conv9", (5, 6, 2), "uint16", frame) - 31000.0) * 0.001
            np.testing.assert_allclose(found["left/fc1"][index], left, atol=1e-5)
            np.testing.assert_allclose(found["right/conv9"][index], right, atol=1e-4)

    def test_frames_are_sent_as_integers_of_the_input(self, patch: Any, tmp_path: Path) -> None:
        path = runtime.write_dfc_hef(tmp_path / "x.hef", inputs=[Edge("pair/in", (SIZE, SIZE, 3), 1, 10.0, 2.0)])
        np.save(tmp_path / "float.npy", images(2).astype(np.float32))
        found = HailoRtDevice().outputs(path, tmp_path / "float.npy")
        sent = np.clip(np.rint(images(2)[1] / 2.0) + 10, 0, 255).astype(np.uint8)
        expected = (stored("left/fc1", (4,), "uint8", sent) - 12.0) * 0.5
        np.testing.assert_allclose(found["left/fc1"][1], expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "shapes"),
        [
            ("mnist_cnn_head", [(4, 4, 16)]),
            ("takumi_yolov8n", []),
            ("rpicam_yolov5n_seg_h8", [(160, 160, 32), (20, 20, 351), (40, 40, 351), (80, 80, 351)]),
        ],
    )
    def test_hefs_of_the_vendors_compiler_give_their_arrays_and_no_lists_of_detections(
        self, tmp_path: Path, name: str, shapes: list[tuple[int, ...]]
    ) -> None:
        path = REAL_HEFS / f"{name}.hef"
        if not path.is_file():
            pytest.skip("no HEF of the vendor's compiler here")
        shape = hef_file.read(path).groups[0].inputs[0].shape
        np.save(tmp_path / "frames.npy", np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8))
        with runtime.installed(tmp_path, frame_ms=0.5):
            found = HailoRtDevice().outputs(path, tmp_path / "frames.npy")
            assert [array.shape for array in found.values()] == [(2, *each) for each in shapes]
            assert measure(path, tmp_path / "frames.npy").batches[0].fps > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("switches", "reason", "is_transient", "text"),
        [
            ({"devices": []}, "missing", False, "lists no Hailo device"),
            ({"busy": True}, "busy", True, "another program holds the chip"),
            ({"vanishes": True}, "busy", True, "another program holds the chip"),
            ({"permission": False}, "failed", False, "/dev/hailo0"),
            ({"driver": "4.22.0"}, "version", False, "driver"),
            ({"architecture": "HAILO8L"}, "architecture", False, "hw_arch hailo8l"),
            ({"architecture": "HAILO15H"}, "architecture", False, "HAILO15H"),
            ({"version": "4.20.0"}, "version", False, "DFC 3.33.0"),
            ({"fail_frame": 7, "fail_status": 36}, "failed", False, "driver"),
            ({"fail_frame": 7, "fail_status": 63}, "failed", True, "aborted a stream"),
            ({"fail_frame": 7, "fail_status": 62}, "failed", True, "connection"),
            ({"fail_frame": 7, "fail_status": 82}, "failed", False, "HAILO_QUEUE_IS_FULL"),
        ],
    )
    def test_each_has_its_reason_and_its_next_step(
        self,
        tmp_path: Path,
        hef: Path,
        frames: Path,
        switches: dict[str, Any],
        reason: str,
        is_transient: bool,
        text: str,
    ) -> None:
        with runtime.installed(tmp_path, frame_ms=0.5, **switches):
            with pytest.raises(DeviceError, match=text) as caught:
                measure(hef, frames)
            assert (caught.value.reason, caught.value.is_transient) == (reason, is_transient)

    def test_after_a_failure_the_chip_is_free(self, tmp_path: Path, hef: Path, frames: Path) -> None:
        with runtime.installed(tmp_path, frame_ms=0.5, fail_frame=3) as patch:
            with pytest.raises(DeviceError):
                measure(hef, frames)
            runtime.switch(patch, tmp_path, frame_ms=0.5)
            assert measure(hef, frames).batches

    def test_a_device_that_does_not_answer_ends_in_a_time_out(self, tmp_path: Path, hef: Path, frames: Path) -> None:
        with runtime.installed(tmp_path, hangs=True) as patch:
            patch.setattr(inflight, "CALL_SECONDS", 0.2)
            patch.setattr(inflight, "FRAME_SECONDS", 0.0)
            with pytest.raises(DeviceError) as caught:
                measure(hef, frames)
        assert (caught.value.reason, caught.value.is_transient) == ("failed", True)

    def test_frames_of_another_size_are_named_with_both(self, patch: Any, hef: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "frames.npy", np.zeros((1, 8, 8, 3), np.uint8))
        with pytest.raises(InputError, match=r"\(8, 8, 3\).*pair/input_layer1.*\(16, 16, 3\)"):
            measure(hef, tmp_path / "frames.npy")

    def test_a_network_of_two_inputs_is_refused(self, patch: Any, frames: Path, tmp_path: Path) -> None:
        edges = [Edge(name, (SIZE, SIZE, 3)) for name in ("left/in", "right/in")]
        path = runtime.write_dfc_hef(tmp_path / "x.hef", inputs=edges)
        with pytest.raises(InputError, match=r"takes left/in \(16, 16, 3\), right/in .*its one input"):
            measure(path, frames)

    def test_what_is_wrong_with_the_hef_is_said_without_a_device(self, frames: Path, tmp_path: Path) -> None:
        path = runtime.write_dfc_hef(tmp_path / "x.hef", hw_arch=103)
        with pytest.raises(DeviceError, match="HAILO15H") as caught:
            measure(path, frames)
        assert caught.value.reason == "architecture"


class TestWhichDevice:
    BOTH = ("0000:01:00.0", "0000:05:00.0")

    @pytest.mark.parametrize(("wanted", "used"), [("", BOTH[0]), (BOTH[1], BOTH[1])])
    def test_the_environment_names_one_else_it_is_the_first(
        self, tmp_path: Path, hef: Path, frames: Path, wanted: str, used: str
    ) -> None:
        with runtime.installed(tmp_path, devices=self.BOTH, frame_ms=0.5) as patch:
            patch.setenv("HEFJOIN_HAILO_DEVICE", wanted)
            assert measure(hef, frames).device == f"HAILO8 at {used}"

    def test_one_that_is_not_there_is_missing_and_the_others_are_listed(
        self, tmp_path: Path, hef: Path, frames: Path
    ) -> None:
        with runtime.installed(tmp_path, devices=self.BOTH) as patch:
            patch.setenv("HEFJOIN_HAILO_DEVICE", "0000:09:00.0")
            with pytest.raises(DeviceError, match=r"0000:09:00\.0.*0000:01:00\.0 and 0000:05:00\.0") as caught:
                measure(hef, frames)
        assert caught.value.reason == "missing"


HOLD_CHIP = """
import sys, hailo_platform
with hailo_platform.VDevice():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_program() -> Iterator[None]:
    """Hold the chip from another process that knows nothing of hefjoin's lock."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(runtime.FOLDER), str(runtime.FOLDER.parents[2])])}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_CHIP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


class TestOneHolder:
    def test_a_chip_that_another_program_holds_is_busy_not_missing(self, patch: Any, hef: Path, frames: Path) -> None:
        with another_program(), pytest.raises(DeviceError, match="another program") as caught:
            measure(hef, frames)
        assert (caught.value.reason, caught.value.is_transient) == ("busy", True)
        assert measure(hef, frames).batches

    def test_another_benchmark_is_kept_out_by_the_lock(self, patch: Any, hef: Path, frames: Path) -> None:
        with claim.claimed(DEVICE), pytest.raises(DeviceError, match=f"process {os.getpid()}") as caught:
            HailoRtDevice().outputs(hef, frames)
        assert caught.value.reason == "busy"


class TestPackage:
    def test_it_is_looked_for_without_being_imported(self, tmp_path: Path) -> None:
        assert not is_installed()
        with runtime.installed(tmp_path):
            assert is_installed()
            assert runtime.PACKAGE not in sys.modules

    def test_its_log_does_not_fall_into_the_working_directory(
        self, patch: pytest.MonkeyPatch, tmp_path: Path, hef: Path, frames: Path
    ) -> None:
        (tmp_path / "here").mkdir()
        patch.chdir(tmp_path / "here")
        patch.delenv("HAILORT_LOGGER_PATH")
        patch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
        measure(hef, frames)
        assert list((tmp_path / "here").iterdir()) == []
        assert (tmp_path / "work" / "hailort" / "hailort.log").is_file()

    def test_without_it_the_device_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hef: Path, frames: Path
    ) -> None:
        monkeypatch.setenv("HAILORT_LOGGER_PATH", str(tmp_path))
        with pytest.raises(DeviceError, match="not installed") as caught:
            measure(hef, frames)
        assert (caught.value.reason, caught.value.is_transient) == ("missing", False)

    @pytest.mark.parametrize(
        "failure",
        [
            "import hailo_platform.pyhailort._pyhailort",
            "raise ImportError('_pyhailort version (4.22.0) does not match pyhailort version (4.23.0)')",
            "raise OSError('libhailort.so.4.23.0: cannot open shared object file')",
        ],
    )
    def test_one_that_does_not_load_is_an_error_not_an_absence(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hef: Path, frames: Path, failure: str
    ) -> None:
        (tmp_path / "hailo_platform").mkdir()
        (tmp_path / "hailo_platform" / "__init__.py").write_text(failure)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("HAILORT_LOGGER_PATH", str(tmp_path))
        with pytest.raises(DeviceError, match="hefjoin doctor") as caught:
            measure(hef, frames)
        assert (caught.value.reason, caught.value.is_transient) == ("version", False)


@pytest.mark.parametrize(
    ("kind", "text", "status"),
    [
        ("HailoRTException", "libhailort failed with error: 74 (HAILO_OUT_OF_PHYSICAL_DEVICES)", 74),
        ("HailoRTException", "HailoRT device not found in the system", 74),
        ("HailoRTHEFNotCompatibleWithDevice", "HEF file is not compatible with device", 93),
        ("HailoRTTimeout", "Received a timeout", 4),
        ("HailoRTStatusException", "36", 36),
        ("HailoRTException", "something new", None),
        ("HailoStatusInvalidValueException", "Value 991 is not a valid status", None),
    ],
)
def test_a_status_is_read_from_class_text_or_digits(kind: str, text: str, status: int | None) -> None:
    assert status_of(type(kind, (Exception,), {})(text)) == status


@given(st.text())
def test_any_text_is_a_status_or_none(text: str) -> None:
    status = status_of(Exception(text))
    assert status is None or 0 <= status <= 9999


def test_a_status_is_known_of_a_class_below_the_named_one() -> None:
    base = type("HailoRTTimeout", (Exception,), {})
    assert status_of(type("Newer", (base,), {})("late")) == 4
