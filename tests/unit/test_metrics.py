"""The metrics: each against scikit-learn or plain numpy, what each refuses, and functions of one's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, mean_absolute_error, top_k_accuracy_score

from hefjoin.errors import InputError
from hefjoin.metrics import own
from hefjoin.metrics.metric import Own, metric
from hefjoin.spec import METRIC_PATTERN

RNG = np.random.default_rng(8)
SCORES, MAP = (10,), (6, 8, 1)


def scores(text: str, outputs: Any, labels: Any) -> list[float]:
    judge = metric(text)
    return [judge.score(output, label) for output, label in zip(outputs, labels, strict=True)]


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name", "kind"),
        [
            ("", "top-1", "hits"),
            ("top-12", "top-12", "hits"),
            ("iou", "iou@0.5", "overlap"),
            ("iou@0.3", "iou@0.3", "overlap"),
            ("iou@-2", "iou@-2", "overlap"),
            ("mae", "mae", "error"),
            ("math:hypot", "math:hypot", "score"),
        ],
    )
    def test_of_each(self, text: str, name: str, kind: str) -> None:
        assert re.fullmatch(METRIC_PATTERN, text)
        assert (metric(text).name, metric(text).kind) == (name, kind)
        assert metric(metric(text).name) == metric(text)

    @pytest.mark.parametrize(
        "text",
        [
            *("top", "top-0", "top-", "top1", "iou@", "iou@.5", "iou@1e3", "iou@0,5", "MAE", "mae\n"),
            *("f", ":f", "a:", "a.b", "a:b:c", "a/b:f", "a..b:f", "a: f", "os;x:f"),
        ],
    )
    def test_others_match_no_pattern(self, text: str) -> None:
        assert not re.match(METRIC_PATTERN.replace("$", r"\Z"), text)


class TestTopK:
    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize("shape", [(60, 10), (60, 1, 1, 10)])
    def test_is_that_of_scikit_learn(self, k: int, shape: tuple[int, ...]) -> None:
        outputs = RNG.normal(size=shape).astype(np.float32)
        labels = RNG.integers(0, 10, 60)
        expected = top_k_accuracy_score(labels, outputs.reshape(60, 10), k=k, labels=range(10))
        assert np.mean(scores(f"top-{k}", outputs, labels)) == pytest.approx(expected)

    def test_of_equal_scores_the_first_is_the_higher_as_in_argmax(self) -> None:
        tied = np.array([[3, 5, 5, 1]] * 4, np.float32)
        assert scores("top-1", tied, range(4)) == [0, 1, 0, 0]
        assert scores("top-2", tied, range(4)) == [0, 1, 1, 0]

    def test_a_score_that_is_no_number_is_a_miss(self) -> None:
        assert scores("top-1", np.full((1, 4), np.nan, np.float32), [0]) == [0]


class TestIou:
    @pytest.mark.parametrize("threshold", [0.3, 0.5])
    @pytest.mark.parametrize("axes", [(6, 8), MAP])
    def test_is_that_of_scikit_learn(self, threshold: float, axes: tuple[int, ...]) -> None:
        outputs = RNG.uniform(size=(5, *MAP)).astype(np.float32)
        masks = RNG.integers(0, 2, (5, *axes))
        expected = [
            jaccard_score(mask.ravel(), output.ravel() > threshold) for mask, output in zip(masks, outputs, strict=True)
        ]
        assert scores(f"iou@{threshold}", outputs, masks) == pytest.approx(expected)

    def test_nothing_where_nothing_is_is_whole(self) -> None:
        assert scores("iou", np.zeros((1, *MAP), np.float32), [np.zeros(MAP, bool)]) == [1.0]


@pytest.mark.parametrize(("output", "label"), [((1,), ()), ((4,), (4,)), (MAP, (6, 8)), ((1, 1, 3), (3,))])
def test_mae_is_that_of_scikit_learn(output: tuple[int, ...], label: tuple[int, ...]) -> None:
    judge = metric("mae")
    outputs, labels = RNG.normal(size=(5, *output)).astype(np.float32), RNG.normal(size=(5, *label))
    assert not judge.labels_problem(labels.dtype, label, output)
    expected = [mean_absolute_error(b.ravel(), a.ravel()) for a, b in zip(outputs, labels, strict=True)]
    assert scores("mae", outputs, labels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "output", "problem"),
    [
        ("top-1", (1, 1, 10), ""),
        ("top-1", MAP, "top-1 wants one score for each class, found a map of shape (6, 8, 1)"),
        ("top-5", (5,), "top-5 is met by every label, found 5 scores"),
        ("top-1", (1,), "top-1 is met by every label, found 1 score"),
        ("iou", MAP, ""),
        ("iou", (6, 8, 2), "iou@0.5 wants a map of one channel, (height, width, 1), found (6, 8, 2)"),
        ("iou", SCORES, "found (10,)"),
        ("mae", MAP, ""),
        ("math:hypot", MAP, ""),
    ],
)
def test_outputs_that_each_can_judge(text: str, output: tuple[int, ...], problem: str) -> None:
    found = metric(text).output_problem(output)
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("text", "output", "dtype", "label", "problem"),
    [
        ("top-1", SCORES, "uint8", (), ""),
        ("top-1", SCORES, "float32", (), "found float32 of shape (frames,), top-1 wants classes, whole numbers"),
        ("top-1", SCORES, "bool", (), "found bool"),
        ("top-1", SCORES, "int64", (10,), "found int64 of shape (frames, 10), top-1 wants classes"),
        ("iou", MAP, "bool", (6, 8), ""),
        ("iou", MAP, "uint8", MAP, ""),
        ("iou", MAP, "float32", MAP, "found float32 of shape (frames, 6, 8, 1), iou@0.5 wants masks of 0 and 1"),
        ("iou", MAP, "bool", (8, 6), "of shape (frames, 6, 8)"),
        ("mae", (4,), "float64", (4,), ""),
        ("mae", (1,), "int32", (), ""),
        ("mae", (4,), "float64", (), "mae wants numbers like its output (4,): shape (frames, 4)"),
        ("mae", (1,), "float64", (2,), "mae wants numbers of shape (frames,)"),
        ("mae", (1,), "<U3", (), "found <U3"),
        ("math:hypot", MAP, "<U3", (), ""),
        ("math:hypot", MAP, "O", (), "found object of shape (frames,), which is not read"),
    ],
)
def test_labels_that_each_takes(text: str, output: Any, dtype: str, label: Any, problem: str) -> None:
    found = metric(text).labels_problem(np.dtype(dtype), label, output)
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("text", "output", "labels", "wrong"),
    [
        ("top-1", SCORES, np.array([0, 9, 10, -1]), [2, 3]),
        ("top-1", SCORES, np.array([0, 255], np.uint8), [1]),
        ("iou", (1, 2, 1), np.array([[[0, 1]], [[0, 255]], [[1, 1]]]), [1]),
        ("iou", (1, 2, 1), np.array([[[True, False]]]), []),
        ("mae", (2,), np.array([[0, 1], [np.nan, 0], [0, np.inf]]), [1, 2]),
        ("math:hypot", (2,), np.array([np.nan]), []),
    ],
)
def test_values_that_mean_nothing(text: str, output: Any, labels: Any, wrong: list[int]) -> None:
    assert np.flatnonzero(metric(text).wrong(labels, output)).tolist() == wrong


class TestOwn:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "ours_for_tests").mkdir()
        (tmp_path / "ours_for_tests" / "__init__.py").write_text("")
        (tmp_path / "ours_for_tests" / "metrics.py").write_text(
            "def closeness(output, label):\n    return 1 / (1 + abs(output.sum() - label))\nVALUE = 3\n"
        )
        (tmp_path / "ours_for_tests" / "broken.py").write_text("1 / 0\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.startswith("ours_for_tests")]:
            monkeypatch.delitem(sys.modules, name)
        return tmp_path

    def test_is_any_function_that_can_be_imported(self, package: Path) -> None:
        assert scores("ours_for_tests.metrics:closeness", np.ones((2, 3), np.float32), [3, 4]) == [1, 0.5]

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("ours_for_tests.absent:f", "the module ours_for_tests.absent cannot be imported: ModuleNotFoundError"),
            ("ours_for_tests.broken:f", "cannot be imported: ZeroDivisionError: division by zero"),
            ("ours_for_tests.metrics:absent", "the module ours_for_tests.metrics has no function absent"),
            ("ours_for_tests.metrics:VALUE", "has no function VALUE"),
        ],
    )
    def test_what_cannot_be_loaded_is_told(self, package: Path, reference: str, message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)):
            metric(reference)

    def test_its_code_is_known_by_content(self, package: Path) -> None:
        metric("ours_for_tests.metrics:closeness")
        before = own.source_sha256("ours_for_tests.metrics:closeness")
        with (package / "ours_for_tests" / "metrics.py").open("a") as stream:
            stream.write("# another\n")
        assert own.source_sha256("ours_for_tests.metrics:closeness") == before  # what was loaded judges
        del sys.modules["ours_for_tests.metrics"]
        metric("ours_for_tests.metrics:closeness")
        assert own.source_sha256("ours_for_tests.metrics:closeness") != before
        own.load("sys:exit")
        assert own.source_sha256("sys:exit") == ""

    @pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), 1, True])
    def test_gives_a_number(self, value: Any) -> None:
        assert Own("m:f", lambda output, label: value).score(np.zeros(3, np.float32), 1) == float(value)

    @pytest.mark.parametrize("value", [None, "0.5", [0.5], np.zeros(2), float("nan"), np.inf, 1j, {}])
    def test_anything_else_is_refused(self, value: Any) -> None:
        with pytest.raises(InputError, match=r"m:f gave .*, wanted one finite number"):
            Own("m:f", lambda output, label: value).score(np.zeros(3, np.float32), 1)

    def test_what_it_raises_is_told(self) -> None:
        with pytest.raises(InputError, match="m:f raised KeyError: 'class'"):
            Own("m:f", lambda output, label: {}["class"]).score(np.zeros(3, np.float32), 1)
