"""What every device promises. A test class that inherits `DeviceContract` runs all of it on one implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hefjoin.devices import Device
from hefjoin.devices.rounds import median_interval
from hefjoin.errors import DeviceError
from hefjoin.formats import hef as hef_file
from hefjoin.results.measured import Measured
from tests.tiny import images

SECONDS = 0.1


class DeviceContract:
    """Override the fixtures; `foreign_hef` is a HEF that was not made for the device."""

    source: Literal["device", "emulator"]
    runs_several_as_one = True
    """A side of `turns` may be several HEFs."""

    @pytest.fixture
    def device(self) -> Device:
        raise NotImplementedError

    @pytest.fixture
    def hef(self) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def foreign_hef(self) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def frames(self, tmp_path: Path) -> Path:
        """Three frames of the HEF's input: uint8, shape (frames, height, width, channels)."""
        np.save(tmp_path / "frames.npy", images(3))
        return tmp_path / "frames.npy"

    @pytest.fixture
    def measured(self, device: Device, hef: Path, frames: Path) -> Measured:
        return device.benchmark(hef, frames, (1, 4), SECONDS)

    def test_there_is_a_figure_for_each_batch_size_in_order(self, measured: Measured) -> None:
        assert [batch.batch_size for batch in measured.batches] == [1, 4]
        assert all(batch.fps > 0 for batch in measured.batches)

    def test_every_figure_says_where_it_comes_from(self, measured: Measured) -> None:
        assert measured.source == self.source
        assert measured.device
        assert measured.load_average >= 0

    def test_a_figure_is_the_median_of_at_least_three_rounds_with_its_confidence_interval(
        self, measured: Measured
    ) -> None:
        for batch in measured.batches:
            assert len(batch.rounds_fps) >= 3
            assert batch.fps == pytest.approx(np.median(batch.rounds_fps))
            assert (batch.fps_low, batch.fps_high) == pytest.approx(median_interval(batch.rounds_fps))

    def test_latencies_where_there_are_any_are_ordered_and_of_a_whole_batch(self, measured: Measured) -> None:
        for batch in measured.batches:
            latencies = (batch.latency_p50_ms, batch.latency_p95_ms, batch.latency_p99_ms)
            if latencies == (None, None, None):
                continue
            assert 0 < batch.latency_p50_ms <= batch.latency_p95_ms <= batch.latency_p99_ms
            one_by_one_ms = 1000 * batch.batch_size / max(batch.rounds_fps)
            assert batch.latency_p99_ms >= 0.5 * one_by_one_ms

    def test_rounds_are_reported_over_all_batch_sizes(self, device: Device, hef: Path, frames: Path) -> None:
        seen: list[tuple[int, int]] = []
        measured = device.benchmark(hef, frames, (1, 2), SECONDS, lambda done, total: seen.append((done, total)))
        total = sum(len(batch.rounds_fps) for batch in measured.batches)
        assert seen == [(done, total) for done in range(1, total + 1)]

    def test_a_batch_larger_than_the_set_repeats_its_frames(self, device: Device, hef: Path, frames: Path) -> None:
        (batch,) = device.benchmark(hef, frames, (8,), SECONDS).batches
        assert batch.batch_size == 8

    def test_outputs_where_they_are_handed_back_are_one_finite_float32_array_each_in_the_order_of_the_frames(
        self, device: Device, hef: Path, frames: Path, tmp_path: Path
    ) -> None:
        found = device.outputs(hef, frames)
        if found is None:
            return
        assert set(found) == {stream.name for stream in hef_file.read(hef).groups[0].outputs}
        images = np.load(frames)
        np.save(tmp_path / "last.npy", images[-1:])
        alone = device.outputs(hef, tmp_path / "last.npy")
        assert alone is not None
        for name, array in found.items():
            assert array.dtype == np.float32
            assert len(array) == len(images)
            assert np.isfinite(array).all()
            assert np.ptp(array) > 0
            np.testing.assert_array_equal(array[-1:], alone[name])

    def test_sides_are_timed_by_turns_and_one_hef_may_be_two(self, device: Device, hef: Path, frames: Path) -> None:
        with device.turns([(hef,), (hef,)], frames, 2) as turns:
            for order in ((0, 1), (1, 0)):
                turns.begin(order)
                assert all(turns.fps(side) > 0 for side in (*order, *order[::-1]))
            conditions = turns.conditions()
        assert turns.source == self.source
        assert turns.device
        assert turns.method
        said = {note.partition(":")[0] for note in conditions.notes}
        assert (conditions.temperature_c is None) == ("temperature" in said)
        assert (conditions.is_throttled is None) == ("throttling" in said)

    def test_several_hefs_are_one_side_or_refused_with_what_to_do(
        self, device: Device, hef: Path, frames: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / f"other-{hef.name}"
        other.write_bytes(hef.read_bytes())
        sides = [(hef,), (hef, other)]
        if self.runs_several_as_one:
            with device.turns(sides, frames, 1) as turns:
                turns.begin((0, 1))
                assert turns.fps(1) > 0
        else:
            with pytest.raises(DeviceError, match="device hailort") as caught, device.turns(sides, frames, 1):
                pass
            assert caught.value.reason == "refused"

    def test_by_turns_too_it_refuses_what_was_not_made_for_it(
        self, device: Device, hef: Path, foreign_hef: Path, frames: Path
    ) -> None:
        with pytest.raises(DeviceError, match=foreign_hef.name), device.turns([(hef,), (foreign_hef,)], frames, 1):
            pass

    def test_a_hef_that_was_not_made_for_it_is_refused_with_its_reason(
        self, device: Device, foreign_hef: Path, frames: Path
    ) -> None:
        with pytest.raises(DeviceError, match=foreign_hef.name) as caught:
            device.benchmark(foreign_hef, frames, (1,), SECONDS)
        assert not caught.value.is_transient
        assert caught.value.reason == "refused"
