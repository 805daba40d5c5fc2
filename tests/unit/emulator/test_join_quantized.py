"""Networks that were quantized one by one stand side by side in one HEF, each as it was."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import pytest
import runners
from graphs import Array

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.formats import hef as hef_file

SCRIPT = """norm = normalization([100, 110, 120], [50, 60, {std}])
model_optimization_config(calibration, calibset_size={count})"""
CONTEXTS = ("SDK_NATIVE", "SDK_FP_OPTIMIZED", "SDK_QUANTIZED")


def quantized(folder: Path, name: str, seed: int = 0, opset: int = 17, script: str = "") -> ClientRunner:
    model = graphs.small_net(seed, features=seed + 2, opset=opset)
    text = script or SCRIPT.format(std=70 + seed, count=4 + seed)
    return runners.quantized(model, folder, graphs.frames(8, seed=seed), text, name)


def each_alone(runner: ClientRunner, how: str, frames: Array) -> Array:
    return runners.infer(runner, frames, how)[0]


def frames_of(*names: str) -> dict[str, Array]:
    return {f"{name}/input_layer1": graphs.frames(3, seed=ord(name[0])) for name in names}


@pytest.mark.parametrize("opsets", [(17, 17), (13, 17), (18, 13)])
def test_every_form_of_each_gives_what_it_gave_alone(opsets: tuple[int, int], tmp_path: Path) -> None:
    left, right = (
        quantized(tmp_path, name, seed, opset) for name, seed, opset in zip("ab", (0, 1), opsets, strict=True)
    )
    frames = frames_of("a", "b")
    wanted = {
        how: [each_alone(side, how, frames[f"{name}/input_layer1"]) for side, name in ((left, "a"), (right, "b"))]
        for how in CONTEXTS
    }
    left.join(right)
    assert (left.state.value, left.model_name) == ("quantized_model", "joined_a_b")
    for how, exact in wanted.items():
        for got, value in zip(runners.infer(left, frames, how), exact, strict=True):
            np.testing.assert_array_equal(got, value)


def test_a_command_that_names_no_input_means_those_of_its_own_network(tmp_path: Path) -> None:
    left, right = (runners.parsed(graphs.small_net(seed), tmp_path, name) for seed, name in enumerate("ab"))
    left.join(right)
    left.load_model_script("a/m, b/n = normalization([100, 110, 120], [50, 60, 70])")
    left.optimize_full_precision()
    other = runners.parsed(graphs.small_net(2), tmp_path, "c")
    other.optimize_full_precision()
    frames = frames_of("a", "b", "c")
    pair = {name: array for name, array in frames.items() if not name.startswith("c")}
    wanted = runners.infer(left, pair, "SDK_FP_OPTIMIZED")
    wanted += runners.infer(other, frames["c/input_layer1"], "SDK_FP_OPTIMIZED")
    left.join(other, scope1_name={"a": "p"})
    renamed = {name.replace("a/", "p/"): array for name, array in frames.items()}
    for got, exact in zip(runners.infer(left, renamed, "SDK_FP_OPTIMIZED"), wanted, strict=True):
        np.testing.assert_array_equal(got, exact)


def test_one_network_may_be_joined_with_itself_under_two_names(tmp_path: Path) -> None:
    left, right = quantized(tmp_path, "net"), quantized(tmp_path, "net")
    left.analyze_noise(graphs.frames(2))
    left.join(right, scope1_name={"net": "one"}, scope2_name="two")
    assert "normalization(" in str(left._optimized_by)
    assert {name.partition("/")[0] for name in left._encodings} == {"one", "two"}
    analyzed = [name for name in left.get_params_statistics() if "layer_noise_analysis" in name]
    assert {name.partition("/")[0] for name in analyzed} == {"one"}
    frames = {f"{name}/input_layer1": graphs.frames(2) for name in ("one", "two")}
    for how in CONTEXTS:
        first, second = runners.infer(left, frames, how)
        np.testing.assert_array_equal(first, second)


def test_the_joined_network_is_saved_analyzed_and_compiled(tmp_path: Path) -> None:
    runner = quantized(tmp_path, "a")
    for seed, name in enumerate("bc", 1):
        runner.join(quantized(tmp_path, name, seed))
    runner.save_har(tmp_path / "joined.har")
    again = ClientRunner(har=tmp_path / "joined.har")
    again.analyze_noise(frames_of("a", "b", "c"))
    noisy = {key.partition("/")[0] for key in again.get_params_statistics()}
    assert noisy == {"a", "b", "c"}
    path = tmp_path / "joined.hef"
    path.write_bytes(again.compile())
    (group,) = hef_file.read(path, verify=True).groups
    assert group.name == "joined_a_b_c"
    assert [stream.name for stream in group.inputs] == [f"{name}/input_layer1" for name in "abc"]
    assert [stream.name.partition("/")[0] for stream in group.outputs] == ["a", "b", "c"]


@pytest.mark.parametrize("opsets", [(13, 13), (17, 13), (13, 21)])
def test_sixteen_bits_on_one_side_stay_there(opsets: tuple[int, int], tmp_path: Path) -> None:
    precise = "quantization_param({*}, precision_mode=a16_w16)"
    left, right = quantized(tmp_path, "a", opset=opsets[0]), quantized(tmp_path, "b", 1, opsets[1], script=precise)
    frames = frames_of("a", "b")
    exact = each_alone(right, "SDK_QUANTIZED", frames["b/input_layer1"])
    left.join(right)
    np.testing.assert_array_equal(runners.infer(left, frames, "SDK_QUANTIZED")[1], exact)
    assert {code.bits for name, code in left._encodings.items() if name.startswith("b/")} == {16}
    assert {code.bits for name, code in left._encodings.items() if name.startswith("a/")} == {8}


def test_a_shared_input_would_need_one_scale_and_is_refused_with_both(tmp_path: Path) -> None:
    left, right = quantized(tmp_path, "a"), quantized(tmp_path, "b", 1)
    message = r"quantized_model \(a/input_layer1 has the scale [\d.]+ and zero point 0, b/input_layer1 has the scale"
    with pytest.raises(exceptions.InvalidStateException, match=message):
        left.join(right, join_action=JoinAction.AUTO_JOIN_INPUTS)
    wiring = {"a/output_layer1": "b/input_layer1"}
    with pytest.raises(exceptions.InvalidStateException, match="join them before optimizing"):
        left.join(right, join_action=JoinAction.CUSTOM, join_action_info=wiring)
    assert left.model_name == "a"


def test_full_precision_networks_stand_side_by_side_too(tmp_path: Path) -> None:
    sides = [runners.parsed(graphs.small_net(seed), tmp_path, name) for seed, name in enumerate("ab")]
    for side in sides:
        side.load_model_script("norm = normalization([100, 110, 120], [50, 60, 70])")
        side.optimize_full_precision()
    frames = frames_of("a", "b")
    wanted = [
        each_alone(side, "SDK_FP_OPTIMIZED", frames[f"{name}/input_layer1"])
        for side, name in zip(sides, "ab", strict=True)
    ]
    sides[0].join(sides[1])
    for got, exact in zip(runners.infer(sides[0], frames, "SDK_FP_OPTIMIZED"), wanted, strict=True):
        np.testing.assert_array_equal(got, exact)


def test_a_compiled_network_is_not_joined(tmp_path: Path) -> None:
    left, right = quantized(tmp_path, "a"), quantized(tmp_path, "b", 1)
    left.compile()
    with pytest.raises(exceptions.InvalidStateException, match="the runner is in compiled_model"):
        left.join(right)
