"""Labels: what is written for the frames of a set, and every mistake in them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.calibration import open_frames
from hefjoin.errors import CalibrationError
from hefjoin.labels import Judge, write_labels
from hefjoin.metrics.metric import metric
from tests.tiny import images

FRAMES = 6
CLASSES = Judge(metric(""), (4,), is_asked_for=False)
MASK = Judge(metric("iou"), (8, 8, 1), is_asked_for=True)


def write(folder: Path, judges: dict[str, Judge], labels: dict[str, Any], **taken: int) -> tuple[str, ...]:
    np.savez_compressed(folder / "eval.npz", images=images(FRAMES, size=8), **labels)
    frames = open_frames(
        folder / "eval.npz", height=8, width=8, channels=3, what="evaluation set", **{"count": FRAMES, **taken}
    )
    return write_labels(frames, judges, folder / "labels.npz")


def problems(folder: Path, judges: dict[str, Judge], labels: dict[str, Any], **taken: int) -> list[str]:
    with pytest.raises(CalibrationError) as caught:
        write(folder, judges, labels, **taken)
    first, *lines = str(caught.value).splitlines()
    assert first == f"the labels of the evaluation set have {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    return [line.removeprefix("  ") for line in lines]


class TestWritten:
    def test_are_those_of_the_frames_that_were_taken(self, tmp_path: Path) -> None:
        masks = np.random.default_rng(0).integers(0, 2, (FRAMES, 8, 8), dtype=np.uint8)
        labels = {"left": np.arange(FRAMES) % 4, "right": masks}
        assert write(tmp_path, {"left": CLASSES, "right": MASK}, labels, skip=1, count=3) == ("left", "right")
        with np.load(tmp_path / "labels.npz") as arrays:
            assert arrays["left"].tolist() == [1, 2, 3]
            np.testing.assert_array_equal(arrays["right"], masks[1:4])

    def test_of_one_model_are_enough(self, tmp_path: Path) -> None:
        assert write(tmp_path, {"left": CLASSES, "right": CLASSES}, {"right": np.zeros(FRAMES, int)}) == ("right",)

    def test_without_any_there_is_no_file(self, tmp_path: Path) -> None:
        assert write(tmp_path, {"left": CLASSES}, {}) == ()
        assert not (tmp_path / "labels.npz").exists()

    def test_equal_labels_are_equal_bytes(self, tmp_path: Path) -> None:
        seen = set()
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            write(tmp_path / name, {"left": CLASSES}, {"left": np.arange(FRAMES) % 4})
            seen.add((tmp_path / name / "labels.npz").read_bytes())
        assert len(seen) == 1

    def test_texts_are_labels_for_a_function_of_ones_own(self, tmp_path: Path) -> None:
        judge = Judge(metric("math:hypot"), (4,), is_asked_for=True)
        texts = np.array(["a", "b", "ccc", "d", "e", "f"])
        write(tmp_path, {"left": judge}, {"left": texts})
        with np.load(tmp_path / "labels.npz") as arrays:
            assert arrays["left"].tolist() == texts.tolist()

    def test_texts_of_no_model_may_lie_there(self, tmp_path: Path) -> None:
        assert write(tmp_path, {"left": CLASSES}, {"names": np.array(["a.png"] * FRAMES)}) == ()


class TestRefused:
    def test_all_at_once(self, tmp_path: Path) -> None:
        judges = {
            "short": CLASSES,
            "floats": CLASSES,
            "beyond": CLASSES,
            "small": MASK,
            "grey": MASK,
            "absent": MASK,
            "fine": CLASSES,
        }
        labels = {
            "short": np.zeros(FRAMES - 1, int),
            "floats": np.zeros(FRAMES),
            "beyond": np.array([0, 4, 1, -2, 3, 9]),
            "small": np.zeros((FRAMES, 4, 4), int),
            "grey": np.full((FRAMES, 8, 8), 255, np.uint8),
            "fine": np.zeros(FRAMES, int),
            "finee": np.zeros(FRAMES, int),
            "ids": np.arange(FRAMES),
        }
        found = problems(tmp_path, judges, labels)
        assert [text.partition(":")[0] for text in found] == [
            "finee", "ids", "absent", "short", "floats", "beyond", "small", "grey"
        ]  # fmt: skip
        text = dict(line.split(": ", 1) for line in found)
        assert text["finee"] == "no model has this name, and labels bear that of theirs; did you mean fine?"
        assert text["ids"].endswith("the models are short, floats, beyond, small, grey, absent, fine")
        assert text["absent"].startswith("none, and the spec wants iou@0.5 of it; the set has short, floats")
        assert text["short"] == "found 5 labels for 6 frames, one for each is wanted"
        assert "found float64 of shape (frames,), top-1 wants classes" in text["floats"]
        assert "Name its metric in the spec: top-1, top-5" in text["floats"]
        assert (
            text["beyond"] == "found -2 to 9 in the labels of frames 1, 3, 5, top-1 wants 0 to 3, one of its 4 scores"
        )
        assert "found int64 of shape (frames, 4, 4), iou@0.5 wants masks" in text["small"]
        assert "shape (frames, 8, 8)" in text["small"]
        assert text["grey"] == ("found 255 in the labels of frames 0, 1, 2, 3, 4 and 1 more, iou@0.5 wants 0 and 1")

    def test_frames_are_counted_as_they_lie_in_the_set(self, tmp_path: Path) -> None:
        (found,) = problems(tmp_path, {"left": CLASSES}, {"left": np.array([7, 0, 0, 8, 0, 9])}, skip=1, count=4)
        assert found.startswith("left: found 8 in the labels of frame 3, ")

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.array(3), "found one value for 6 frames"),
            (np.array([None] * FRAMES), "found object of shape (frames,)"),
            (np.array(["cat"] * FRAMES), "found <U3 of shape (frames,)"),
        ],
    )
    def test_other_things_under_a_models_name(self, tmp_path: Path, labels: Any, message: str) -> None:
        (found,) = problems(tmp_path, {"left": CLASSES}, {"left": labels})
        assert message in found

    def test_fortran_order(self, tmp_path: Path) -> None:
        (found,) = problems(tmp_path, {"left": MASK}, {"left": np.asfortranarray(np.zeros((FRAMES, 8, 8), int))})
        assert found == "left: found an array in Fortran order; save numpy.ascontiguousarray(array)"

    def test_labels_of_a_map_without_a_metric_name_what_there_is(self, tmp_path: Path) -> None:
        judge = Judge(metric(""), (8, 8, 1), is_asked_for=False)
        (found,) = problems(tmp_path, {"left": judge}, {"left": np.zeros((FRAMES, 8, 8), int)})
        assert "found a map of shape (8, 8, 1); there are iou and mae. Name its metric in the spec" in found
