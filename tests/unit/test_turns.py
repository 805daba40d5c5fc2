"""Rounds by turns on each device: what is in them, what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.devices import emulated_turns, hailort_turns, open_device
from hefjoin.devices.emulated_turns import EmulatedTurns
from hefjoin.devices.in_line import time_in_line
from hefjoin.devices.inflight import round_fps
from hefjoin.errors import DeviceError
from hefjoin.formats.hef import Edge
from tests import runtime
from tests.tiny import SIZE, images


class Done:
    """A pipeline whose batches are through at given times."""

    def __init__(self, times: list[float], batch_size: int, in_flight: int) -> None:
        self.times, self.batch_size, self.frames_in_flight = times, batch_size, in_flight
        self.is_drained = False

    def batches(self) -> Iterator[float]:
        yield from self.times

    def drain(self) -> None:
        self.is_drained = True


def test_a_round_is_the_batches_between_two_that_are_through_after_the_queue_went_round_twice() -> None:
    pipeline: Any = Done([0.0, 5.0, 5.1, 9.0, 10.0, 11.0, 12.0, 13.0], batch_size=2, in_flight=4)
    assert round_fps([pipeline], 2.5) == 2 * 3 / 3.0  # from 9.0, the fourth
    assert pipeline.is_drained


def test_a_frame_is_through_when_it_went_through_all_hefs_of_its_side() -> None:
    fast: Any = Done([float(i) for i in range(20)], batch_size=1, in_flight=1)
    slow: Any = Done([3.0 * i for i in range(20)], batch_size=1, in_flight=1)
    assert round_fps([fast, slow], 10.0) == pytest.approx(1 / 3)
    assert fast.is_drained
    assert slow.is_drained


class Clocked:
    """A session on a clock of its own that stands in line now and then."""

    def __init__(self, clock: dict[str, float], takes: list[tuple[float, float]]) -> None:
        self.clock, self.takes = clock, list(takes)

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "in"})]

    def run(self, _: None, feeds: dict[str, Any]) -> None:
        work, line = self.takes.pop(0) if self.takes else (0.002, 0.0)
        self.clock["now"] += work + line
        self.clock["line"] += line


@pytest.mark.parametrize("line", [0.0, 0.005, 0.03])
def test_the_time_in_line_for_a_core_is_not_in_a_round_of_the_emulated_device(
    line: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0, "line": 0.0}
    monkeypatch.setattr(emulated_turns.time, "perf_counter", lambda: clock["now"])
    takes = [(0.01, 0.0), (0.01, 0.0), *[(0.004, line)] * 9]
    batches = [np.zeros((3, 2, 2, 1), np.uint8)]
    turns = EmulatedTurns([[(lambda: Clocked(clock, takes), batches)]], "CPU", lambda: clock["line"])
    turns.begin((0,))
    assert turns.fps(0) == pytest.approx(3 / 0.004)


def test_time_in_line_that_the_system_does_not_count_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hefjoin.devices.in_line.STATISTICS", "/nowhere/schedstat")
    with time_in_line() as in_line:
        assert in_line() == 0.0


def test_time_in_line_is_what_the_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schedstat").write_text("5000000000 250000000 17\n")
    monkeypatch.setattr("hefjoin.devices.in_line.STATISTICS", str(tmp_path / "schedstat"))
    with time_in_line() as in_line:
        assert in_line() == 0.25
        (tmp_path / "schedstat").write_text("6000000000 750000000 19\n")
        assert in_line() == 0.75


def test_the_emulated_device_opens_sessions_anew_for_each_block_in_the_order_of_the_coin() -> None:
    opened: list[str] = []

    def opener(name: str) -> Any:
        def open_one() -> Clocked:
            opened.append(name)
            return Clocked({"now": 0.0, "line": 0.0}, [])

        return open_one

    batches = [np.zeros((1, 2, 2, 1), np.uint8)]
    turns = EmulatedTurns([[(opener(name), batches)] for name in "abc"], "CPU", lambda: 0.0)
    turns.begin((2, 0))
    turns.begin((0, 2))
    assert opened == ["c", "a", "a", "c"]


class TestHailoRt:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hailort_turns, "ROUND_SECONDS", 0.02)

    @pytest.fixture
    def frames(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "frames.npy", images(3))
        return tmp_path / "frames.npy"

    def hef(self, folder: Path, name: str, **options: Any) -> Path:
        return runtime.write_dfc_hef(folder / f"{name}.hef", inputs=(Edge(f"{name}/in", (SIZE, SIZE, 3)),), **options)

    def test_all_hefs_lie_on_one_vdevice_with_the_scheduler(
        self, tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = self.hef(tmp_path, "one"), self.hef(tmp_path, "other")
        with runtime.installed(tmp_path, frame_ms=0.2):
            from hailo_platform import HailoSchedulingAlgorithm, VDevice

            made: list[Any] = []
            configured: list[str] = []
            real, real_model = VDevice.__init__, VDevice.create_infer_model
            monkeypatch.setattr(VDevice, "__init__", lambda self, params: (made.append(params), real(self, params))[1])
            monkeypatch.setattr(
                VDevice,
                "create_infer_model",
                lambda self, source: (configured.append(Path(source).name), real_model(self, source))[1],
            )
            with open_device("hailort", False).turns([(one,), (one,), (other, one)], frames, 2) as turns:
                turns.begin((0, 2))
                assert all(turns.fps(side) > 0 for side in (0, 2, 2, 0))
        assert [params.scheduling_algorithm for params in made] == [HailoSchedulingAlgorithm.ROUND_ROBIN.value]
        assert configured == ["one.hef", "other.hef"]

    def test_the_chip_is_locked_meanwhile_and_free_afterwards(self, tmp_path: Path, frames: Path) -> None:
        hef = self.hef(tmp_path, "one")
        with runtime.installed(tmp_path, frame_ms=0.2):
            device = open_device("hailort", False)
            with device.turns([(hef,)], frames, 1) as turns:
                turns.begin((0,))
                with pytest.raises(DeviceError) as caught:
                    device.benchmark(hef, frames, (1,), 0.01)
                assert caught.value.reason == "busy"
            with device.turns([(hef,)], frames, 1):
                pass

    def test_what_the_chip_says_of_itself_is_noted(self, tmp_path: Path, frames: Path) -> None:
        hef = self.hef(tmp_path, "one")
        with (
            runtime.installed(tmp_path, frame_ms=0.2, throttling=True, power_sensor=False),
            open_device("hailort", False).turns([(hef,)], frames, 1) as turns,
        ):
            turns.begin((0,))
            turns.fps(0)
            found = turns.conditions()
        assert found.versions["HailoRT"] == "4.23.0"
        assert any(note.startswith("power: not available") for note in found.notes)

    def test_a_hef_for_another_chip_is_refused_though_the_first_fits(self, tmp_path: Path, frames: Path) -> None:
        one, other = self.hef(tmp_path, "one"), self.hef(tmp_path, "other", hw_arch=1)
        small = self.hef(tmp_path, "small", hw_arch=3)
        with runtime.installed(tmp_path, frame_ms=0.2, architecture="HAILO8L"):
            device = open_device("hailort", False)
            for sides in ([(small,), (other,)], [(small,), (small, one)]):
                with pytest.raises(DeviceError) as caught, device.turns(sides, frames, 1):
                    pass
                assert caught.value.reason == "architecture"

    def test_a_failure_in_a_round_is_a_device_error(self, tmp_path: Path, frames: Path) -> None:
        hef = self.hef(tmp_path, "one")
        with (
            runtime.installed(tmp_path, frame_ms=0.2, fail_frame=3),
            pytest.raises(DeviceError),
            open_device("hailort", False).turns([(hef,)], frames, 1) as turns,
        ):
            turns.fps(0)
