"""What a model script does here: acts, is listed as not emulated, or is refused; nothing is passed over."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import pytest
import runners

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.emulator.plan import Normalization, Plan, plan
from hefjoin.emulator.quantize import Mode
from hefjoin.formats.model_script import parse
from hefjoin.formats.model_script_commands import COMMANDS

LAYERS = ["net/input_layer1", "net/conv1", "net/conv2", "net/ew_add1", "net/output_layer1"]
BOTH = [*LAYERS, "other/conv1", "other/output_layer1"]
EIGHT, FOUR, SIXTEEN = Mode(8, 8), Mode(8, 4), Mode(16, 16)


def planned(script: str) -> Plan:
    return plan(parse(script), ["net"], ["net/input_layer1"], LAYERS)


def planned_joined(script: str) -> Plan:
    merged = {"other/input_layer1": "net/input_layer1"}
    return plan(parse(script), ["net", "other"], ["net/input_layer1"], BOTH, merged)


def test_an_empty_script_asks_for_nothing() -> None:
    assert planned("") == Plan()


@pytest.mark.parametrize(
    "script",
    [
        "n = normalization([1, 2, 3], [4, 5, 6])",
        "n = normalization([1, 2, 3], [4, 5, 6], input_layer1)",
        "net/n = normalization([1.0, 2, 3], [4, 5, 6], net/input_layer1)",
    ],
)
def test_normalization(script: str) -> None:
    (step,) = planned(script).normalizations
    assert step == Normalization("net/n", "net/input_layer1", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("conv1", ["net/conv1"]),
        ("net/conv2", ["net/conv2"]),
        ("[conv1, ew_add1]", ["net/conv1", "net/ew_add1"]),
        ("{conv*}", ["net/conv1", "net/conv2"]),
        ("{net/ew_*}", ["net/ew_add1"]),
        ("{*}", LAYERS),
        ("{net/*}", LAYERS),
    ],
)
def test_selectors(selector: str, names: list[str]) -> None:
    modes = planned(f"quantization_param({selector}, precision_mode=a16_w16)").modes
    assert modes == dict.fromkeys(names, SIXTEEN)


@pytest.mark.parametrize(("mode", "bits"), [("a8_w8", EIGHT), ("a8_w4", FOUR), ("a16_w16", SIXTEEN)])
def test_precision_modes(mode: str, bits: Mode) -> None:
    assert planned(f"quantization_param(conv1, precision_mode={mode})").modes == {"net/conv1": bits}


def test_the_later_precision_wins() -> None:
    lines = ["quantization_param({*}, precision_mode=a16_w16)", "quantization_param(conv1, precision_mode=a8_w4)"]
    assert planned("\n".join(lines)).modes == dict.fromkeys(LAYERS, SIXTEEN) | {"net/conv1": FOUR}


def test_a_scope_can_be_selected_as_a_whole() -> None:
    modes = planned_joined("quantization_param({other/*}, precision_mode=a16_w16)").modes
    assert modes == {"other/conv1": SIXTEEN, "other/output_layer1": SIXTEEN}


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_that_the_script_makes_can_be_selected(first: bool) -> None:
    lines = ["n = normalization([1], [2])", "quantization_param({n*}, precision_mode=a16_w16)"]
    assert planned("\n".join(lines if first else lines[::-1])).modes["net/n"] == SIXTEEN


def test_calibration_and_level() -> None:
    assert planned("model_optimization_config(calibration, batch_size=8, calibset_size=7)").calibset_size == 7
    assert planned("model_optimization_config(calibration, batch_size=8)").calibset_size == 64
    assert planned("model_optimization_flavor(optimization_level=2)").optimization_level == 2


@pytest.mark.parametrize(("mode", "single"), [("disabled", True), ("enabled", False), ("allowed", False)])
def test_a_single_context_can_be_demanded(mode: str, single: bool) -> None:
    found = planned(f"context_switch_param(mode={mode})")
    assert (found.single_context, bool(found.not_emulated)) == (single, not single)


@pytest.mark.parametrize(
    "command",
    [
        "allocator_param(timeout=3600)",
        "resources_param(max_control_utilization=0.9)",
        "performance_param(fps=200)",
        "performance_param(compiler_optimization_level=max)",
        "context_switch_param(mode=disabled, max_utilization=0.8)",
        "hef_param(share_config=True)",
        "platform_param(hints=[low_pcie_bandwidth])",
        "set_seed(seed=23)",
        "c0 = context([conv1])",
    ],
)
def test_what_steers_only_the_real_compiler_is_listed(command: str) -> None:
    assert planned(command).not_emulated == [command]


REFUSED = {
    "resize1 = resize(input_layer1, resize_shapes=[8, 8])": "changes numbers",
    "change_output_activation(sigmoid)": "changes numbers",
    'nms_postprocess("n.json", meta_arch=yolov8, engine=cpu)': "changes numbers",
    "c = input_conversion(input_layer1, yuv_to_rgb)": "changes numbers",
    "post_quantization_optimization(finetune, policy=enabled)": "changes numbers",
    "pre_quantization_optimization(equalization, policy=disabled)": "changes numbers",
    "model_optimization_config(globals, output_encoding_vector=enabled)": r"\(globals, …\) is not emulated",
    "model_optimization_config(calibration, layers={conv*})": "not emulated with layers",
    "model_optimization_config(calibration, calibset_size=0)": "at least 1, has 0",
    "model_optimization_flavor(compression_level=1)": "compression_level is not emulated",
    "quantization_param(conv1, force_range_out=[0, 1])": "not force_range_out",
    "quantization_param(conv1, precision_mode=a16_w8)": "no precision_mode a16_w8; Hailo-8 has a8_w8, a8_w4, a16_w16",
    "quantization_param(conv9, precision_mode=a8_w8)": "selects conv9, which is no layer",
    "quantization_param({dw*}, precision_mode=a8_w8)": r"selects dw\*, which is no layer",
    "quantization_param({output_layer*}, precision_mode=a16_w16)": "on an output layer",
    "n = normalization([1], [0])": "above zero",
    "n = normalization([a], [b])": r"takes \[means\]",
    "n = normalization(1, 2)": r"takes \[means\]",
    "n = normalization([1], [2], conv1)": "names net/conv1; the input layers are net/input_layer1",
    "n, m = normalization([1], [2])": "makes 2 layers for 1 inputs",
    "conv1 = normalization([1], [2])": "makes net/conv1, and there is a layer of that name",
    "n = normalization([1], [2])\nm = normalization([1], [2])": "normalizes net/input_layer1 a second time",
}


@pytest.mark.parametrize("script", REFUSED)
def test_what_would_change_numbers_is_refused(script: str) -> None:
    with pytest.raises(exceptions.AllocatorScriptParserException, match=REFUSED[script]) as caught:
        planned(script)
    assert str(caught.value).startswith(f"model script:{script.count(chr(10)) + 1}:")


def test_every_known_command_acts_is_listed_or_is_refused() -> None:
    """No command of the table is passed over in silence."""
    acting = {
        "normalization",
        "quantization_param",
        "model_optimization_config",
        "model_optimization_flavor",
        "context_switch_param",
    }
    for name in COMMANDS.keys() - acting:
        target = "n = " if COMMANDS[name].creates else ""
        try:
            told = planned(f"{target}{name}()").not_emulated
        except exceptions.AllocatorScriptParserException as refusal:
            told = [str(refusal)]
        assert any(name in text for text in told)


def test_all_problems_are_listed() -> None:
    script = "change_output_activation(sigmoid)\nquantization_param(conv9, precision_mode=a1_w1)\nn = normalization(1)"
    with pytest.raises(exceptions.AllocatorScriptParserException) as caught:
        planned(script)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "2", "3"]


EQUAL = "net/n = normalization([1], [2], net/input_layer1)\nother/n = normalization([1], [2], other/input_layer1)"


@pytest.mark.parametrize("reverse", [False, True])
def test_an_equal_normalization_of_the_input_that_is_gone_is_taken_with_a_warning(reverse: bool) -> None:
    lines = EQUAL.splitlines()[:: -1 if reverse else 1]
    found = planned_joined("\n".join(lines))
    assert [step.input for step in found.normalizations] == ["net/input_layer1"]
    assert [text.partition(";")[0] for text in found.warnings] == [
        "other/input_layer1 was joined into net/input_layer1"
    ]


@pytest.mark.parametrize("script", [EQUAL.replace("[2], other", "[3], other"), EQUAL.splitlines()[1]])
def test_another_normalization_of_the_input_that_is_gone_is_refused(script: str) -> None:
    with pytest.raises(exceptions.AllocatorScriptParserException, match="joined into net/input_layer1, with other"):
        planned_joined(script)


def joined(folder: Path) -> ClientRunner:
    path = graphs.save(graphs.small_net(), folder)
    runner = runners.parsed(path, folder, "net")
    runner.join(runners.parsed(path, folder, "other"), join_action=JoinAction.AUTO_JOIN_INPUTS)
    return runner


def test_the_joined_runner_knows_which_input_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = joined(tmp_path)
    runner.load_model_script(EQUAL.replace("[1], [2]", "[1, 2, 3], [4, 5, 6]"))
    runner.optimize(graphs.frames(2))
    assert "[warning] other/input_layer1 was joined into net/input_layer1" in capsys.readouterr().out
    first, second = runners.infer(runner, graphs.frames(1), "SDK_QUANTIZED")
    np.testing.assert_array_equal(first, second)


def test_a_script_replaces_the_one_before_unless_it_is_appended(tmp_path: Path) -> None:
    runner = joined(tmp_path)
    one, two = "allocator_param(timeout=1)\n", "resources_param(max_utilization=0.5)\n"
    runner.load_model_script(one)
    runner.load_model_script(two)
    assert runner.model_script == two
    runner.load_model_script(one, append=True)
    assert runner.model_script == two + one
    runner.load_model_script(None)
    assert runner.model_script == ""


def test_a_refused_script_leaves_the_one_before(tmp_path: Path) -> None:
    runner = joined(tmp_path)
    runner.load_model_script("allocator_param(timeout=1)")
    for bad, error in (
        ("n = normalization(", exceptions.BackendScriptParserException),
        ("normalization([1], [2])", exceptions.BackendScriptParserException),
        ("normalisation([1], [2])", exceptions.BackendScriptParserException),
        ("quantization_param(nothing, precision_mode=a8_w8)", exceptions.AllocatorScriptParserException),
        (str(tmp_path / "absent.alls"), exceptions.InvalidArgumentsException),
    ):
        with pytest.raises(error):
            runner.load_model_script(bad, append=True)
    assert runner.model_script == "allocator_param(timeout=1)\n"


@pytest.mark.parametrize("as_path", [False, True])
def test_a_script_may_be_a_file(as_path: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.alls"
    path.write_text("# from net.alls\nallocator_param(timeout=1)\n")
    runner = joined(tmp_path)
    runner.load_model_script(path if as_path else str(path))
    assert runner.model_script == "allocator_param(timeout=1)\n"
    runner.load_model_script("set_seed(seed=1)\n# from net.alls")
    assert runner.model_script == "set_seed(seed=1)\n"
