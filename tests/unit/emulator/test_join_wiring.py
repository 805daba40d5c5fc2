"""Joins that are wired by hand: inputs shared one by one, outputs that feed the next network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, normal

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.emulator.exposed_definitions import JoinOutputLayersOrder

CUSTOM, SHARED = JoinAction.CUSTOM, JoinAction.AUTO_JOIN_INPUTS
IN_PLACE = {"output_layers_order": JoinOutputLayersOrder.NEW_OUTPUTS_IN_PLACE}


def parsed(model: onnx.ModelProto, folder: Path, name: str) -> ClientRunner:
    return runners.parsed(model, folder, name)


def layers(runner: ClientRunner, kind: str) -> list[str]:
    return [name for name, layer in runner.get_hn_dict()["layers"].items() if layer["type"] == kind]


def three_heads() -> onnx.ModelProto:
    """Outputs of 3, 4 and 5 channels; the one in the middle is an image of 8 × 8 with 4."""
    weights = conv_weights("c", 3, 3, 3, 3) | conv_weights("d", 4, 3, 3, 3) | conv_weights("e", 5, 3, 3, 3)
    nodes = [conv("x", "first", "c"), conv("x", "middle", "d"), conv("x", "last", "e")]
    return network(nodes, weights, outputs=["first", "middle", "last"])


def two_tails() -> onnx.ModelProto:
    """Takes an image with 4 channels; a map and its maximum come out."""
    weights = conv_weights("c", 6, 4, 3, 3, seed=3)
    nodes = [conv("x", "map", "c"), node("GlobalMaxPool", "map", "top")]
    return network(nodes, weights, inputs={"x": (1, 4, 8, 8)}, outputs=["map", "top"])


def sum_of_two(seed: int = 0) -> onnx.ModelProto:
    """Two images in, one out."""
    weights = conv_weights("c", 4, 3, 3, 3, seed=seed) | conv_weights("d", 4, 3, 3, 3, seed=seed + 5)
    nodes = [conv("x", "a", "c"), conv("z", "b", "d"), node("Add", "a b", "y")]
    return network(nodes, weights, inputs={"x": graphs.IMAGE, "z": graphs.IMAGE})


def run(model: onnx.ModelProto, *feeds: Array) -> list[Array]:
    """Return what ONNX Runtime gives for one frame, NCHW."""
    return graphs.run(model, *feeds)


def nhwc(array: Array) -> Array:
    return array.transpose(0, 2, 3, 1)


@pytest.fixture
def chained(tmp_path: Path) -> ClientRunner:
    runner = parsed(three_heads(), tmp_path, "a")
    tail = parsed(two_tails(), tmp_path, "b")
    runner.join(tail, join_action=CUSTOM, join_action_info={"a/output_layer2": "b/input_layer1"})
    return runner


class TestChains:
    def test_the_output_feeds_the_next_network_and_is_none_any_more(self, chained: ClientRunner) -> None:
        assert chained.model_name == "joined_a_b"
        assert layers(chained, "input_layer") == ["a/input_layer1"]
        outputs = ["a/output_layer1", "a/output_layer3", "b/output_layer1", "b/output_layer2"]
        assert layers(chained, "output_layer") == outputs
        hn = chained.get_hn_dict()["layers"]
        (head,) = {source for name in hn if name.startswith("b/") for source in hn[name]["input"] if source[0] == "a"}
        assert [reader for name in hn if name == head for reader in hn[name]["output"]] == ["b/conv1"]
        assert hn["b/conv1"]["input"] == [head]

    def test_it_computes_both_one_after_the_other(self, chained: ClientRunner) -> None:
        frames = graphs.frames(1)
        first, middle, last = run(three_heads(), graphs.nchw(frames))
        wanted = [first, last, *run(two_tails(), middle)]
        for got, exact in zip(runners.infer(chained, frames), wanted, strict=True):
            np.testing.assert_array_equal(got, nhwc(exact))

    def test_new_outputs_may_stand_where_the_consumed_one_stood(self, tmp_path: Path) -> None:
        runner, tail = parsed(three_heads(), tmp_path, "a"), parsed(two_tails(), tmp_path, "b")
        wiring = {"a/output_layer2": "b/input_layer1", **IN_PLACE}
        runner.join(tail, join_action=CUSTOM, join_action_info=wiring)
        order = runner.get_hn_dict()["net_params"]["output_layers_order"]
        assert [name.partition("/")[0] for name in order] == ["a", "b", "b", "a"]
        frames = graphs.frames(1)
        first, middle, last = run(three_heads(), graphs.nchw(frames))
        wanted = [first, *run(two_tails(), middle), last]
        for got, exact in zip(runners.infer(runner, frames), wanted, strict=True):
            np.testing.assert_array_equal(got, nhwc(exact))

    def test_where_none_is_consumed_new_outputs_stand_behind(self, tmp_path: Path) -> None:
        runner = parsed(three_heads(), tmp_path, "a")
        wiring = {"a/input_layer1": "b/input_layer1", **IN_PLACE}
        runner.join(parsed(three_heads(), tmp_path, "b"), join_action=CUSTOM, join_action_info=wiring)
        order = runner.get_hn_dict()["net_params"]["output_layers_order"]
        assert [name.partition("/")[0] for name in order] == ["a", "a", "a", "b", "b", "b"]

    def test_it_goes_through_quantization_a_har_and_a_hef(self, chained: ClientRunner, tmp_path: Path) -> None:
        chained.optimize(graphs.frames(8))
        quantized = runners.infer(chained, graphs.frames(3, seed=2), "SDK_QUANTIZED")
        exact = runners.infer(chained, graphs.frames(3, seed=2), "SDK_FP_OPTIMIZED")
        assert min(map(graphs.snr_db, exact, quantized)) > 20
        assert chained.compile()
        chained.save_har(tmp_path / "chained.har")
        again = runners.infer(ClientRunner(har=tmp_path / "chained.har"), graphs.frames(3, seed=2), "SDK_QUANTIZED")
        for got, value in zip(again, quantized, strict=True):
            np.testing.assert_array_equal(got, value)

    def test_a_tail_that_takes_one_frame_only_holds_the_head_to_it(self, tmp_path: Path) -> None:
        nodes = [node("Reshape", "x s", "b"), node("Reshape", "b t", "y")]
        one = network(nodes, {"s": np.array([-1, 8]), "t": np.array([1, -1])}, inputs={"x": (1, 4, 8, 8)})
        runner = parsed(three_heads(), tmp_path, "a")
        wiring = {"a/output_layer2": "b/input_layer1"}
        runner.join(parsed(one, tmp_path, "b"), join_action=CUSTOM, join_action_info=wiring)
        frames = graphs.frames(2)
        middles = [run(three_heads(), graphs.nchw(frame[np.newaxis]))[1] for frame in frames]
        got = runners.infer(runner, frames)[2]
        np.testing.assert_array_equal(got, np.concatenate([run(one, middle)[0] for middle in middles]))


class TestSharedInputs:
    def test_each_pair_is_named(self, tmp_path: Path) -> None:
        """The second network sees both images the other way round."""
        runner = parsed(sum_of_two(1), tmp_path, "a")
        crossed = {"a/input_layer1": "b/input_layer2", "a/input_layer2": "b/input_layer1"}
        runner.join(parsed(sum_of_two(2), tmp_path, "b"), join_action=CUSTOM, join_action_info=crossed)
        assert layers(runner, "input_layer") == ["a/input_layer1", "a/input_layer2"]
        x, z = graphs.frames(1, seed=1), graphs.frames(1, seed=2)
        wanted = [
            run(sum_of_two(1), graphs.nchw(x), graphs.nchw(z))[0],
            run(sum_of_two(2), graphs.nchw(z), graphs.nchw(x))[0],
        ]
        for got, exact in zip(runners.infer(runner, {"a/input_layer1": x, "a/input_layer2": z}), wanted, strict=True):
            np.testing.assert_array_equal(got, nhwc(exact))

    def test_an_input_that_is_not_named_stays(self, tmp_path: Path) -> None:
        runner = parsed(graphs.small_net(), tmp_path, "a")
        wiring = {"a/input_layer1": "b/input_layer1"}
        runner.join(parsed(sum_of_two(), tmp_path, "b"), join_action=CUSTOM, join_action_info=wiring)
        assert layers(runner, "input_layer") == ["a/input_layer1", "b/input_layer2"]

    def test_an_input_may_be_shared_and_an_output_feed_at_once(self, tmp_path: Path) -> None:
        weights = conv_weights("c", 3, 3, 3, 3)
        head = network([conv("x", "y", "c")], weights)
        runner = parsed(head, tmp_path, "a")
        wiring = {"a/input_layer1": "b/input_layer1", "a/output_layer1": "b/input_layer2"}
        runner.join(parsed(sum_of_two(), tmp_path, "b"), join_action=CUSTOM, join_action_info=wiring)
        frames = graphs.frames(1)
        x = graphs.nchw(frames)
        (exact,) = run(sum_of_two(), x, run(head, x)[0])
        np.testing.assert_array_equal(runners.infer(runner, frames)[0], nhwc(exact))


REFUSED: list[tuple[Any, str]] = [
    (None, "custom joins what join_action_info says"),
    (IN_PLACE, "and it says nothing"),
    ({"a/output_layer9": "b/input_layer1"}, "a/output_layer9 is no input or output layer of the first network, which"),
    ({"a/conv1": "b/input_layer1"}, "a/conv1 is no input or output layer"),
    ({"output_layer2": "b/input_layer1"}, "has a/input_layer1, a/output_layer1, a/output_layer2, a/output_layer3"),
    ({"a/output_layer2": "b/output_layer1"}, "b/output_layer1 is no input layer of the second network, which has b/"),
    ({"b/input_layer1": "a/input_layer1"}, r"b/input_layer1 is no input or(.|\n)*a/input_layer1 is no input layer of"),
    ({"a/output_layer1": "b/input_layer1"}, r"a/output_layer1 is \[-1, 8, 8, 3\], b/input_layer1 is \[-1, 8, 8, 4\]"),
    ({"a/output_layer2": "b/input_layer1", "a/output_layer3": "b/input_layer1"}, "b/input_layer1 is fed by 2 layers"),
    (
        {"a/output_layer2": ["b/input_layer1"]},
        r"maps layers to layers, has \('a/output_layer2', \['b/input_layer1'\]\)",
    ),
    ({"a/output_layer2": "b/input_layer1", "output_layers_order": "in_place"}, "must be a JoinOutputLayersOrder"),
]


@pytest.mark.parametrize(("wiring", "message"), REFUSED)
def test_wiring_that_cannot_be_is_refused_and_nothing_changes(wiring: Any, message: str, tmp_path: Path) -> None:
    runner, tail = parsed(three_heads(), tmp_path, "a"), parsed(two_tails(), tmp_path, "b")
    with pytest.raises(exceptions.InvalidArgumentsException, match=message):
        runner.join(tail, join_action=CUSTOM, join_action_info=wiring)
    assert runner.model_name == "a"
    assert len(runners.infer(runner, graphs.frames(1))) == 3


def test_a_row_that_the_graph_keeps_without_a_height_feeds_no_image(tmp_path: Path) -> None:
    """In the HN both are (1, 8, 3); the graph of the first has three axes."""
    row = network([node("MatMul", "x w", "m"), node("ReduceMax", "m", "y", axes=[3], keepdims=0)],
                  {"w": normal(8, 4)}, inputs={"x": graphs.IMAGE})  # fmt: skip
    image = network([node("Relu", "x", "y")], inputs={"x": (1, 3, 1, 8)})
    runner = parsed(row, tmp_path, "a")
    with pytest.raises(exceptions.InvalidArgumentsException, match=r"\[-1, 1, 8, 3\] \(3 axes\), b/input_layer1 is"):
        runner.join(
            parsed(image, tmp_path, "b"),
            join_action=CUSTOM,
            join_action_info={"a/output_layer1": "b/input_layer1"},
        )
