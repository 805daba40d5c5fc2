"""The score stage: four stages of a model on labels, what is missing and why, and an own metric that fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, SpecError
from hefjoin.results.checked import JoinCheck, Labels
from hefjoin.results.measured import Measured
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized
from hefjoin.results.sources import Sdk
from hefjoin.scores import ModelScores
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import validate_spec
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.score import Score
from hefjoin.stores import open_store
from tests.builds import MODELS, make_manifest

FRAMES = 40
LEFT, RIGHT = MODELS
RNG = np.random.default_rng(12)
CLASSES = RNG.integers(0, 5, FRAMES)
EXACT = (np.eye(5)[CLASSES] + RNG.uniform(0, 0.9, (FRAMES, 5))).astype(np.float32)
"""Right on every frame."""
MASKS = RNG.integers(0, 2, (FRAMES, 6, 6)).astype(bool)
MAP = np.where(MASKS, np.float32(0.9), np.float32(0.1))[..., np.newaxis]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    toolchain = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=toolchain)


def missed(scores: Any, *frames: int) -> Any:
    """Scores that are wrong on some frames."""
    wrong = scores.copy()
    wrong[list(frames)] = -scores[list(frames)]
    return wrong


class Built:
    """A build up to the score stage, its arrays in the store."""

    def __init__(self, place: Workplace, folder: Path, arrays: dict[str, Any], labels: dict[str, Any]) -> None:
        self.place, self.folder = place, folder
        manifest = make_manifest()
        self.spec = manifest.spec
        self.joined: Joined = manifest.joined
        device = {name: array for name, array in arrays.items() if name.startswith("device")}
        simulated = {name: array for name, array in arrays.items() if name not in device}
        self.checked: JoinCheck = manifest.check.model_copy(
            update={"labels": Labels(npz=self.put("labels", labels), models=tuple(labels)) if labels else None}
        )
        self.quantized: Quantized = manifest.quantized.model_copy(update={"outputs": self.put("outputs", simulated)})
        accuracy = tuple(a for i, a in enumerate(manifest.quantized.accuracy) if f"device_{i}" in device)
        self.measured: Measured = manifest.measured.model_copy(
            update={"outputs": self.put("device", device) if device else None, "accuracy": accuracy}
        )

    def put(self, name: str, arrays: dict[str, Any]) -> Ref:
        np.savez(self.folder / f"{name}.npz", allow_pickle=False, **arrays)
        return self.place.store.put(self.folder / f"{name}.npz", "npz")

    def named(self, *metrics: str) -> Built:
        models = [{"name": m, "source": "a.onnx", "metric": t} for m, t in zip(MODELS, metrics, strict=True)]
        self.spec = validate_spec({"name": "x", "models": models, "calibration": {"source": "y"}})
        return self

    @property
    def stage(self) -> Score:
        return Score.of(self.spec, self.checked, self.joined, self.quantized, self.measured)

    def scores(self) -> tuple[ModelScores, ...]:
        return perform(self.stage, self.place).value.models


@pytest.fixture
def built(place: Workplace, tmp_path: Path) -> Built:
    """The first model loses eight frames of forty by quantizing and one more on the device; the second a pixel each."""
    rough = MAP.copy()
    rough[:, 0, 0, 0] = 1 - rough[:, 0, 0, 0]
    arrays = {
        "native_0": EXACT, "float_0": EXACT, "quantized_0": missed(EXACT, *range(8)),
        "device_0": missed(EXACT, *range(9)),
        "native_1": MAP, "float_1": MAP, "quantized_1": rough, "device_1": rough,
    }  # fmt: skip
    return Built(place, tmp_path, arrays, {LEFT: CLASSES, RIGHT: MASKS}).named("top-1", "iou")


class TestStages:
    def test_are_four_each_with_its_figure(self, built: Built) -> None:
        left, right = built.scores()
        assert (left.model, left.metric, left.kind, left.frames) == (LEFT, "top-1", "hits", FRAMES)
        assert {score.stage: score.value for score in left.stages} == {
            "native": 1, "fp-optimized": 1, "quantized": pytest.approx(32 / 40), "device": pytest.approx(31 / 40),
        }  # fmt: skip
        assert [score.value for score in right.stages[:2]] == [1, 1]
        found, true = built_masks(built, "quantized_1"), MASKS
        expected = [(f & t).sum() / (f | t).sum() for f, t in zip(found, true, strict=True)]
        assert right.stages[2].value == pytest.approx(np.mean(expected))

    def test_each_is_compared_with_all_before_it(self, built: Built) -> None:
        left, _ = built.scores()
        device = left.stages[-1]
        assert [difference.to for difference in device.differences] == ["native", "fp-optimized", "quantized"]
        to_native = device.difference_to("native")
        assert to_native is not None
        assert (to_native.frames_better, to_native.frames_worse) == (0, 9)
        assert to_native.p_value == pytest.approx(2 / 2**9)
        assert to_native.verdict == "worse"

    def test_one_frame_of_forty_is_noise(self, built: Built) -> None:
        left, _ = built.scores()
        difference = left.stages[-1].difference_to("quantized")
        assert difference is not None
        assert (difference.verdict, difference.p_value, difference.value) == ("within noise", 1, -1 / 40)
        assert difference.low is not None
        assert difference.high is not None
        assert difference.low < -1 / 40 < 0 < difference.high

    def test_a_small_loss_on_every_frame_is_no_noise(self, built: Built) -> None:
        _, right = built.scores()
        difference = right.stages[2].difference_to("native")
        assert difference is not None
        assert (difference.verdict, difference.frames_worse) == ("worse", FRAMES)
        assert right.drop("quantized") == pytest.approx(-100 * difference.value)

    def test_of_an_error_less_is_better(self, place: Workplace, tmp_path: Path) -> None:
        labels = RNG.normal(0, 5, FRAMES)
        exact = (labels + RNG.normal(0, 1, FRAMES))[:, np.newaxis].astype(np.float32)
        closer = ((exact[:, 0] + labels) / 2)[:, np.newaxis].astype(np.float32)
        arrays = {"native_0": exact, "float_0": exact, "quantized_0": closer}
        (left,) = Built(place, tmp_path, arrays, {LEFT: labels}).named("mae", "").scores()
        difference = left.stages[2].difference_to("fp-optimized")
        assert difference is not None
        assert (difference.verdict, difference.frames_better, difference.frames_worse) == ("better", FRAMES, 0)
        assert difference.value < 0
        assert left.drop("quantized") == pytest.approx(-50, abs=0.1)


def built_masks(built: Built, key: str) -> Any:
    with np.load(built.folder / "outputs.npz") as arrays:
        return arrays[key][..., 0] > 0.5


class TestMissing:
    def test_without_labels_nothing_is_scored(self, place: Workplace, tmp_path: Path) -> None:
        assert Built(place, tmp_path, {"float_0": EXACT}, {}).scores() == ()

    def test_a_native_network_that_a_script_changed(self, built: Built) -> None:
        reason = "`input_conversion` in script changes the network after parsing"
        built.quantized = built.quantized.model_copy(update={"not_native": {LEFT: reason}})
        left, right = built.scores()
        assert [score.stage for score in left.stages] == ["fp-optimized", "quantized", "device"]
        assert left.not_available == {"native": reason}
        assert [difference.to for difference in left.stages[0].differences] == []
        assert len(right.stages) == 4

    def test_a_device_that_was_not_there(self, built: Built) -> None:
        absent = {"source": "not measured", "outputs": None, "accuracy": ()}
        built.measured = built.measured.model_copy(update=absent)
        assert [model.not_available for model in built.scores()] == [{"device": "not measured"}] * 2

    def test_an_output_that_the_device_did_not_give(self, place: Workplace, tmp_path: Path) -> None:
        arrays = {f"{name}_0": EXACT for name in ("native", "float", "quantized")}
        arrays |= {f"{name}_1": MAP for name in ("native", "float", "quantized", "device")}
        found = Built(place, tmp_path, arrays, {LEFT: CLASSES, RIGHT: MASKS}).named("", "iou").scores()
        assert [model.not_available.get("device") for model in found] == ["its output was not read back", None]

    def test_a_model_whose_first_output_became_boxes(self, built: Built) -> None:
        layers = (f"{LEFT}/yolov8_nms_postprocess", built.quantized.output_layers[1])
        built.quantized = built.quantized.model_copy(update={"output_layers": layers, "unjudged": layers[:1]})
        left, right = built.scores()
        assert left.stages == ()
        assert left.not_available == dict.fromkeys(
            ("native", "fp-optimized", "quantized", "device"),
            "its outputs are post-processed in the model script, and not judged",
        )
        assert len(right.stages) == 4

    def test_outputs_that_are_no_numbers(self, place: Workplace, tmp_path: Path) -> None:
        broken = np.full((FRAMES, 1), np.nan, np.float32)
        arrays = {"native_0": EXACT[:, :1], "float_0": EXACT[:, :1], "quantized_0": broken}
        with pytest.raises(CompileError, match=rf"the scores of {LEFT} \(quantized\) are not finite"):
            Built(place, tmp_path, arrays, {LEFT: CLASSES}).named("mae", "").scores()


class TestOwnMetric:
    CODE = """
