"""Model scripts in a whole build: each model's own, the files they refer to, and mistakes told before the join."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.errors import SpecError
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import pair, write_pair

CONFIG = {"classes": 4, "bbox_decoders": [{"name": "d1", "stride": 8, "reg_layer": "conv1", "cls_layer": "fc1"}]}
BOXES = "left/yolov8_nms_postprocess"
SCRIPTS = (
    'nms_postprocess("boxes/nms.json", meta_arch=yolov8, engine=cpu)\nperformance_param(fps=30)',
    "quantization_param(fc1, precision_mode=a16_w16)",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pair with images and a file that a script refers to, and a DFC."""
    folder = tmp_path_factory.mktemp("scripts")
    write_pair(folder)
    (folder / "boxes").mkdir()
    (folder / "boxes" / "nms.json").write_text(json.dumps(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        patch.setenv(DFC_PYTHON, str(interpreter(folder / "dfc")))
        yield folder


def build(folder: Path, *scripts: str, sdk: Any = "dfc", **changes: Any) -> Build:
    spec = pair(**changes)
    for model, own in zip(spec["models"], scripts, strict=True):
        model["script"] = own
    (folder / "tiny.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    found: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"), sdk=sdk)
    return found


@pytest.fixture(scope="module")
def built(folder: Path) -> Build:
    return build(folder, *SCRIPTS, gates={"min_snr_db": 5})


def test_each_models_script_acts_under_its_scope_and_in_its_stage(built: Build) -> None:
    optimized, compiled = built.manifest.quantized.script, built.manifest.compiled.script
    assert "quantization_param(right/fc1, precision_mode=a16_w16)" in optimized
    assert "performance_param(fps=30)" not in optimized
    assert "performance_param(fps=30)" in compiled
    assert optimized.index("nms_postprocess") < optimized.index("model_optimization_config")


def test_a_file_beside_the_spec_goes_along_with_its_layers_scoped(built: Build, folder: Path) -> None:
    assert 'nms_postprocess("left.nms.json", meta_arch=yolov8, engine=cpu)' in built.manifest.quantized.script
    store = open_store(str(folder / "store"))
    stages = {run.stage: run for run in built.manifest.stages}
    record = store.read_record(f"reuse/quantize/{stages['quantize'].key}")
    assert record is not None
    uri = record["inputs"]["files"]["left.nms.json"]["uri"]
    (decoder,) = json.loads(Path(uri.removeprefix("file://")).read_text())["bbox_decoders"]
    assert decoder == {"name": "left/d1", "stride": 8, "reg_layer": "left/conv1", "cls_layer": "left/fc1"}


class TestReplacedOutputs:
    def test_they_are_told_and_not_judged(self, built: Build) -> None:
        quantized = built.manifest.quantized
        assert quantized.output_layers == (BOXES, "right/fc1")
        assert quantized.unjudged == (BOXES,)

    def test_the_other_model_is_judged(self, built: Build) -> None:
        (accuracy,) = built.manifest.quantized.accuracy
        assert accuracy.model == "right"
        assert [output.layer for output in accuracy.outputs] == ["right/fc1"]

    def test_the_hef_gives_boxes_in_their_place(self, built: Build) -> None:
        outputs = {stream.name: stream for stream in built.manifest.compiled.deployment.outputs}
        assert outputs.keys() == {BOXES, "right/fc1"}
        assert (outputs[BOXES].model, outputs[BOXES].order) == ("left", "HAILO NMS BY CLASS")
        assert (outputs[BOXES].shape, outputs[BOXES].dtype) == ((4, 5, 100), "FLOAT32")

    def test_only_the_gate_of_the_judged_model_is_evaluated(self, built: Build) -> None:
        verdicts = {gate.name: gate.verdict for gate in built.manifest.gates}
        assert verdicts == {"SNR of left": "not evaluated", "SNR of right": "passed"}

    def test_the_report_names_them_without_a_figure(self, built: Build, folder: Path) -> None:
        report = open_store(str(folder / "store")).get(built.published.report, folder / "report.html")
        rows = [row for row in report.read_text(encoding="utf-8").split("<tr") if BOXES in row]
        assert any("not judged" in row for row in rows)


def test_logits_are_an_output_of_their_own_name(folder: Path) -> None:
    manifest = build(folder, "", "probabilities = logits_layer(fc1, softmax, -1, cpu)", name="logits").manifest
    assert manifest.quantized.unjudged == ("right/probabilities",)
    assert {stream.name for stream in manifest.compiled.deployment.outputs} == {"left/fc1", "right/probabilities"}


def test_another_content_of_the_file_is_another_quantization(built: Build, folder: Path) -> None:
    path = folder / "boxes" / "nms.json"
    path.write_text(json.dumps({**CONFIG, "classes": 5}))
    again = {run.stage: run for run in build(folder, *SCRIPTS).manifest.stages}
    path.write_text(json.dumps(CONFIG))
    assert again["join"].is_reused
    assert not again["quantize"].is_reused


def test_mistakes_of_all_scripts_are_told_before_anything_is_joined(folder: Path) -> None:
    wrong = ("quantization_param(fc9, precision_mode=a16_w16)", 'nms_postprocess("absent.json", meta_arch=yolov8)')
    with pytest.raises(SpecError) as caught:
        build(folder, *wrong, name="wrong", script="quantization_param(left/nope, precision_mode=a16_w16)")
    places = [path for path, _ in caught.value.problems]
    assert places == ["models[0].script:1:1", "models[1].script:1:1", "script:1:1"]
    assert "did you mean `fc1`?" in caught.value.problems[0].message
    assert f"{folder}/absent.json cannot be read" in caught.value.problems[1].message


def test_the_emulator_names_all_that_it_needs_of_a_configuration(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"nms_scores_th.*max_proposals_per_class.*'left/conv1' feeds no output"):
        build(folder, 'nms_postprocess("boxes/nms.json", meta_arch=yolov8)', "", sdk="emulator", name="emulated")
