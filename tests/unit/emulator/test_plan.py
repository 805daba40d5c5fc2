"""What a model script does here: acts, is listed as not emulated, or is refused; nothing is passed over."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import pytest
import runners
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.emulator.hn import Hn
from hefjoin.emulator.modify import Normalization
from hefjoin.emulator.plan import Clipping, Plan, plan
from hefjoin.emulator.quantize import Mode
from hefjoin.formats.model_script import Command, Glob, Script, Word, parse
from hefjoin.formats.model_script_commands import COMMANDS

LAYERS = ["net/input_layer1", "net/conv1", "net/conv2", "net/ew_add1", "net/output_layer1"]
BOTH = [*LAYERS, "other/conv1", "other/output_layer1"]
EIGHT, FOUR, SIXTEEN = Mode(8, 8), Mode(8, 4), Mode(16, 16)


def view(*layers: str) -> Hn:
    """Return an HN of these layers, with the keys that a plan reads."""

    def entry(name: str) -> dict[str, object]:
        kind = name.partition("/")[2].rstrip("0123456789")
        feeding = [last[name.partition("/")[0]]] if kind == "output_layer" else []
        return {
            "type": kind,
            "input": feeding,
            "output_shapes": [[-1, 8, 8, 4]],
            "params": {"activation": "linear"},
        }

    scopes = list(dict.fromkeys(name.partition("/")[0] for name in layers))
    last = {scope: f"{scope}/{'ew_add1' if scope == 'net' else 'conv1'}" for scope in scopes}
    params = {"net_scopes": scopes, "output_layers_order": list(last.values())}
    return {"name": "net", "net_params": params, "layers": {name: entry(name) for name in layers}}


def planned(script: str) -> Plan:
    return plan(parse(script), view(*LAYERS))


def planned_joined(script: str) -> Plan:
    return plan(parse(script), view(*BOTH), {"other/input_layer1": "net/input_layer1"})


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
    (step,) = planned(script).modifications
    assert step == Normalization("net/n", "net/input_layer1", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_in_a_joined_network_a_new_layer_needs_a_scope() -> None:
    with pytest.raises(exceptions.AllocatorScriptParserException, match="has a scope: net, other"):
        planned_joined("n = normalization([1, 2, 3], [4, 5, 6], net/input_layer1)")


def test_one_command_may_normalize_every_input() -> None:
    (first, second) = plan(
        parse("a, b = normalization([1], [2])"), view("net/input_layer1", "net/input_layer2", *LAYERS[1:])
    ).modifications
    assert first == Normalization("net/a", "net/input_layer1", (1.0,), (2.0,))
    assert second == Normalization("net/b", "net/input_layer2", (1.0,), (2.0,))


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


SETTINGS = {
    "model_optimization_config(calibration, batch_size=8, calibset_size=7)": {"calibset_size": 7, "batch_size": 8},
    "model_optimization_config(calibration)": {"calibset_size": 64, "batch_size": None},
    "model_optimization_config(compression_params, auto_4bit_weights_ratio=0.4)": {"four_bit_ratio": 0.4},
    "model_optimization_flavor(optimization_level=2)": {"optimization_level": 2, "compression_level": 0},
    "model_optimization_flavor(optimization_level=-100)": {"optimization_level": -100},
    "model_optimization_flavor(compression_level=5, batch_size=2)": {"compression_level": 5, "batch_size": 2},
    "model_optimization_flavor(compression_level=1)\nmodel_optimization_flavor(optimization_level=1)": {
        "compression_level": 1,
        "optimization_level": 1,
    },
    "pre_quantization_optimization(equalization, policy=disabled)": {"equalization": False},
    "pre_quantization_optimization(equalization, policy=enabled)": {"equalization": True},
    "post_quantization_optimization(bias_correction, policy=enabled)": {"bias_correction": True},
    "set_seed(seed=23)": {"seed": 23},
    "allocator_param(timeout=1)": {"equalization": None, "bias_correction": None, "seed": None, "clipping": {}},
}


@pytest.mark.parametrize("script", SETTINGS)
def test_what_steers_quantization(script: str) -> None:
    found = planned(script)
    assert {name: getattr(found, name) for name in SETTINGS[script]} == SETTINGS[script]


CLIP = "pre_quantization_optimization(activation_clipping, layers={}, mode={}, clipping_values=[{}])"


def test_ranges_of_layers() -> None:
    lines = [
        CLIP.format("{conv*}", "percentile", "0.01, 99.99"),
        CLIP.format("[conv2]", "manual", "-1, 2.5"),
        "quantization_param(ew_add1, force_range_out=[0, 1])",
    ]
    assert planned("\n".join(lines)).clipping == {
        "net/conv1": Clipping("percentile", 0.01, 99.99),
        "net/conv2": Clipping("manual", -1.0, 2.5),
        "net/ew_add1": Clipping("manual", 0.0, 1.0),
    }
    lines.append("pre_quantization_optimization(activation_clipping, layers=[conv1, ew_add1], mode=disabled)")
    assert planned("\n".join(lines)).clipping == {"net/conv2": Clipping("manual", -1.0, 2.5)}


def test_precision_and_range_may_be_set_at_once() -> None:
    found = planned("quantization_param(conv1, precision_mode=a16_w16, force_range_out=[0, 6])")
    assert (found.modes, found.clipping) == ({"net/conv1": SIXTEEN}, {"net/conv1": Clipping("manual", 0.0, 6.0)})


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
        "c0 = context([conv1])",
        "model_optimization_config(checker_cfg, policy=enabled, analyze_mode=simple)",
        "model_optimization_config(globals, multiproc_policy=disabled, output_encoding_vector=disabled)",
        "post_quantization_optimization(finetune, policy=disabled)",
        "post_quantization_optimization(adaround, policy=disabled)",
        "pre_quantization_optimization(weights_clipping, layers={conv*}, mode=disabled)",
    ],
)
def test_what_steers_only_the_real_compiler_is_listed(command: str) -> None:
    assert planned(command).not_emulated == [command]


NMS = 'nms_postprocess("n.json", meta_arch=yolov8, engine=cpu)'
REFUSED = {
    "r = resize(input_layer1)": r"needs resize_shapes=\[height, width\]",
    "r = resize(input_layer1, resize_shapes=[8, 0])": r"needs resize_shapes=\[height, width\]",
    "r = resize(input_layer1, resize_shapes=[8, 8], resize_method=nearest_neighbor)": "bilinear on nn_core only",
    "r = resize(conv1, resize_shapes=[8, 8])": "names net/conv1; the input layers are net/input_layer1",
    "a, b = resize(resize_shapes=[8, 8])": "makes 2 layers for 1 inputs",
    "change_output_activation(gelu)": "one of sigmoid, tanh, relu, linear; has gelu",
    "change_output_activation(conv1, sigmoid)": "names net/conv1, which feeds no output; net/ew_add1 do",
    "change_output_activation(tanh)\nchange_output_activation(ew_add1, sigmoid)": "a second time",
    NMS: "needs a configuration",
    "nms_postprocess(meta_arch=yolov8)": "needs a configuration",
    "x = logits_layer(conv1, softmax, -1, cpu)": "names net/conv1, which feeds no output",
    "x = logits_layer(ew_add1, softmax, 1, cpu)": r"along the features \(axis -1\), not along axis 1",
    "x = logits_layer(ew_add1, softmax, -1, nn_core)": "with engine cpu, not nn_core",
    "x = logits_layer(ew_add1, sigmoid, -1, cpu)": "softmax or argmax, has sigmoid",
    "x = logits_layer(ew_add1)": "is written as",
    "conv1 = logits_layer(ew_add1, softmax, -1, cpu)": "makes net/conv1, and there is a layer",
    "x = logits_layer(ew_add1, softmax, -1, cpu)\ny = logits_layer(ew_add1, argmax, -1, cpu)": "has taken",
    "c = input_conversion(input_layer1, i420_to_rgb)": "one of bgr_to_rgb.*; has i420_to_rgb",
    "c = input_conversion(input_layer1, nv12_to_rgb, emulator_support=True)": "1 layers for 1 inputs, 2 each",
    "c = input_conversion(bgr_to_rgb, emulator_support=False)": "is always emulated",
    "post_quantization_optimization(finetune, policy=enabled)": r"\(finetune, …\) trains",
    "post_quantization_optimization(bias_correction, policy=allowed)": "policy=enabled or policy=disabled, has allowed",
    "post_quantization_optimization(bias_correction, policy=enabled, layers=[conv1])": "not emulated with layers",
    "pre_quantization_optimization(weights_clipping, layers=[conv1], mode=mmse)": r"\(weights_clipping, …\) is not",
    "pre_quantization_optimization(ew_add_fusing, policy=enabled)": r"\(ew_add_fusing, …\) is not emulated",
    CLIP.format("[conv1]", "gaussian", "1, 2"): "percentile and manual mode, not in gaussian",
    CLIP.format("[conv1]", "percentile", "1, 200"): "percentages of 0–100",
    CLIP.format("[conv1]", "manual", "2, 1"): r"low below high; has \[2.0, 1.0\]",
    CLIP.format("[conv9]", "manual", "1, 2"): "selects conv9, which is no layer",
    "pre_quantization_optimization(activation_clipping, mode=manual, clipping_values=[0, 1])": "needs layers",
    "model_optimization_config(globals, output_encoding_vector=allowed)": "enabled or disabled, has allowed",
    "model_optimization_config(globals, dataset_size=8)": "dataset_size",
    "model_optimization_config(negative_exponent, layers={*}, rank=1)": r"\(negative_exponent, …\) is not emulated",
    "model_optimization_config(compression_params, auto_4bit_weights_ratio=1.5)": "of 0–1, has 1.5",
    "model_optimization_config(compression_params, auto_16bit_weights_ratio=1)": "not emulated with auto_16bit",
    "model_optimization_config(calibration, layers={conv*})": "not emulated with layers",
    "model_optimization_config(calibration, calibset_size=0)": "at least 1, has 0",
    "model_optimization_flavor(compression_level=6)": "compression_level of at least 0 and at most 5, has 6",
    "model_optimization_flavor(optimization_level=5)": "at most 4, has 5",
    "model_optimization_flavor(optimization_level=max)": "at most 4, has max",
    "set_seed(seed=a)": "needs seed of at least 0, has a",
    "set_seed()": "needs seed=<whole number>",
    "quantization_param(conv1, force_range_in=[0, 1])": "not emulated with force_range_in",
    "quantization_param(conv1)": "takes one selector, and what to set",
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
    script = "change_output_activation(gelu)\nquantization_param(conv9, precision_mode=a1_w1)\nn = normalization(1)"
    with pytest.raises(exceptions.AllocatorScriptParserException) as caught:
        planned(script)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "2", "2", "3"]


EQUAL = "net/n = normalization([1], [2], net/input_layer1)\nother/n = normalization([1], [2], other/input_layer1)"


@pytest.mark.parametrize("reverse", [False, True])
def test_an_equal_normalization_of_the_input_that_is_gone_is_taken_with_a_warning(reverse: bool) -> None:
    lines = EQUAL.splitlines()[:: -1 if reverse else 1]
    found = planned_joined("\n".join(lines))
    assert [step.input for step in found.modifications if isinstance(step, Normalization)] == ["net/input_layer1"]
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


WORDS = [
    "conv1", "net/ew_add1", "output_layer1", "input_layer1", "sigmoid", "softmax", "cpu", "nv12_to_rgb", "bgr_to_rgb",
    "enabled", "disabled", "percentile", "manual", "calibration", "globals", "activation_clipping", "equalization",
    "bias_correction", "a8_w4", "null", "True",
]  # fmt: skip
KEYWORDS = [
    "layers", "mode", "policy", "clipping_values", "precision_mode", "force_range_out", "resize_shapes", "seed",
    "emulator_support", "optimization_level", "compression_level", "calibset_size", "auto_4bit_weights_ratio",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(WORDS).map(lambda word: True if word == "True" else Word(word)),
    st.integers(-3, 300),
    st.floats(-1e9, 1e9),
    st.sampled_from(["conv*", "net/*", "*"]).map(Glob),
    st.text("a.", max_size=3),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3).map(tuple))
ACTING = sorted(name for name, signature in COMMANDS.items() if signature.stage != "compilation")


@given(
    st.lists(
        st.builds(
            Command,
            targets=st.lists(st.sampled_from(["n", "m", "net/conv1"]), max_size=2).map(tuple),
            name=st.sampled_from(ACTING),
            args=st.lists(VALUES, max_size=4).map(tuple),
            kwargs=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=3).map(lambda made: tuple(made.items())),
        ),
        max_size=3,
    )
)
def test_any_commands_give_a_plan_or_are_refused(commands: list[Command]) -> None:
    try:
        found = plan(Script(tuple(commands)), view(*LAYERS))
    except exceptions.AllocatorScriptParserException:
        return
    assert found.calibset_size > 0
    assert all(clipping.low < clipping.high for clipping in found.clipping.values())
