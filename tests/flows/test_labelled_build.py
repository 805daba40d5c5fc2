"""Accuracy on labels through the whole job: four stages by the emulator, three by the compiler without a chip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.errors import CalibrationError
from hefjoin.manifest import Manifest
from hefjoin.scores import ModelScores
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import SIZE, images, pair, write_model

pytestmark = pytest.mark.long

COUNT = 40
MEAN, STD = (120.0, 115.0, 105.0), (60.0, 58.0, 57.0)


def segmenter() -> onnx.ModelProto:
    """Return conv, relu, conv, sigmoid: a map of one channel, as large as the image."""
    rng = np.random.default_rng(4)
    weights = {"w": rng.normal(0, 0.4, (6, 3, 3, 3)), "v": rng.normal(0, 0.9, (1, 6, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["1"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["1"], ["2"], "relu"),
        helper.make_node("Conv", ["2", "v"], ["3"], "head"),
        helper.make_node("Sigmoid", ["3"], ["map"], "sigmoid"),
    ]
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def alone(path: Path, frames: Any) -> Any:
    """What ONNX Runtime makes of the frames, normalized here: (frames, …), channels first."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = ((frames - np.array(MEAN)) / np.array(STD)).astype(np.float32).transpose(0, 3, 1, 2)
    return np.concatenate([session.run(None, {"image": frame[np.newaxis]})[0] for frame in batch])


def write(folder: Path, *metrics: str, name: str = "tiny", **changes: Any) -> Path:
    spec = pair(name=name, evaluation={"source": "eval.npz", "count": COUNT}, **changes)
    for model, metric in zip(spec["models"], metrics, strict=True):
        model["metric"] = metric
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def build(path: Path, folder: Path, sdk: Any = "emulator") -> Build:
    found: Build = join_and_compile(read_spec(path), store=str(folder / "store"), sdk=sdk)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A classifier and a segmenter; labels that the native networks meet on most frames and pixels."""
    folder = tmp_path_factory.mktemp("labelled")
    write_model(folder / "left.onnx", 0, 4)
    onnx.save(segmenter(), folder / "right.onnx")
    np.save(folder / "images.npy", images(16))
    frames = images(COUNT, seed=5)
    rng = np.random.default_rng(6)
    classes = alone(folder / "left.onnx", frames).argmax(1)
    classes[:4] = (classes[:4] + 1) % 4
    masks = alone(folder / "right.onnx", frames)[:, 0] > 0.5
    masks ^= rng.uniform(size=masks.shape) < 0.1
    np.savez(folder / "eval.npz", images=frames, left=classes, right=masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        yield folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Build:
    return build(write(folder, "", "iou", gates={"max_accuracy_drop": 50}), folder)


def both(manifest: Manifest) -> tuple[ModelScores, ModelScores]:
    left, right = manifest.scored.models
    assert (left.model, right.model) == ("left", "right")
    return left, right


class TestEmulator:
    def test_each_model_has_four_stages(self, first: Build) -> None:
        for scores in both(first.manifest):
            assert [score.stage for score in scores.stages] == ["native", "fp-optimized", "quantized", "device"]
            assert (scores.frames, scores.not_available) == (COUNT, {})

    def test_native_is_what_onnx_runtime_makes_of_the_file(self, first: Build, folder: Path) -> None:
        left, right = both(first.manifest)
        with np.load(folder / "eval.npz") as arrays:
            frames, classes, masks = (arrays[name] for name in ("images", "left", "right"))
        hits = alone(folder / "left.onnx", frames).argmax(1) == classes
        found = alone(folder / "right.onnx", frames)[:, 0] > 0.5
        overlaps = (found & masks).sum((1, 2)) / (found | masks).sum((1, 2))
        assert left.stages[0].value == hits.mean() == 1 - 4 / COUNT
        assert right.stages[0].value == pytest.approx(overlaps.mean(), abs=1e-3)

    def test_full_precision_is_native_but_for_rounding(self, first: Build) -> None:
        quantized = first.manifest.quantized
        assert [each.layer for each in quantized.native] == list(first.manifest.joined.output_layers)
        assert all(each.snr_db > 100 for each in quantized.native)

    def test_the_emulated_device_gives_what_was_simulated(self, first: Build) -> None:
        for scores in both(first.manifest):
            difference = scores.stages[3].difference_to("quantized")
            assert difference is not None
            assert difference.verdict == "within noise"

    def test_the_gates_judge_the_labels(self, first: Build) -> None:
        gates = {gate.name: gate for gate in first.manifest.gates}
        assert list(gates) == ["accuracy drop (top-1) of left", "accuracy drop (iou@0.5) of right"]
        assert all("p = " in gate.found or "p < " in gate.found for gate in gates.values())

    def test_the_report_has_a_table_for_each(self, first: Build, folder: Path, tmp_path: Path) -> None:
        path = open_store(str(folder / "store")).get(first.published.report, tmp_path / "report.html")
        report = path.read_text(encoding="utf-8")
        assert "Accuracy on labels" in report
        assert "IoU at 0.5 of right/conv2" in report

    def test_another_metric_costs_no_quantization(self, first: Build, folder: Path) -> None:
        del first
        again = build(write(folder, "top-2", "iou@0.3", gates={"max_accuracy_drop": 50}), folder)
        rebuilt = {run.stage for run in again.manifest.stages if not run.is_reused}
        assert rebuilt == {"check", "score"}
        assert [scores.metric for scores in again.manifest.scored.models] == ["top-2", "iou@0.3"]

    def test_labels_that_do_not_fit_are_told_before_the_join(self, folder: Path) -> None:
        with pytest.raises(CalibrationError, match=r"left: found int64 of shape \(frames,\), mae"):
            build(write(folder, "mae", "iou", name="wrong"), folder)


def test_the_compiler_gives_three_stages_and_a_script_takes_one(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = interpreter(tmp_path_factory.mktemp("dfc") / "venv")
    monkeypatch.setenv(DFC_PYTHON, str(python))
    spec = write(folder, "", "iou", name="compiled")
    raw = yaml.safe_load(spec.read_text(encoding="utf-8"))
    raw["models"][0]["script"] = "change_output_activation(fc1, sigmoid)"
    spec.write_text(yaml.safe_dump(raw), encoding="utf-8")
    manifest = build(spec, folder, "dfc").manifest
    left, right = both(manifest)
    reason = "`change_output_activation` in models[0].script changes the network after parsing"
    assert left.not_available == {"native": reason, "device": "not measured"}
    assert right.not_available == {"device": "not measured"}
    assert [score.stage for score in left.stages] == ["fp-optimized", "quantized"]
    assert [score.stage for score in right.stages] == ["native", "fp-optimized", "quantized"]
    assert left.stages[0].value == 1 - 4 / COUNT
    assert [each.layer for each in manifest.quantized.native] == ["right/conv2"]
    assert manifest.quantized.native[0].snr_db > 100
