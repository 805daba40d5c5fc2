"""Mistakes in model scripts: told before the join, all at once, each with its place in the spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import Problem, SpecError
from hefjoin.results.networks import LayerView, Network, Tensor
from hefjoin.results.sources import Provider
from hefjoin.spec import validate_spec
from hefjoin.stages.script_check import require_sound
from tests.tiny import pair

REF = Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media="har")
LAYERS = ("conv1", "avgpool1", "fc1")


def network(scope: str) -> Network:
    """Return a classifier, parsed under any scope."""
    views = tuple(LayerView(name=f"{scope}/{name}", type="conv", inputs=(), parameters=1, macs=1) for name in LAYERS)
    return Network(
        har=REF, scopes=(scope,), state="hailo_model", hw_arch="hailo8", sdk_version="1", layers=views,
        inputs=(Tensor(layer=f"{scope}/input_layer1", original_name="image", shape=(16, 16, 3)),),
        outputs=(Tensor(layer=f"{scope}/fc1", original_name="scores", shape=(4,)),),
    )  # fmt: skip


NETWORKS = {"left": network("resnet_v1_18"), "right": network("right")}


def problems(*models: str, provider: Provider = "dfc", **changes: Any) -> Sequence[Problem]:
    """Return what is wrong with a pair whose models have these scripts."""
    spec = pair(**changes)
    for model, own in zip(spec["models"], models, strict=False):
        model["script"] = own
    try:
        require_sound(validate_spec(spec), NETWORKS, provider)
    except SpecError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    "command",
    [
        "",
        "quantization_param(conv1, precision_mode=a16_w16)",
        "quantization_param([left/conv1, fc1], precision_mode=a16_w16)",
        "quantization_param({conv*}, precision_mode=a8_w4)",
        "quantization_param({left/*}, precision_mode=a8_w4)",
        "quantization_param({*output_layer*}, precision_mode=a16_w16)",
        "quantization_param({norm*}, precision_mode=a8_w4)",
        "quantization_param(output_layer1, precision_mode=a16_w16)",
        "model_optimization_config(negative_exponent, layers={*}, rank=0)",
        "change_output_activation(sigmoid)",
        "y = logits_layer(fc1, softmax, -1, cpu)\nquantization_param(y, precision_mode=a16_w16)",
        "performance_param(fps=30)",
        "a, b = defuse(conv_the_compiler_made, 2)",
    ],
)
def test_what_is_right_is_not_reported(command: str) -> None:
    assert problems(command) == ()


def test_the_joint_script_names_layers_with_their_scope() -> None:
    assert problems(script="quantization_param([left/conv1, right/input_layer1], precision_mode=a16_w16)") == ()
    ((where, message),) = problems(script="quantization_param(conv1, precision_mode=a16_w16)")
    assert where == "script:1:1"
    assert "conv1, which is no layer of the joined network; did you mean `left/conv1`?" in message


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("left/r = resize(left/input_layer1, resize_shapes=[8, 8])", "leave it out"),
        ("left/r, left/y = input_conversion(nv12_to_rgb, emulator_support=True)", "leave emulator_support out"),
        ("left/r, left/y = input_conversion(nv12_to_rgb)", ""),
        ("left/r = input_conversion(left/input_layer1, bgr_to_rgb)", ""),
    ],
)
def test_frames_keep_the_shape_that_the_build_prepares(command: str, said: str) -> None:
    found = problems(script=command)
    assert [where for where, _ in found] == ["script:1:" + str(command.index("= ") + 3)] * bool(said)
    assert all(said in message for _, message in found)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("quantization_param(cnov1, precision_mode=a16_w16)", "which is no layer of `right`; did you mean `conv1`?"),
        ("quantization_param(left/conv1, precision_mode=a16_w16)", "left/conv1, which is no layer of `right`"),
        ("quantization_param({matmul*}, precision_mode=a16_w16)", "{matmul*}, which no layer matches"),
        ("quantization_param(input_layer1, precision_mode=a16_w16)", "write it in the joint `script`"),
        ("r = resize(input_layer1, resize_shapes=[32, 32])", "write it in the joint `script`"),
        ("n = normalization([0], [1])", "mean and std"),
        ("model_optimization_config(calibration, batch_size=8, calibset_size=1024)", "calibration.count"),
        ("model_optimization_flavor(optimization_level=2)", "quantization.optimization_level"),
        ("quantisation_param(conv1)", "did you mean `quantization_param`?"),
        ("quantization_param(conv1", "is still open"),
        ("bucket(conv1)", "it is not known which arguments"),
        ('nms_postprocess("/no/such.json", meta_arch=yolov8)', "/no/such.json cannot be read"),
        ("nms_postprocess(meta_arch=yolov8)", "name its configuration file"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(command: str, said: str) -> None:
    ((where, message),) = problems("", f"# mine\n{command}")
    assert where.startswith("models[1].script:2:")
    assert said in message


REPLACING = {
    'nms_postprocess("nms.json", meta_arch=yolov8)': "",
    'nms_postprocess("nms.json", yolov8, engine=cpu)': "",
    "x = logits_layer(fc1, softmax, -1, cpu)": "",
    'nms_postprocess("nms.json", meta_arch=ssd)': "boxes of yolov8 only",
    'nms_postprocess("nms.json", meta_arch=yolov8, engine=nn_core)': "only on the cpu",
    "x = logits_layer(fc1, softmax, -1, nn_core)": "only on the cpu",
}


@pytest.mark.parametrize("provider", ["dfc", "emulator"])
@pytest.mark.parametrize("command", REPLACING)
def test_outputs_that_the_emulator_cannot_replace_are_for_the_dfc(
    command: str, provider: Provider, tmp_path: Path
) -> None:
    (tmp_path / "nms.json").write_text("{}")
    found = problems(command.replace("nms.json", f"{tmp_path}/nms.json"), provider=provider)
    if provider == "dfc" or not REPLACING[command]:
        assert found == ()
        return
    ((where, message),) = found
    assert where.startswith("models[0].script:1:")
    assert REPLACING[command] in message


def test_everything_wrong_in_all_scripts_comes_at_once() -> None:
    found = problems(
        "quantization_param(a, precision_mode=a8_w4)\nquantization_param(b, precision_mode=a8_w4)",
        "allocator_param(seed=2)\nwrong(",
        script="wrong(1)",
        compile={"attempts": ["wrong(2)", "performance_param(fps=30)", "set_seed(seed=1)"]},
    )
    places = [path for path, _ in found]
    assert places == [
        "models[0].script:1:1", "models[0].script:2:1", "models[1].script:2:6", "script:1:1",
        "compile.attempts[0]:1:1", "compile.attempts[2]:1:1",
    ]  # fmt: skip


class TestConflicts:
    def test_two_models_with_two_flavors_and_two_targets_are_told_of_both(self) -> None:
        script = "model_optimization_flavor(compression_level={})\nperformance_param(fps={})"
        found = problems(script.format(0, 30), script.format(1, 60))
        assert [path for path, _ in found] == ["models[1].script:1:1", "models[1].script:2:1"]
        assert "compression_level=1, but models[0].script:1:1 sets compression_level=0" in found[0].message
        assert "fps=60, but models[0].script:2:1 sets fps=30" in found[1].message

    def test_a_script_against_a_field_names_the_field(self) -> None:
        ((where, message),) = problems(script="context_switch_param(mode=enabled)")
        assert where == "script:1:1"
        assert "compile:1:1 sets mode=disabled" in message


class TestAttempts:
    @pytest.mark.parametrize(
        ("attempt", "said"),
        [
            ("quantization_param({*}, precision_mode=a8_w4)", "is no compile command"),
            ("performance_param(compiler_optimization_level=max)\nresources_param(max_utilization=0.9)", "drop one"),
            ("context_switch_param(mode=enabled)", "single context"),
        ],
    )
    def test_one_that_cannot_be_made_is_told_now(self, attempt: str, said: str) -> None:
        ((where, message),) = problems(compile={"attempts": ["performance_param(fps=30)", attempt]})
        assert where.startswith("compile.attempts[1]")
        assert said in message

    def test_limits_do_not_go_with_the_search_that_the_spec_asks_for(self) -> None:
        options = {"performance_mode": True, "attempts": ["resources_param(max_utilization=0.9)"]}
        ((where, _),) = problems(compile=options)
        assert where.startswith("compile.attempts[0]")

    def test_without_a_single_context_there_are_none(self) -> None:
        ((where, _),) = problems(compile={"single_context": False, "attempts": ["performance_param(fps=30)"]})
        assert where == "compile.attempts"


class TestFiles:
    COMMAND = 'nms_postprocess("{}/nms.json", meta_arch=yolov8)'

    def found(self, folder: Path, content: str, joint: bool = False) -> Sequence[Problem]:
        (folder / "nms.json").write_text(content)
        command = self.COMMAND.format(folder)
        return problems(script=command) if joint else problems(command)

    @pytest.mark.parametrize("layer", ["conv1", "left/conv1", ""])
    def test_a_configuration_of_the_networks_layers_is_right(self, tmp_path: Path, layer: str) -> None:
        decoders = [{"name": "bbox_decoder1", "reg_layer": layer, "cls_layer": "fc1"}]
        assert self.found(tmp_path, json.dumps({"bbox_decoders": decoders})) == ()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('{"reg_layer": "conv2"}', "names conv2, which is no layer of `left`; did you mean `conv1`?"),
            ("{", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ("[]", "a JSON object is wanted"),
            (f'{{"x": "{" " * (1 << 20)}"}}', "has at most"),
        ],
    )
    def test_another_is_told_with_the_command(self, tmp_path: Path, content: str, said: str) -> None:
        ((where, message),) = self.found(tmp_path, content)
        assert where == "models[0].script:1:1"
        assert said in message

    def test_in_the_joint_scripts_each_layer_has_its_scope(self, tmp_path: Path) -> None:
        assert self.found(tmp_path, '{"reg_layer": "right/conv1"}', joint=True) == ()
        ((_, message),) = self.found(tmp_path, '{"reg_layer": "conv1"}', joint=True)
        assert "did you mean `left/conv1`?" in message

    def test_two_files_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        for folder in (tmp_path, tmp_path / "other"):
            (folder / "nms.json").write_text("{}")
        commands = "\n".join(self.COMMAND.format(folder) for folder in (tmp_path, tmp_path / "other"))
        ((where, message),) = problems(commands)
        assert where == "models[0].script:2:1"
        assert "rename one" in message