def highest(output, label):
    return 0.5 if output.argmax() == label else 0.0
def fails(output, label):
    return 1 / (int(label) - 3)
def writes(output, label):
    output[0] = 7
    return 1
"""

    @pytest.fixture
    def own(self, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
        (tmp_path / "scoring_for_tests.py").write_text(self.CODE)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "scoring_for_tests", raising=False)
        return built

    def test_judges_each_stage(self, own: Built) -> None:
        left, _ = own.named("scoring_for_tests:highest", "iou").scores()
        assert (left.metric, left.kind) == ("scoring_for_tests:highest", "score")
        assert [score.value for score in left.stages] == pytest.approx([0.5, 0.5, 0.4, 31 / 80])
        assert left.drop("quantized") == pytest.approx(20)

    def test_that_raises_is_told_with_its_place_model_and_frame(self, own: Built) -> None:
        with pytest.raises(SpecError) as caught:
            own.named("scoring_for_tests:fails", "iou").scores()
        ((path, message),) = caught.value.problems
        frame = int(np.flatnonzero(CLASSES == 3)[0])
        assert path == "models[0].metric"
        assert message == (
            "scoring_for_tests:fails raised ZeroDivisionError: division by zero; "
            f"on evaluation frame {frame} of {LEFT}, native"
        )

    def test_cannot_change_what_the_next_stage_is_judged_by(self, own: Built) -> None:
        with pytest.raises(SpecError, match="read-only"):
            own.named("scoring_for_tests:writes", "iou").scores()

    def test_that_is_not_there_is_told_with_its_place(self, own: Built) -> None:
        with pytest.raises(SpecError, match=r"models\[1\].metric: .*no function absent"):
            own.named("top-1", "scoring_for_tests:absent").scores()

    def test_other_code_is_another_score_and_the_same_is_reused(self, own: Built, tmp_path: Path) -> None:
        own.named("scoring_for_tests:highest", "iou")
        assert [perform(own.stage, own.place).run.is_reused for _ in range(2)] == [False, True]
        (tmp_path / "scoring_for_tests.py").write_text(f"{self.CODE}# another\n")
        del sys.modules["scoring_for_tests"]
        assert not perform(own.stage, own.place).run.is_reused
