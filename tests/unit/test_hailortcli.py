"""What `hailortcli` is asked and what its failures become; against a strict stand-in of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hefjoin.devices import hailortcli, hailortcli_program
from hefjoin.devices import hailortcli_output as output
from hefjoin.devices.claim import claimed
from hefjoin.devices.guard import DEVICE, admit
from hefjoin.devices.hailortcli import HailoRtCliDevice
from hefjoin.devices.hailortcli_program import PROGRAM, failure
from hefjoin.errors import DeviceError, HefJoinError, InputError, ToolchainError
from hefjoin.results.measured import Measured
from tests.hefs import write_hef
from tests.tiny import SIZE, images

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "hailortcli"
DEVICE_ID = "0000:01:00.0"


class Machine:
    """A machine with the stand-in installed, a HEF and frames."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.journal = folder / "journal"
        self.hef = write_hef(folder / "pair.hef")
        self.frames = folder / "frames.npy"
        np.save(self.frames, images(3))
        monkeypatch.delenv(DEVICE, raising=False)
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        monkeypatch.setenv(PROGRAM, str(FAKE))
        monkeypatch.chdir(folder)
        self.switch()

    def switch(self, **switches: Any) -> None:
        """Make the stand-in behave in a way; see `DEFAULTS` there."""
        always = {"group": "pair", "frame_bytes": SIZE * SIZE * 3, "journal": str(self.journal)}
        self.monkeypatch.setenv("FAKE_HAILORTCLI", json.dumps({**always, **switches}))

    def measure(self, *batch_sizes: int, seconds: float = 0.1) -> Measured:
        """Benchmark the HEF."""
        return HailoRtCliDevice(self.folder).benchmark(self.hef, self.frames, batch_sizes or (1,), seconds)

    def refusal(self, kind: type[HefJoinError] = DeviceError, **switches: Any) -> HefJoinError:
        """Return what a benchmark raises."""
        self.switch(**switches)
        with pytest.raises(kind) as caught:
            self.measure()
        return caught.value

    @property
    def calls(self) -> list[list[str]]:
        """What the stand-in was called with, in order."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


class Finished(NamedTuple):
    """One benchmark, and what it left behind."""

    measured: Measured
    calls: list[list[str]]
    new_files: set[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(tmp_path_factory.mktemp("machine"), monkeypatch)
        machine.switch(fps=[1010.0, 1000.0, 900.0], hw_fps=1100.0, hw_latency=1.9)
        before = set(machine.folder.iterdir())
        measured = machine.measure(1, 4)
        yield Finished(measured, machine.calls, {path.name for path in set(machine.folder.iterdir()) - before})


class TestMeasuring:
    def test_figures_of_each_kind_come_from_the_run_that_measures_them(self, finished: Finished) -> None:
        for batch in finished.measured.batches:
            assert batch.rounds_fps == (1010.0, 1000.0, 900.0)
            assert (batch.fps, batch.hw_fps) == (1000.0, 1100.0)
            assert (batch.hw_latency_ms, batch.overall_latency_ms) == (1.9, 2.31)
            assert (batch.latency_p50_ms, batch.latency_p95_ms, batch.latency_p99_ms) == (None, None, None)

    def test_sensors_are_taken_over_all_runs(self, finished: Finished) -> None:
        power, temperature = finished.measured.power_w, finished.measured.temperature_c
        assert power is not None
        assert temperature is not None
        assert (power.low, power.mean, power.high, power.samples) == pytest.approx((2.04, 2.11, 2.19, 6))
        assert (temperature.low, temperature.mean, temperature.high) == pytest.approx((48.31, 48.9, 49.5))
        assert finished.measured.is_throttled is None

    def test_it_is_said_how_and_by_what_was_measured(self, finished: Finished) -> None:
        assert finished.measured.device == f"HAILO8 at {DEVICE_ID}"
        assert finished.measured.method == "hailortcli run, 3 runs of 1 s for each batch size"
        assert finished.measured.versions == {"HailoRT": "4.23.0", "firmware": "4.23.0"}

    def test_what_has_no_field_is_noted_with_its_command(self, finished: Finished) -> None:
        assert finished.measured.notes == (
            "hailortcli run2 full_async, batch 1: 1050.00 FPS",
            "hailortcli run2 full_async, batch 4: 1050.00 FPS",
            "hailortcli benchmark, batch 1: 1100.00 FPS hw_only, 1010.00 FPS streaming, 1.90 ms hardware latency, "
            "2.11 W mean",
        )

    def test_every_run_feeds_the_frames_and_names_the_device_last(self, finished: Finished) -> None:
        runs = [call for call in finished.calls if call[0] == "run"]
        assert all(call[-4:] == ["-s", DEVICE_ID, "--input-files", "frames.bin"] for call in runs)
        sizes = [call[call.index("--batch-size") + 1] for call in runs if "--batch-size" in call]
        assert sizes == ["1"] * 5 + ["4"] * 5

    def test_latency_and_throughput_are_never_asked_together(self, finished: Finished) -> None:
        assert not [call for call in finished.calls if {"--measure-latency", "streaming"} <= set(call)]

    def test_nothing_is_left_in_the_working_directory(self, finished: Finished) -> None:
        assert finished.new_files == {"journal"}

    def test_more_time_gives_more_and_longer_runs(self, machine: Machine) -> None:
        measured = machine.measure(seconds=8)
        assert measured.method == "hailortcli run, 4 runs of 2 s for each batch size"
        assert len(measured.batches[0].rounds_fps) == 4

    def test_the_named_device_is_used(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        machine.switch(devices=["a", "b"])
        monkeypatch.setenv(DEVICE, "b")
        assert machine.measure().device == "HAILO8 at b"
        assert all("b" in call for call in machine.calls if call[0] in ("run", "run2", "benchmark"))

    def test_it_holds_the_device(self, machine: Machine) -> None:
        with claimed(DEVICE_ID):
            assert machine.refusal().reason == "busy"
        assert not [call for call in machine.calls if call[0] == "run"]

    def test_a_hef_for_a_part_of_the_chip_runs_with_a_note(self, machine: Machine) -> None:
        write_hef(machine.hef, hw_arch=3)
        assert "uses a part of this HAILO8" in machine.measure().notes[0]


class TestSensors:
    @pytest.mark.parametrize(
        ("absent", "field", "said"),
        [
            ("power", "power_w", "Power measurement not supported. Disable the power-measure option"),
            ("temperature", "temperature_c", "Failed starting temperature measurement on device"),
        ],
    )
    def test_one_that_is_not_there_is_noted_and_never_zero(
        self, absent: str, field: str, said: str, machine: Machine
    ) -> None:
        machine.switch(**{absent: None})
        measured = machine.measure()
        assert getattr(measured, field) is None
        assert [note for note in measured.notes if note.startswith(f"{absent}: not available (") and said in note]
        (other,) = {"power_w", "temperature_c"} - {field}
        assert getattr(measured, other) is not None

    def test_one_that_gives_no_value(self, machine: Machine) -> None:
        machine.switch(temperature=[None, None, None])
        measured = machine.measure()
        assert measured.temperature_c is None
        assert "temperature: not available (hailortcli gave no value)" in measured.notes

    def test_a_failure_that_is_no_sensors_is_not_taken_for_one(self, machine: Machine) -> None:
        machine.hef = write_hef(machine.folder / "power.hef")
        assert "HAILO_TIMEOUT" in str(machine.refusal(fail={"run": 4}))


class TestFailures:
    def test_without_the_program(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(PROGRAM, "hailort8cli")
        error = machine.refusal()
        assert (error.reason, error.is_transient) == ("missing", False)
        assert "hailort8cli" in str(error)
        assert PROGRAM in str(error)

    def test_a_program_named_by_a_relative_path(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        (machine.folder / "hailort8cli").symlink_to(FAKE)
        monkeypatch.setenv(PROGRAM, "./hailort8cli")
        assert machine.refusal(devices=[]).reason == "missing"
        assert machine.calls == [["scan"]]

    def test_a_program_that_does_not_start(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        program = machine.folder / "hailortcli"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        monkeypatch.setenv(PROGRAM, str(program))
        error = machine.refusal()
        assert error.reason == "missing"
        assert "does not start" in str(error)

    def test_without_a_device_though_every_question_ends_well(self, machine: Machine) -> None:
        error = machine.refusal(devices=[])
        assert (error.reason, error.is_transient) == ("missing", False)
        assert machine.calls == [["scan"]]

    @pytest.mark.parametrize(
        ("switches", "reason", "is_transient"),
        [
            ({"busy": True}, "busy", True),
            ({"driver": "4.22.0"}, "version", False),
            ({"fail": {"run": 36}}, "failed", False),
            ({"fail": {"run": 91}}, "refused", False),
            ({"fail": {"run": 92}}, "version", False),
            ({"fail": {"run": 93}}, "architecture", False),
            ({"fail": {"run": 4}}, "failed", True),
            ({"fail": {"fw-control": 18}}, "failed", True),
            ({"architecture": "HAILO15H"}, "architecture", False),
            ({"architecture": "HAILO8L"}, "architecture", False),
            ({"version": "4.20.0", "driver": "4.20.0"}, "version", False),
            ({"version": "5.1.0", "driver": "5.1.0"}, "version", False),
        ],
        ids=str,
    )
    def test_a_failure_says_its_reason(
        self, switches: dict[str, Any], reason: str, is_transient: bool, machine: Machine
    ) -> None:
        error = machine.refusal(**switches)
        assert (error.reason, error.is_transient) == (reason, is_transient)

    def test_a_driver_of_another_version_is_compared_before_the_device_is_asked(self, machine: Machine) -> None:
        (machine.folder / "sys/module/hailo_pci").mkdir(parents=True)
        (machine.folder / "sys/module/hailo_pci/version").write_text("4.22.0\n")
        assert "install the driver of HailoRT 4.23.0" in str(machine.refusal(driver="4.22.0"))
        assert machine.calls[0] == ["scan"]
        assert not [call for call in machine.calls if call[0] == "fw-control"]

    def test_an_architecture_that_hailort_cannot_name_is_no_mismatch(self, machine: Machine) -> None:
        machine.switch(architecture="Unknown")
        assert machine.measure().device == f"Hailo device at {DEVICE_ID}"

    def test_a_crash(self, machine: Machine) -> None:
        error = machine.refusal(crash=True)
        assert "crashed (SIGSEGV)" in str(error)
        assert not error.is_transient

    @pytest.mark.alone
    def test_a_hang_is_ended(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hailortcli_program, "SLACK_SECONDS", 0.3)
        assert "stopped after 1 s" in str(machine.refusal(slow=30.0))

    def test_a_run_without_frames_is_no_figure(self, machine: Machine) -> None:
        assert "no frame came back" in str(machine.refusal(frames=0))

    def test_what_only_compares_may_fail(self, machine: Machine) -> None:
        machine.switch(fail={"run2": 4, "benchmark": 6})
        measured = machine.measure()
        assert measured.batches[0].fps == 1000.0
        absent = [note for note in measured.notes if "not available" in note]
        assert [note.split(",")[0] for note in absent] == ["hailortcli run2 full_async", "hailortcli benchmark"]

    @pytest.mark.parametrize("code", [105, 108, 111])
    def test_arguments_that_it_does_not_know_are_our_fault(self, code: int) -> None:
        error = failure("hailortcli run x", code, "--net: excluded\nRun with --help for more information.\n")
        assert isinstance(error, ToolchainError)
        assert f"exit code {code}" in str(error)
        assert "Run with --help" in error.log_tail

    @pytest.mark.parametrize(("code", "name"), [(139, "SIGSEGV"), (-11, "SIGSEGV"), (134, "SIGABRT"), (-9, "SIGKILL")])
    def test_crashes_are_told_from_statuses(self, code: int, name: str) -> None:
        assert f"crashed ({name})" in str(failure("hailortcli run x", code, ""))

    def test_a_library_of_another_version(self) -> None:
        said = "libhailort version (4.22.0) does not match HailoRT-CLI version (4.23.0)"
        error = failure("hailortcli scan", 255, said)
        assert isinstance(error, DeviceError)
        assert (error.reason, error.is_transient) == ("version", False)
        assert said in str(error)

    def test_the_first_error_of_the_program_is_quoted(self) -> None:
        text = "> Running\n[HailoRT] [error] CHECK failed - the cause\n[HailoRT CLI] [error] Failed creating vdevice\n"
        assert "the cause" in str(failure("hailortcli run x", 36, text))


class TestFrames:
    def test_they_arrive_as_they_are(self, machine: Machine) -> None:
        raw = hailortcli.raw_frames(machine.frames, admit(machine.hef), machine.folder)
        assert raw.read_bytes() == images(3).tobytes()

    def test_of_a_set_too_large_for_memory_the_first_are_taken(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for most, frames in ((2 * SIZE * SIZE * 3 + 5, 2), (1, 1)):
            monkeypatch.setattr(hailortcli, "MOST_INPUT_BYTES", most)
            raw = hailortcli.raw_frames(machine.frames, admit(machine.hef), machine.folder)
            assert raw.stat().st_size == frames * SIZE * SIZE * 3

    @pytest.mark.parametrize("shape", [(3, SIZE, SIZE + 1, 3), (0, SIZE, SIZE, 3)])
    def test_others_than_the_input_takes_are_refused(self, shape: tuple[int, ...], machine: Machine) -> None:
        np.save(machine.frames, np.zeros(shape, np.uint8))
        error = machine.refusal(InputError)
        assert f"{shape[0]} frames of shape {shape[1:]}" in str(error)
        assert f"pair/input_layer1 {(SIZE, SIZE, 3)}" in str(error)

    def test_a_hef_with_two_inputs_is_refused(self, machine: Machine) -> None:
        write_hef(machine.hef, inputs=2)
        assert "pair/input_layer2" in str(machine.refusal(InputError))


class TestStandIn:
    """The stand-in refuses what `hailortcli` refuses, so that a wrong call cannot pass the tests above."""

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["run", "pair.hef", "--no-such-option"], 109),
            (["run", "-s", DEVICE_ID, "pair.hef"], 111),
            (["run", "pair.hef", "-t", "0.5"], 104),
            (["run", "pair.hef", "-t", "0"], 105),
            (["run", "absent.hef"], 105),
            (["run", "pair.hef", "-t", "1", "-c", "8"], 108),
            (["run", "pair.hef", "-c", "10", "--batch-size", "4"], 111),
            (["run", "pair.hef", "--measure-power", "--measure-current"], 108),
            (["run", "pair.hef", "--measure-overall-latency"], 107),
            (["run", "pair.hef", "-m", "async"], 105),
            (["run", "pair.hef", "--input-files", "absent.bin"], 105),
            (["run", "pair.hef", "--input-files", "frames.npy"], 2),
            (["run", "frames.npy"], 92),
            (["run", "pair.hef", "-s", "other"], 2),
            (["run2", "set-net", "pair.hef", "-t", "1"], 109),
            (["run2", "-j", "a.txt", "set-net", "pair.hef"], 105),
            (["run2", "-t", "1"], 6),
            (["benchmark", "pair.hef", "--measure-power"], 109),
            (["frobnicate"], 109),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
    )
    def test_a_wrong_call(self, arguments: list[str], code: int, machine: Machine) -> None:
        done = subprocess.run([FAKE, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert ("Run with --help" in done.stderr) == (code > 100)

    def test_without_a_device(self, machine: Machine) -> None:
        machine.switch(devices=[])
        scan = subprocess.run([FAKE, "scan"], capture_output=True, text=True, check=True)
        assert scan.stdout == "Hailo devices not found\n"
        identify = subprocess.run([FAKE, "fw-control", "identify"], capture_output=True, text=True, check=True)
        assert identify.stdout + identify.stderr == ""
        run = subprocess.run([FAKE, "run", "pair.hef", "--csv", "a.csv"], capture_output=True, text=True, check=False)
        assert (run.returncode, (machine.folder / "hailort.log").is_file()) == (74, True)
        (found,) = output.runs((machine.folder / "a.csv").read_text())
        assert found.problem == "status 74: HAILO_OUT_OF_PHYSICAL_DEVICES"
