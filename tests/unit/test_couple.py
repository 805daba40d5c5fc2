"""What couples the models of a join, and what of a joint script is one model's."""

from __future__ import annotations

from typing import Any

import pytest

from hefjoin.formats.model_script import Script, parse
from hefjoin.formats.model_script_parts import part_of
from hefjoin.results.networks import Network, Tensor
from hefjoin.results.quantized import Quantized
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.stages.couple import couplings
from hefjoin.stages.precision import precisions, with_raised
from hefjoin.stages.script import assemble_alone
from tests.builds import layers_of, make_manifest
from tests.tiny import pair
from tests.unit.test_script import REF, check, joined

KINDS = ["conv", "conv", "dense"]


def spec_of(own: str = "", joint: str = "", level: int = 0) -> BuildSpec:
    raw = pair(script=joint, quantization={"optimization_level": level})
    raw["models"][1]["script"] = own
    return validate_spec(raw)


def texts(provider: Any = "emulator", level: int = 0, kinds: Any = KINDS, std: Any = (1.0,), **scripts: str) -> str:
    """Return what changes numbers, in one text."""
    join = joined()
    layers = tuple(layer for model in ("left", "right") for layer in layers_of(model, kinds))
    shared = tuple(
        layer.model_copy(update={"inputs": tuple(name.replace("right/input", "left/input") for name in layer.inputs)})
        for layer in layers
    )
    join = join.model_copy(update={"network": join.network.model_copy(update={"layers": shared})})
    quantized: Quantized = make_manifest().quantized.model_copy(update={"effective_level": level})
    found = couplings(spec_of(level=level, **scripts), provider, check((0.0,), std), join, quantized, None)
    assert any(not each.changes_numbers and "48 frames" in each.text for each in found)
    return "\n".join(each.text for each in found if each.changes_numbers)


class TestCouplings:
    def test_a_plain_build_has_none(self) -> None:
        assert texts() == texts("dfc") == texts("dfc", level=1) == ""

    @pytest.mark.parametrize(
        "command",
        [
            "model_optimization_flavor(compression_level=1)",
            "model_optimization_config(compression_params, auto_4bit_weights_ratio=0.3)",
        ],
    )
    def test_bits_are_shared_out_over_all_weights(self, command: str) -> None:
        assert "over the weights of all models" in texts(joint=command)
        assert "models[1].script" in texts(own=command)

    @pytest.mark.parametrize(
        "command",
        [
            "model_optimization_flavor(compression_level=0)",
            "quantization_param(left/conv1, precision_mode=a8_w4)",
            "pre_quantization_optimization(equalization, policy=disabled)",
        ],
    )
    def test_a_joint_command_that_treats_each_layer_by_itself_couples_nothing(self, command: str) -> None:
        assert texts(joint=command) == ""

    def test_a_models_own_command_for_the_whole_network_acts_on_all(self) -> None:
        command = "pre_quantization_optimization(equalization, policy=disabled)"
        assert texts(own=command).endswith("stands in models[1].script and acts on all models, not on right alone")
        assert texts(own="quantization_param(conv1, precision_mode=a8_w4)") == ""

    def test_levels_mean_different_work(self) -> None:
        assert "trains the weights of all models" in texts("dfc", level=2)
        assert "64 frames" in texts("emulator", level=1)
        assert "trains all models" in texts("dfc", joint="post_quantization_optimization(finetune, policy=enabled)")
        assert texts("dfc", joint="post_quantization_optimization(finetune, policy=disabled)") == ""

    def test_a_first_layer_without_a_kernel_would_take_the_normalization_in(self) -> None:
        assert "left/maxpool1, right/maxpool1" in texts(kinds=["maxpool", "conv"])
        assert texts(kinds=["maxpool", "conv"], std=()) == ""


NAMES = {name: name for name in ("a/conv1", "a/fc1", "a/output_layer1")} | {"b/input_layer1": "a/input_layer1"}


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("model_optimization_flavor(compression_level=1)", "model_optimization_flavor(compression_level=1)"),
        ("quantization_param(a/fc1, precision_mode=a8_w4)", "quantization_param(a/fc1, precision_mode=a8_w4)"),
        ("quantization_param(b/fc1, precision_mode=a8_w4)", ""),
        ("quantization_param([b/fc1, a/fc1], bias_mode=x)", "quantization_param([a/fc1], bias_mode=x)"),
        ("quantization_param({conv*}, bias_mode=x)", "quantization_param({conv*}, bias_mode=x)"),
        ("quantization_param({b/*}, bias_mode=x)", ""),
        ("quantization_param({dw*}, bias_mode=x)", ""),
        ("change_output_activation(b/fc1, sigmoid)", ""),
        ("change_output_activation(sigmoid)", "change_output_activation(sigmoid)"),
        (
            "b/n = input_conversion(b/input_layer1, bgr_to_rgb)",
            "a/n = input_conversion(a/input_layer1, bgr_to_rgb)",
        ),
        (
            "pre_quantization_optimization(activation_clipping, layers=[a/conv1, b/conv1], mode=disabled)",
            "pre_quantization_optimization(activation_clipping, layers=[a/conv1], mode=disabled)",
        ),
    ],
)
def test_a_joint_command_keeps_what_it_says_of_one_network(command: str, left: str) -> None:
    found: Script = part_of(parse(command), "a", NAMES)
    assert str(found).strip() == left


def test_alone_a_model_has_its_own_script_and_its_own_normalization() -> None:
    network = Network(
        har=REF, scopes=("right",), state="hailo_model", hw_arch="hailo8", sdk_version="1",
        inputs=(Tensor(layer="right/input_layer1", original_name="x", shape=(16, 16, 3)),),
        outputs=(Tensor(layer="right/fc1", original_name="y", shape=(4,)),), layers=tuple(layers_of("right", KINDS)),
    )  # fmt: skip
    spec = spec_of("quantization_param(conv1, precision_mode=a8_w4)", "quantization_param(left/fc1, bias_mode=x)")
    assert str(assemble_alone(spec, check(), joined(), network)).splitlines() == [
        "right/normalization1 = normalization([120.5, 115.0, 105.0], [60.0, 58.0, 57.0], right/input_layer1)",
        "model_optimization_config(calibration, calibset_size=48)",
        "model_optimization_flavor(optimization_level=0)",
        "quantization_param(right/conv1, precision_mode=a8_w4)",
    ]


class TestPrecision:
    OUTPUTS = ("a/fc1", "b/fc1")

    def test_the_last_command_on_a_layer_counts(self) -> None:
        script = parse(
            "quantization_param({*}, precision_mode=a8_w4)\nquantization_param(a/conv1, precision_mode=a8_w8)"
        )
        assert precisions(script, ["a/conv1", "b/fc1"], self.OUTPUTS) == {"a/conv1": "a8_w8", "b/fc1": "a8_w4"}

    def test_what_is_raised_goes_before_all_that_was_said(self) -> None:
        script = with_raised(parse("quantization_param({*}, precision_mode=a8_w4)"), {"a/conv1": "a16_w16"})
        assert precisions(script, ["a/conv1", "a/fc1"], self.OUTPUTS) == {"a/conv1": "a16_w16", "a/fc1": "a8_w4"}

    def test_of_a_layer_without_a_word_nothing_is_said(self) -> None:
        script = parse("quantization_param(b/output_layer1, precision_mode=a16_w16)")
        assert precisions(script, ["a/fc1", "b/fc1"], self.OUTPUTS) == {"b/fc1": "a16_w16"}
