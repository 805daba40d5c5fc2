"""Joining changes no computation: what each network gave alone, the joined one gives, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import random_networks
import runners
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hefjoin.emulator import ClientRunner, JoinAction, exceptions

NONE, SHARED = JoinAction.NONE, JoinAction.AUTO_JOIN_INPUTS
W = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
C = conv("x", "a", "c")


def parsed(path: Path, name: str) -> ClientRunner:
    return runners.parsed(path, path.parent, name)


def alone(path: Path, frames: Array) -> list[Array]:
    """Return what ONNX Runtime gives for the untouched file, frame by frame, channels last."""
    results = [graphs.run(path, graphs.nchw(frame[np.newaxis])) for frame in frames]
    outputs = [np.concatenate(arrays) for arrays in zip(*results, strict=True)]
    return [array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in outputs]


def classifier(seed: int, opset: int, outputs: int = 5) -> onnx.ModelProto:
    """Convolution, batch normalization, mean over the image, fully connected, softmax."""
    mean = node("ReduceMean", "n axes", "m", keepdims=0)
    if opset < 18:
        mean = node("ReduceMean", "n", "m", keepdims=0, axes=[2, 3])
    nodes = [
        C,
        node("BatchNormalization", "a n_g n_h n_m n_v", "n"),
        mean,
        node("Gemm", "m w b", "g"),
        node("Softmax", "g", "y", axis=1),
    ]
    weights = conv_weights("c", 4, 3, 3, 3, seed=seed) | norm_weights("n", 4, seed=seed)
    weights |= {"w": normal(4, outputs, seed=seed), "b": normal(outputs, seed=seed)}
    return network(nodes, weights | ({"axes": np.array([2, 3])} if opset >= 18 else {}), opset=opset)


def one_frame_only() -> onnx.ModelProto:
    """A network whose constants hold it to a batch of one."""
    nodes = [C, node("Reshape", "a s", "b"), node("Reshape", "b t", "y")]
    return network(nodes, W | {"s": np.array([-1, 8]), "t": np.array([1, -1])})


def two_outputs() -> onnx.ModelProto:
    return network([C, node("Relu", "a", "r"), conv("r", "y", "d")], W, outputs=["y", "r"])


STRUCTURES = {
    "plain": graphs.small_net(1),
    "another plain": graphs.small_net(2, features=6),
    "opset 13": classifier(1, 13),
    "opset 17": classifier(2, 17),
    "opset 18": classifier(3, 18),
    "two outputs": two_outputs(),
    "one frame only": one_frame_only(),
}
PAIRS = [
    ("plain", "another plain"),
    ("opset 13", "opset 17"),
    ("opset 18", "opset 13"),
    ("opset 13", "opset 18"),
    ("two outputs", "plain"),
    ("plain", "one frame only"),
    ("one frame only", "opset 13"),
]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("action", [NONE, SHARED])
def test_joined_outputs_are_those_of_each_alone(pair: tuple[str, str], action: JoinAction, tmp_path: Path) -> None:
    paths = [graphs.save(STRUCTURES[name], tmp_path, str(index)) for index, name in enumerate(pair)]
    first, second = (parsed(path, name) for path, name in zip(paths, "ab", strict=True))
    first.join(second, join_action=action)
    frames = graphs.frames(3)
    dataset: object = frames if action is SHARED else {f"{name}/input_layer1": frames for name in "ab"}
    wanted = [array for path in paths for array in alone(path, frames)]
    for got, exact in zip(runners.infer(first, dataset), wanted, strict=True):
        np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize(("first", "second"), [({"net": "one"}, {"net": "two"}), ("one", "two"), (None, "two")])
def test_a_network_joins_itself_under_other_scopes(
    first: Mapping[str, str] | str | None, second: Mapping[str, str] | str, tmp_path: Path
) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    runner = parsed(path, "net")
    runner.join(runner, scope1_name=first, scope2_name=second, join_action=SHARED)
    left = "one" if first else "net"
    assert runner.model_name == f"joined_{left}_two"
    layers = runner.get_hn_dict()["layers"]
    assert {name.partition("/")[0] for name in layers} == {left, "two"}
    frames = graphs.frames(2)
    (exact,) = alone(path, frames)
    for got in runners.infer(runner, frames):
        np.testing.assert_array_equal(got, exact)


def test_a_network_may_be_there_three_times(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    runner = parsed(path, "net")
    for scope in ("second", "third"):
        runner.join(parsed(path, "net"), scope2_name=scope, join_action=SHARED)
    assert runner.model_name == "joined_net_second_third"
    frames = graphs.frames(2)
    (exact,) = alone(path, frames)
    found = runners.infer(runner, frames)
    assert len(found) == 3
    for got in found:
        np.testing.assert_array_equal(got, exact)


def test_three_networks_are_chained(tmp_path: Path) -> None:
    paths = [graphs.save(graphs.small_net(seed, features=seed + 2), tmp_path, str(seed)) for seed in range(3)]
    runner, *others = (parsed(path, "net") for path in paths)
    runner.join(others[0], scope1_name="a", scope2_name="b", join_action=SHARED)
    runner.join(others[1], scope1_name={"a": "p", "b": "q"}, scope2_name={"net": "r"}, join_action=SHARED)
    assert runner.model_name == "joined_p_q_r"
    hn = runner.get_hn_dict()
    assert hn["net_params"]["net_scopes"] == ["p", "q", "r"]
    assert hn["net_params"]["output_layers_order"] == ["p/conv2", "q/conv2", "r/conv2"]
    assert [name for name, layer in hn["layers"].items() if layer["type"] == "input_layer"] == ["p/input_layer1"]
    frames = graphs.frames(2)
    for got, path in zip(runners.infer(runner, frames), paths, strict=True):
        np.testing.assert_array_equal(got, alone(path, frames)[0])


def test_a_joined_network_may_stand_on_the_right(tmp_path: Path) -> None:
    paths = [graphs.save(graphs.small_net(seed), tmp_path, str(seed)) for seed in range(3)]
    left, right, last = (parsed(path, name) for path, name in zip(paths, "abc", strict=True))
    right.join(last, join_action=SHARED)
    left.join(right, join_action=SHARED)
    assert left.model_name == "joined_a_b_c"
    # Both inputs that are gone are known by the one that serves for them.
    lines = [f"{scope}/norm = normalization([1, 2, 3], [4, 5, 6], {scope}/input_layer1)" for scope in "abc"]
    left.load_model_script("\n".join(lines))
    frames = graphs.frames(2)
    for got, path in zip(runners.infer(left, frames), paths, strict=True):
        np.testing.assert_array_equal(got, alone(path, frames)[0])


def test_what_the_conversion_to_another_opset_adds_has_a_scope(tmp_path: Path) -> None:
    """Both networks of opset 13 are converted to 18, where a mean takes its axes from a constant."""
    names = ["opset 13", "opset 18", "opset 13"]
    paths = [graphs.save(STRUCTURES[name], tmp_path, str(index)) for index, name in enumerate(names)]
    runner, *others = (parsed(path, scope) for path, scope in zip(paths, "abc", strict=True))
    for other in others:
        runner.join(other, join_action=SHARED)
    graph = runner._model.graph
    tensors = {name for item in graph.node for name in (*item.input, *item.output, item.name) if name}
    assert {name.partition("/")[0] for name in tensors} == {"a", "b", "c"}
    frames = graphs.frames(1)
    for got, path in zip(runners.infer(runner, frames), paths, strict=True):
        np.testing.assert_array_equal(got, alone(path, frames)[0])


def test_without_an_action_each_keeps_its_input(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    runner = parsed(path, "a")
    runner.join(parsed(path, "b"))
    names = [name for name, layer in runner.get_hn_dict()["layers"].items() if layer["type"] == "input_layer"]
    assert names == ["a/input_layer1", "b/input_layer1"]
    feeds = {"a/input_layer1": graphs.frames(2, seed=1), "b/input_layer1": graphs.frames(2, seed=2)}
    for got, name in zip(runners.infer(runner, feeds), names, strict=True):
        np.testing.assert_array_equal(got, alone(path, feeds[name])[0])


def test_the_right_network_is_left_as_it_was(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    left, right = parsed(path, "a"), parsed(path, "b")
    frames = graphs.frames(1)
    before, layers = runners.infer(right, frames), str(right.get_hn_dict())
    left.join(right, join_action=SHARED, scope2_name="c")
    np.testing.assert_array_equal(runners.infer(right, frames)[0], before[0])
    assert (right.model_name, str(right.get_hn_dict())) == ("b", layers)


def test_the_shared_input_feeds_both(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    runner = parsed(path, "a")
    runner.join(parsed(path, "b"), join_action=SHARED)
    layers = runner.get_hn_dict()["layers"]
    assert layers["a/input_layer1"]["output"] == ["a/conv1", "b/conv1"]
    assert layers["b/conv1"]["input"] == ["a/input_layer1"]
    assert "b/input_layer1" not in layers


@pytest.mark.parametrize(
    ("sides", "arguments", "message"),
    [
        (("plain", "plain"), {}, "scope names overlap: net"),
        (("plain", "plain"), {"scope1_name": "a", "scope2_name": "a"}, "scope names overlap: a"),
        (("plain", "plain"), {"scope1_name": {"nt": "a"}}, "scope nt does not exist; the scopes are net"),
        (("plain", "plain"), {"scope1_name": "a/b"}, "'a/b' must be a name without `/`"),
        (
            ("plain", "wide"),
            {"scope2_name": "b"},
            r"inputs differ: net/input.* is \[-1, 8, 8, 3\], b/input.* is \[-1, 8, 12, 3\]",
        ),
        (("plain", "grey"), {"scope2_name": "b"}, r"inputs differ: .*8, 8, 3\], .*8, 8, 1\]"),
        (
            ("plain", "two"),
            {"scope2_name": "b"},
            "one input each, these have 1 and 2 .net/input_layer1; b/input_layer1, b/",
        ),
        (("plain", "plain"), {"scope2_name": "b", "join_action": "auto_join_inputs"}, "must be a JoinAction"),
        (("plain", "plain"), {"scope2_name": "b", "join_action_info": {"a": "b"}}, "join_action_info has no use"),
    ],
)
def test_what_cannot_be_joined_is_refused_and_nothing_changes(
    sides: tuple[str, str], arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    models = {
        "plain": graphs.small_net(),
        "wide": network([C], W, inputs={"x": (1, 3, 8, 12)}),
        "grey": network([node("Conv", "x w", "y")], {"w": normal(2, 1, 3, 3)}, inputs={"x": (1, 1, 8, 8)}),
        "two": network([node("Concat", "x z", "y", axis=1)], inputs={"x": graphs.IMAGE, "z": graphs.IMAGE}),
    }  # fmt: skip
    left, right = (parsed(graphs.save(models[name], tmp_path, name), "net") for name in sides)
    with pytest.raises(exceptions.InvalidArgumentsException, match=message):
        left.join(right, **{"join_action": SHARED, **arguments})  # type: ignore[arg-type]
    assert left.model_name == "net"
    runners.infer(left, graphs.frames(1))


def test_only_a_runner_can_be_joined(tmp_path: Path) -> None:
    left = parsed(graphs.save(graphs.small_net(), tmp_path), "a")
    with pytest.raises(exceptions.InvalidArgumentsException, match="runner must be a ClientRunner, is str"):
        left.join("b.har")  # type: ignore[arg-type]


def test_both_runners_must_be_in_one_state(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    left, right = parsed(path, "a"), parsed(path, "b")
    right.optimize(graphs.frames(2))
    with pytest.raises(exceptions.InvalidStateException, match="hailo_model and quantized_model"):
        left.join(right)


def test_a_string_renames_one_scope_only(tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    left = parsed(path, "a")
    left.join(parsed(path, "b"))
    with pytest.raises(exceptions.InvalidArgumentsException, match="a single scope name for 2 scopes"):
        left.join(parsed(path, "c"), scope1_name="d")


def quantized_together_and_alone(
    paths: Sequence[Path], script: str, calibration: Array, frames: Array
) -> Iterator[tuple[Array, Array]]:
    """Yield each output of the joined network, and of its network alone; `{0}` in the script is the scope."""
    wanted = []
    for path, name in zip(paths, "ab", strict=True):
        single = parsed(path, name)
        single.load_model_script(script.format(""))
        single.optimize(calibration)
        wanted += runners.infer(single, frames, "SDK_QUANTIZED")
    runner = parsed(paths[0], "a")
    runner.join(parsed(paths[1], "b"), join_action=SHARED)
    runner.load_model_script(script.format("a/"))
    runner.optimize(calibration)
    yield from zip(runners.infer(runner, frames, "SDK_QUANTIZED"), wanted, strict=True)


def begins_with_kernels(model: onnx.ModelProto) -> bool:
    return all(item.op_type == "Conv" for item in model.graph.node if "x" in item.input)


NORMALIZED = "{0}norm = normalization([100, 110, 120], [50, 60, 70], {0}input_layer1)\n"


@pytest.mark.parametrize("pair", [("plain", "another plain"), ("two outputs", "opset 17"), ("opset 13", "opset 18")])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_quantized_after_the_join_is_what_each_quantized_alone_is(
    pair: tuple[str, str], as_bytes: bool, tmp_path: Path
) -> None:
    calibration, frames = graphs.frames(8), graphs.frames(4, seed=9)
    if as_bytes:
        calibration = calibration.astype(np.uint8)
    paths = [graphs.save(STRUCTURES[name], tmp_path, str(index)) for index, name in enumerate(pair)]
    for got, exact in quantized_together_and_alone(paths, NORMALIZED, calibration, frames):
        np.testing.assert_array_equal(got, exact)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=random_networks.networks(),
    second=random_networks.networks(),
    level=st.integers(0, 2),
    precision=st.sampled_from(["a8_w8", "a8_w4", "a16_w16"]),
    is_normalized=st.booleans(),
    as_bytes=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_two_networks_quantize_together_as_alone(
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    level: int,
    precision: str,
    is_normalized: bool,
    as_bytes: bool,
    seed: int,
    tmp_path: Path,
) -> None:
    """Where nothing couples them: no compression, as many frames at levels 1 and 2 as each has alone, and a shared
    normalization that no model makes one with its own first steps.
    """
    is_normalized = is_normalized and all(map(begins_with_kernels, (first, second)))
    paths = [graphs.save(model, tmp_path, name) for model, name in ((first, "a"), (second, "b"))]
    lines = (
        f"model_optimization_flavor(optimization_level={level})",
        f"quantization_param({{{{*}}}}, precision_mode={precision})",
    )
    script = (NORMALIZED if is_normalized else "") + "\n".join(lines)
    calibration = graphs.frames(6, seed=seed).astype(np.uint8 if as_bytes else np.float32)
    for got, exact in quantized_together_and_alone(paths, script, calibration, graphs.frames(2, seed=9)):
        np.testing.assert_array_equal(got, exact)
