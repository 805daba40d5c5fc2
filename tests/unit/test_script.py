"""The model script of a build: every name in it comes from the joined network."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hefjoin.artifacts import Ref
from hefjoin.calibration import Health
from hefjoin.errors import SpecError
from hefjoin.results.checked import Frames, JoinCheck
from hefjoin.results.networks import Joined, Network, Tensor
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.stages.script import assemble, before_compile, before_optimize, changed_by_script, files, post_processed
from tests.tiny import pair

REF = Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media="har")
HEALTH = Health(
    requested=64, count=48, dtype="uint8", min=0, max=255, mean=(1, 1, 1), std=(1, 1, 1), duplicates=0, blanks=0,
    looks_normalised=False, notes=(),
)  # fmt: skip


def joined(input_layer: str = "left/input_layer1", **outputs: str) -> Joined:
    """Return a join of left and right; `outputs` maps layers, `__` for the slash, to models."""
    model_of_output = {layer.replace("__", "/"): model for layer, model in outputs.items()}
    return Joined(
        name="left_right",
        network=Network(
            har=REF, scopes=("left", "right"), state="hailo_model", hw_arch="hailo8", sdk_version="1",
            inputs=(Tensor(layer=input_layer, original_name="image", shape=(16, 16, 3)),), outputs=(), layers=(),
        ),
        input_layer=input_layer,
        output_layers=tuple(model_of_output or ("left/fc1", "right/fc1")),
        equality=(),
    )  # fmt: skip


def check(mean: tuple[float, ...] = (120.5, 115.0, 105.0), std: tuple[float, ...] = (60.0, 58.0, 57.0)) -> JoinCheck:
    frames = Frames(npy=REF, health=HEALTH)
    return JoinCheck(
        height=16, width=16, channels=3, mean=mean, std=std, color="rgb", agreements=(), calibration=frames,
        evaluation=frames, evaluation_is_held_out=True,
    )  # fmt: skip


def script(checked: JoinCheck | None = None, join: Joined | None = None, models: Any = (), **changes: Any) -> list[str]:
    """Return the assembled script's lines; `models` gives each model's own script."""
    spec = pair(**changes)
    for model, own in zip(spec["models"], models, strict=False):
        model["script"] = own
    return str(assemble(validate_spec(spec), checked or check(), join or joined())).splitlines()


def test_normalization_names_the_input_that_the_join_left() -> None:
    first = script(join=joined("right/input_layer2"))[0]
    assert (
        first == "right/normalization1 = normalization([120.5, 115.0, 105.0], [60.0, 58.0, 57.0], right/input_layer2)"
    )


def test_without_normalization_there_is_none() -> None:
    assert not [line for line in script(check((), ())) if "normalization" in line]


def test_a_plain_build_says_calibration_level_and_context_only() -> None:
    assert script(check((), ()), quantization={"optimization_level": 2}) == [
        "model_optimization_config(calibration, calibset_size=48)",
        "model_optimization_flavor(optimization_level=2)",
        "context_switch_param(mode=disabled)",
    ]


class TestOwnScripts:
    def test_come_under_their_scope(self) -> None:
        lines = script(
            models=[
                "quantization_param(conv1, precision_mode=a16_w16)",
                "quantization_param([conv1, fc1], precision_mode=a8_w4)",
            ]
        )
        assert "quantization_param(left/conv1, precision_mode=a16_w16)" in lines
        assert "quantization_param([right/conv1, right/fc1], precision_mode=a8_w4)" in lines

    def test_an_activation_on_all_outputs_means_the_models_own(self) -> None:
        lines = script(
            join=joined(left__conv7="left", right__fc1="right", left__conv9="left"),
            models=["change_output_activation(sigmoid)"],
        )
        assert [line for line in lines if "activation" in line] == [
            "change_output_activation(left/conv7, sigmoid)",
            "change_output_activation(left/conv9, sigmoid)",
        ]

    def test_the_joint_script_comes_as_it_is_and_last(self) -> None:
        lines = script(script="quantization_param(right/conv1, precision_mode=a8_w4)")
        assert lines[-1] == "quantization_param(right/conv1, precision_mode=a8_w4)"

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({"models": ["", "no_such_command(conv1)"]}, "models[1].script:1:1"),
            ({"models": ["quantization_param(conv1"]}, "models[0].script"),
            ({"script": "\n\nwrong(1)"}, "script:3:1"),
        ],
    )
    def test_a_mistake_is_found_by_its_place_in_the_spec(self, changes: dict[str, Any], where: str) -> None:
        with pytest.raises(SpecError) as caught:
            script(**changes)
        assert caught.value.problems[0].path.startswith(where)

    def test_two_models_that_want_different_values_are_told_so(self) -> None:
        command = "allocator_param(timeout={})"
        with pytest.raises(SpecError) as caught:
            script(models=[command.format(60), command.format(90)])
        (problem,) = caught.value.problems
        assert problem.path.startswith("models[1].script:1:")
        assert "timeout=90" in problem.message
        assert "models[0].script:1:" in problem.message

    def test_a_models_own_precision_comes_after_the_general_one(self) -> None:
        lines = script(
            models=["quantization_param(conv1, precision_mode=a16_w16)"], quantization={"precision": "a8_w4"}
        )
        wanted = [
            "quantization_param({*}, precision_mode=a8_w4)",
            "quantization_param(left/conv1, precision_mode=a16_w16)",
        ]
        assert [line for line in lines if line.startswith("quantization_param")] == wanted

    def test_a_script_against_the_spec_is_told_so(self) -> None:
        with pytest.raises(SpecError, match="mode=enabled"):
            script(script="context_switch_param(mode=enabled)")

    def test_saying_the_same_twice_is_no_conflict(self) -> None:
        lines = script(script="context_switch_param(mode=disabled)")
        assert lines.count("context_switch_param(mode=disabled)") == 1


class TestSpecFields:
    def test_the_default_precision_needs_no_command(self) -> None:
        assert not [line for line in script() if "precision_mode" in line]

    @pytest.mark.parametrize("precision", ["a8_w4", "a16_w16"])
    def test_another_precision_goes_to_every_layer(self, precision: str) -> None:
        lines = script(quantization={"precision": precision})
        assert f"quantization_param({{*}}, precision_mode={precision})" in lines

    def test_compile_options(self) -> None:
        options = {"single_context": False, "performance_mode": True, "target_fps": 120}
        lines = script(compile=options)
        assert "performance_param(compiler_optimization_level=max)" in lines
        assert "performance_param(fps=120)" in lines
        assert not [line for line in lines if "context_switch_param" in line]


class TestStages:
    def test_each_command_goes_where_it_acts_and_none_is_lost(self) -> None:
        spec = pair(compile={"performance_mode": True}, quantization={"precision": "a16_w16"})
        spec["models"][1]["script"] = "change_output_activation(sigmoid)"
        whole = assemble(validate_spec(spec), check(), joined())
        optimize, compile_ = before_optimize(whole).splitlines(), before_compile(whole).splitlines()
        assert sorted(optimize + compile_) == sorted(str(whole).splitlines())
        assert compile_ == [
            "performance_param(compiler_optimization_level=max)",
            "context_switch_param(mode=disabled)",
        ]

    def test_modifications_come_first(self) -> None:
        spec = pair(script="change_output_activation(right/fc1, sigmoid)")
        lines = before_optimize(assemble(validate_spec(spec), check(), joined())).splitlines()
        kinds = ["normalization(" in line or "change_output" in line for line in lines]
        assert kinds == sorted(kinds, reverse=True)
        assert sum(kinds) == 2


class TestFiles:
    CONFIG = {"classes": 2, "bbox_decoders": [{"name": "d41", "stride": 8, "reg_layer": "conv1", "cls_layer": ""}]}

    def spec(self, folder: Path, *scripts: str, joint: str = "") -> BuildSpec:
        (folder / "nms.json").write_text(json.dumps(self.CONFIG))
        spec = pair(script=joint.format(folder))
        for model, text in zip(spec["models"], scripts, strict=False):
            model["script"] = text.format(folder)
        return validate_spec(spec)

    COMMAND = 'nms_postprocess("{}/nms.json", meta_arch=yolov8, engine=cpu)'

    def test_each_model_has_its_own_copy_with_its_own_layers(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path, self.COMMAND, self.COMMAND)
        found = files(spec, tmp_path)
        assert list(found) == ["left.nms.json", "right.nms.json"]
        for scope in ("left", "right"):
            (decoder,) = json.loads(found[f"{scope}.nms.json"].read_text())["bbox_decoders"]
            wanted = {"name": f"{scope}/d41", "stride": 8, "reg_layer": f"{scope}/conv1", "cls_layer": ""}
            assert decoder == wanted
        assert json.loads((tmp_path / "nms.json").read_text()) == self.CONFIG

    def test_the_script_calls_them_as_they_lie_in_the_steps_directory(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path, "", self.COMMAND)
        assert 'nms_postprocess("right.nms.json", meta_arch=yolov8, engine=cpu)\n' in before_optimize(
            assemble(spec, check(), joined())
        )

    def test_what_was_changed_is_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            files(self.spec(tmp_path, self.COMMAND), tmp_path)
        assert f"models[0].script: the layers in {tmp_path}/nms.json were put under left/" in caplog.messages

    def test_the_joint_scripts_file_stays_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        found = files(self.spec(tmp_path, joint=self.COMMAND), tmp_path / "out")
        assert json.loads(found["nms.json"].read_text()) == self.CONFIG

    @pytest.mark.parametrize(
        ("scripts", "joint", "models"),
        [
            (("", ""), "", ()),
            (("", COMMAND), "", ("right",)),
            (("x = logits_layer(fc1, softmax, -1, cpu)", ""), "", ("left",)),
            (("", ""), COMMAND, ("left", "right")),
        ],
    )
    def test_whose_outputs_are_replaced_is_known(
        self, tmp_path: Path, scripts: tuple[str, ...], joint: str, models: tuple[str, ...]
    ) -> None:
        assert post_processed(self.spec(tmp_path, *scripts, joint=joint)) == models


class TestChangedByScript:
    def changed(self, *own: str, joint: str = "") -> dict[str, str]:
        raw = pair(script=joint)
        for model, text in zip(raw["models"], own or ("", ""), strict=True):
            model["script"] = text
        return changed_by_script(validate_spec(raw))

    def test_no_script_and_what_steers_quantization_change_nothing(self) -> None:
        assert self.changed() == {}
        assert self.changed("quantization_param(fc1, precision_mode=a16_w16)\nset_seed(seed=3)", "") == {}

    def test_a_models_own_script_changes_that_model(self) -> None:
        assert self.changed("", "\nchange_output_activation(fc1, sigmoid)") == {
            "right": "`change_output_activation` in models[1].script changes the network after parsing"
        }

    def test_the_joint_script_changes_the_models_that_it_names(self) -> None:
        assert list(self.changed(joint="change_output_activation(left/fc1, sigmoid)")) == ["left"]
        assert list(self.changed(joint="change_output_activation({*}, sigmoid)")) == ["left", "right"]

    def test_another_input_changes_all(self) -> None:
        found = self.changed(joint="c = input_conversion(left/input_layer1, bgr_to_rgb)")
        assert list(found) == ["left", "right"]
        assert found["right"] == "`input_conversion` in script changes the network after parsing"

    def test_outputs_that_are_replaced_are_not_judged_at_all(self) -> None:
        assert self.changed("p = logits_layer(fc1, softmax, -1, cpu)", "") == {}
