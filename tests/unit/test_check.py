"""May these networks share one input? Every disagreement at once, and frames of the right shape if they may."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.artifacts import Ref
from hefjoin.calibration import set_sha256
from hefjoin.errors import CalibrationError, JoinError, SpecError
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Network, Tensor
from hefjoin.results.sources import FrameSource, Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.check import Branch, Check
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stores import open_store
from tests.tiny import images

SET = FrameSource(uri="/x", sha256="0", count=1)
REF = Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media="har")


def branch(name: str, shape: tuple[int, ...] = (16, 16, 3), **changes: Any) -> Branch:
    """Return a branch; `changes` of its network (`hw_arch`, `output`, …) or of what the spec says of it."""
    output = Tensor(layer=f"{name}/fc1", original_name="scores", shape=changes.pop("output", (10,)))
    network = {"state": "hailo_model", "hw_arch": "hailo8", "sdk_version": "3.33.0"}
    network |= {key: changes.pop(key) for key in list(changes) if key in network}
    tensor = Tensor(layer=f"{name}/input_layer1", original_name="image", shape=shape)
    parsed = Network(har=REF, scopes=(name,), inputs=(tensor,), outputs=(output,), layers=(), **network)
    return Branch(**{"name": name, "network": parsed, "mean": (), "std": (), "color": "rgb", **changes})


def source(path: Path, count: int) -> FrameSource:
    return FrameSource(uri=str(path), sha256=set_sha256(path), count=count)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    toolchain = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=toolchain)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", images(20))
    return tmp_path / "images.npy"


PAIR = (branch("left"), branch("right"))


def row(found: JoinCheck, what: str) -> tuple[str, dict[str, str]]:
    """Return the verdict of a row and its values by model."""
    (each,) = (each for each in found.comparisons if each.what == what)
    return each.verdict, dict(each.values)


def frames_of(place: Workplace, ref: Ref, tmp_path: Path) -> Any:
    return np.load(place.store.get(ref, tmp_path / "got.npy"))


def refusal(*branches: Branch) -> JoinError:
    stage = Check(branches=branches, calibration=SET, evaluation=SET)
    with pytest.raises(JoinError) as caught:
        stage.requires()
    return caught.value


class TestDisagreements:
    @pytest.mark.parametrize(
        ("change", "what", "values"),
        [
            ({"shape": (32, 16, 3)}, "input shape (height, width, channels)", ("16 × 16 × 3", "32 × 16 × 3")),
            ({"hw_arch": "hailo8l"}, "chip", ("hailo8", "hailo8l")),
            ({"sdk_version": "3.31.0"}, "SDK version", ("3.33.0", "3.31.0")),
            ({"state": "quantized_model"}, "state", ("hailo_model", "quantized_model")),
        ],
    )
    def test_each_is_a_row_with_every_models_value_and_a_remedy(
        self, change: dict[str, Any], what: str, values: tuple[str, str]
    ) -> None:
        (row,) = refusal(branch("left"), branch("right", **change)).disagreements
        assert row.what == what
        assert row.values == (("left", values[0]), ("right", values[1]))
        assert row.remedy

    def test_all_are_listed_at_once(self) -> None:
        other = branch("right", shape=(8, 8, 3), hw_arch="hailo8l", sdk_version="3.31.0", state="x")
        error = refusal(branch("left"), other, branch("third"))
        assert [row.what for row in error.disagreements] == [
            "input shape (height, width, channels)", "chip", "SDK version", "state",
        ]  # fmt: skip
        for text in (
            "left has 16 × 16 × 3, right has 8 × 8 × 3, third has 16 × 16 × 3",
            "left has hailo8, right has hailo8l",
        ):
            assert text in str(error)


class TestSpecProblems:
    def problems(self, *branches: Branch) -> dict[str, str]:
        stage = Check(branches=branches, calibration=SET, evaluation=SET)
        with pytest.raises(SpecError) as caught:
            stage.requires()
        return dict(caught.value.problems)

    def test_a_wrong_number_of_means_is_found_by_its_path(self) -> None:
        grey = branch("right", shape=(16, 16, 1), mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0))
        assert self.problems(branch("left", mean=(1.0, 2.0)), grey) == {
            "models[0].mean": "2 values, input has 3 channels",
            "models[1].mean": "3 values, input has 1 channel",
            "models[1].std": "3 values, input has 1 channel",
        }

    def test_an_input_that_is_no_image_is_refused(self) -> None:
        assert self.problems(branch("left"), branch("right", shape=(10,))) == {
            "models[1]": "its input (10,) is not an image"
        }

    def test_a_metric_that_cannot_judge_the_output_is_found_by_its_path(self) -> None:
        found = self.problems(
            branch("left", metric="top-10"),
            branch("right", metric="iou@0.3"),
            branch("third", metric="top-1", output=(16, 16, 1)),
            branch("fourth", metric="nowhere.metrics:f"),
            branch("fifth", metric="iou", output=(16, 16, 1)),
        )
        assert list(found) == [f"models[{index}].metric" for index in range(4)]
        assert found["models[0].metric"] == "top-10 is met by every label, found 10 scores"
        assert found["models[1].metric"] == "iou@0.3 wants a map of one channel, (height, width, 1), found (10,)"
        assert found["models[2].metric"].startswith("top-1 wants one score for each class, found a map")
        assert "No module named 'nowhere'" in found["models[3].metric"]


class TestFrames:
    def check(
        self, place: Workplace, calibration: FrameSource, evaluation: FrameSource | None, **mean: Any
    ) -> JoinCheck:
        branches = tuple(branch(name, **mean) for name in ("left", "right"))
        stage = Check(branches=branches, calibration=calibration, evaluation=evaluation or calibration)
        return perform(stage, place).value

    def test_are_those_of_the_sets_and_the_input_is_described(
        self, place: Workplace, calibration: Path, tmp_path: Path
    ) -> None:
        found = self.check(place, source(calibration, 12), None, mean=(1.0, 2.0, 3.0))
        assert (found.height, found.width, found.channels) == (16, 16, 3)
        assert (found.mean, found.std) == ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
        np.testing.assert_array_equal(frames_of(place, found.calibration.npy, tmp_path), images(20)[:12])
        assert row(found, "color") == ("agrees", {"left": "rgb", "right": "rgb"})
        assert row(found, "mean and std") == ("agrees", dict.fromkeys(("left", "right"), "mean [1, 2, 3], std 1"))

    def test_preprocessing_that_differs_leaves_raw_rgb_frames_and_is_told(
        self, place: Workplace, calibration: Path
    ) -> None:
        branches = (branch("left", std=(2.0, 2.0, 2.0)), branch("right", color="bgr"))
        stage = Check(branches=branches, calibration=source(calibration, 12), evaluation=source(calibration, 4))
        found = perform(stage, place).value
        assert (found.mean, found.std, found.color) == ((), (), "rgb")
        assert row(found, "mean and std") == ("handled", {"left": "mean 0, std 2", "right": "none"})
        assert row(found, "color") == ("handled", {"left": "rgb", "right": "bgr"})

    def test_one_normalization_in_two_orders_is_told_in_that_of_the_frames(
        self, place: Workplace, calibration: Path
    ) -> None:
        branches = (branch("left", mean=(3.0, 2.0, 1.0), color="bgr"), branch("right", mean=(1.0, 2.0, 3.0)))
        stage = Check(branches=branches, calibration=source(calibration, 12), evaluation=source(calibration, 4))
        found = perform(stage, place).value
        assert (found.mean, found.color) == ((1.0, 2.0, 3.0), "rgb")
        assert row(found, "mean and std")[0] == "agrees"

    @pytest.mark.parametrize("wanted", [5, 100])
    def test_evaluation_takes_further_frames_of_the_same_set(
        self, place: Workplace, calibration: Path, tmp_path: Path, wanted: int
    ) -> None:
        found = self.check(place, source(calibration, 12), source(calibration, wanted))
        assert found.evaluation_is_held_out
        np.testing.assert_array_equal(frames_of(place, found.evaluation.npy, tmp_path), images(20)[12 : 12 + wanted])

    def test_where_none_are_left_they_serve_twice_and_it_is_said(
        self, place: Workplace, calibration: Path, tmp_path: Path
    ) -> None:
        found = self.check(place, source(calibration, 20), source(calibration, 6))
        assert not found.evaluation_is_held_out
        np.testing.assert_array_equal(frames_of(place, found.evaluation.npy, tmp_path), images(20)[:6])

    def test_another_set_is_taken_from_its_beginning_with_its_labels(
        self, place: Workplace, calibration: Path, tmp_path: Path
    ) -> None:
        names = np.array([f"{index}.png" for index in range(8)])
        labels = {"left": np.arange(8), "right": np.arange(8) % 2, "names": names}
        np.savez(tmp_path / "eval.npz", images=images(8, seed=9), **labels)
        found = self.check(place, source(calibration, 20), source(tmp_path / "eval.npz", 5))
        assert found.evaluation_is_held_out
        np.testing.assert_array_equal(frames_of(place, found.evaluation.npy, tmp_path), images(8, seed=9)[:5])
        assert found.labels is not None
        assert found.labels.models == ("left", "right")
        with np.load(place.store.get(found.labels.npz, tmp_path / "labels.npz")) as arrays:
            assert {name: arrays[name].tolist() for name in arrays} == {
                "left": [0, 1, 2, 3, 4], "right": [0, 1, 0, 1, 0],
            }  # fmt: skip

    def test_labels_behind_the_calibration_frames_are_those_of_the_frames_that_are_left(
        self, place: Workplace, tmp_path: Path
    ) -> None:
        np.savez(tmp_path / "all.npz", images=images(10), left=np.arange(10))
        found = self.check(place, source(tmp_path / "all.npz", 6), None)
        assert found.labels is not None
        with np.load(place.store.get(found.labels.npz, tmp_path / "labels.npz")) as arrays:
            assert arrays["left"].tolist() == [6, 7, 8, 9]

    def test_a_copy_of_the_calibration_set_is_not_held_out_twice(
        self, place: Workplace, calibration: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "copy.npy").write_bytes(calibration.read_bytes())
        found = self.check(place, source(calibration, 20), source(tmp_path / "copy.npy", 20))
        assert not found.evaluation_is_held_out

    def test_frames_that_are_already_normalized_are_refused_where_the_chip_normalizes(
        self, place: Workplace, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "n.npy", (images(4) / 255).astype(np.float32))
        with pytest.raises(CalibrationError, match="already normalized"):
            self.check(place, source(tmp_path / "n.npy", 4), None, std=(60.0, 58.0, 57.0))
        assert place.store.list_records("reuse") == []
        assert self.check(place, source(tmp_path / "n.npy", 4), None).calibration.health.looks_normalised
        own = Check(
            branches=(branch("left"), branch("right", std=(60.0, 58.0, 57.0))),
            calibration=source(tmp_path / "n.npy", 4),
            evaluation=source(tmp_path / "n.npy", 4),
        )
        with pytest.raises(CalibrationError, match="already normalized"):
            perform(own, place)

    def test_those_of_them_that_are_normalized_are_named(self, place: Workplace, tmp_path: Path) -> None:
        mixed = images(4).astype(np.float32)
        mixed[2] = mixed[2] / 127.5 - 1
        np.save(tmp_path / "n.npy", mixed)
        with pytest.raises(CalibrationError, match=r"already normalized.*\(1 of 4 frames: 2\)"):
            self.check(place, source(tmp_path / "n.npy", 4), None, std=(60.0, 58.0, 57.0))

    def test_what_is_odd_about_a_set_is_said_before_hours_go_into_it(
        self, place: Workplace, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        frames = images(8)
        frames[3], frames[7] = frames[1], 9
        np.save(tmp_path / "odd.npy", frames)
        self.check(place, source(tmp_path / "odd.npy", 6), source(tmp_path / "odd.npy", 2))
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "check: calibration set: 1 of 6 frames are exact copies of an earlier one: 3 = 1",
            "check: evaluation set: 1 of 2 frames are blank, one value only: 7",
        ]

    def test_a_set_of_another_shape_is_refused_with_both_shapes(self, place: Workplace, tmp_path: Path) -> None:
        np.save(tmp_path / "big.npy", images(4, size=32))
        with pytest.raises(CalibrationError, match=r"32.*16|16.*32"):
            self.check(place, source(tmp_path / "big.npy", 4), None)

    def test_a_set_that_changes_while_it_is_read_is_refused(
        self, place: Workplace, calibration: Path, tmp_path: Path
    ) -> None:
        seen = source(calibration, 4)
        np.save(calibration, images(21))
        with pytest.raises(CalibrationError, match="changed while it was being read"):
            self.check(place, seen, None)
        assert place.store.list_records("reuse") == []

    def test_an_empty_folder_is_refused(self, place: Workplace, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(CalibrationError, match="empty"):
            self.check(place, source(tmp_path / "empty", 4), None)
