"""Joins of files that differ in how they were written: layout, version, opset, domains, symbols, size."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node
from onnx import TensorProto, helper

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.emulator import join as joining
from hefjoin.emulator.graph import channels_first

SHARED = JoinAction.AUTO_JOIN_INPUTS
W = conv_weights("c", 4, 3, 3, 3)


def joined(folder: Path, *models: onnx.ModelProto) -> ClientRunner:
    runner, *others = (runners.parsed(model, folder, name) for name, model in zip("abc", models, strict=False))
    for other in others:
        runner.join(other, join_action=SHARED)
    return runner


def assert_each_as_alone(runner: ClientRunner, models: list[tuple[onnx.ModelProto, Array]], frames: Array) -> None:
    for got, (model, feed) in zip(runners.infer(runner, frames), models, strict=True):
        (exact,) = graphs.run(model, feed)
        np.testing.assert_array_equal(got, exact.transpose(0, 2, 3, 1) if exact.ndim == 4 else exact)


def channels_last(height: int = 8, width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """A network as TensorFlow exports it: NHWC, and a Transpose in front."""
    weights = conv_weights("c", 5, 3, 3, 3, seed=seed)
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t", "y", "c")]
    return network(nodes, weights, inputs={"x": (1, height, width, 3)})


def plain(height: int = 8, width: int = 8) -> onnx.ModelProto:
    return network([conv("x", "y", "c")], W, inputs={"x": (1, 3, height, width)})


class TestLayout:
    @pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1)])
    def test_channels_last_and_first_share_an_input(self, order: tuple[int, int], tmp_path: Path) -> None:
        models = [(plain(), channels_last(seed=3))[index] for index in order]
        runner = joined(tmp_path, *models)
        assert runner.get_hn_dict()["layers"]["a/input_layer1"]["input_shapes"] == [[-1, 8, 8, 3]]
        frames = graphs.frames(1)
        feeds = [(graphs.nchw(frames), frames)[index] for index in order]
        assert_each_as_alone(runner, list(zip(models, feeds, strict=True)), frames)

    def test_the_pair_is_normalized_quantized_and_compiled_as_each_alone(self, tmp_path: Path) -> None:
        script = "{0}norm = normalization([100, 110, 120], [50, 60, 70], {0}input_layer1)"
        calibration, frames = graphs.frames(8), graphs.frames(3, seed=5)
        models = [plain(), channels_last()]
        wanted = []
        for model in models:
            single = runners.quantized(model, tmp_path, calibration, script.format(""))
            wanted += runners.infer(single, frames, "SDK_QUANTIZED")
        runner = joined(tmp_path, *models)
        runner.load_model_script(script.format("a/"))
        runner.optimize(calibration)
        for got, exact in zip(runners.infer(runner, frames, "SDK_QUANTIZED"), wanted, strict=True):
            np.testing.assert_array_equal(got, exact)
        assert runner.compile()

    def test_the_transpose_that_reads_it_tells_the_layout_before_the_shape_does(self) -> None:
        model = channels_last(height=4, width=8)
        channels_first(model)
        sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        assert sizes == [1, 3, 4, 8]
        frames = graphs.frames(1, 4, 8)
        (exact,) = graphs.run(channels_last(height=4, width=8), frames)
        np.testing.assert_array_equal(graphs.run(model, graphs.nchw(frames))[0], exact)

    def test_an_image_of_few_rows_joins_by_what_reads_it(self, tmp_path: Path) -> None:
        """By its shape alone, (4, 8, 3) could be 4 channels of 8 × 3."""
        models = [plain(4, 8), channels_last(4, 8)]
        runner = joined(tmp_path, *models)
        frames = graphs.frames(1, 4, 8)
        assert_each_as_alone(runner, list(zip(models, (graphs.nchw(frames), frames), strict=True)), frames)

    @pytest.mark.parametrize(("axis", "turned"), [(3, True), (1, False)])
    def test_what_the_file_declares_tells_it_before_all(self, axis: int, turned: bool) -> None:
        model = network([node("Relu", "x", "y")], inputs={"x": (1, 3, 4, 3)})
        dims = model.graph.input[0].type.tensor_type.shape.dim
        dims[axis].denotation = "DATA_CHANNEL"
        channels_first(model)
        assert [dim.dim_value for dim in dims] == ([1, 3, 3, 4] if turned else [1, 3, 4, 3])
        assert (len(model.graph.node) == 2) == turned

    def test_a_network_that_turns_a_channels_first_image_is_left_as_it_is(self) -> None:
        model = network([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], inputs={"x": (1, 8, 8, 3)})
        channels_first(model)
        assert [item.op_type for item in model.graph.node] == ["Transpose"]


class TestVersions:
    def test_ir_versions_and_opsets_that_differ_become_the_higher(self, tmp_path: Path) -> None:
        old, new = graphs.small_net(1, opset=9), graphs.small_net(2, features=6, opset=15)
        old.ir_version, new.ir_version = 4, 10
        runner = joined(tmp_path, old, new)
        assert (runner._model.ir_version, joining._opset(runner._model)) == (10, 15)
        frames = graphs.frames(1)
        assert_each_as_alone(runner, [(old, graphs.nchw(frames)), (new, graphs.nchw(frames))], frames)

    def test_weights_that_an_old_file_lists_as_inputs_are_none(self, tmp_path: Path) -> None:
        old = graphs.small_net(
            1,
            opset=9,
        )
        old.ir_version = 3
        for tensor in old.graph.initializer:
            old.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        runner = joined(tmp_path, old, graphs.small_net(2))
        assert [info.name for info in runner._model.graph.input] == ["a/input_layer1"]
        frames = graphs.frames(1)
        got = runners.infer(runner, frames)[0]
        exact = graphs.session(old).run(None, {"x": graphs.nchw(frames)})[0]
        np.testing.assert_array_equal(got, exact.transpose(0, 2, 3, 1))

    def test_a_domain_that_one_side_alone_imports_is_kept(self, tmp_path: Path) -> None:
        other = graphs.small_net(2)
        other.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        runner = joined(tmp_path, graphs.small_net(1), other)
        assert {item.domain for item in runner._model.opset_import} == {"", "ai.onnx.ml"}
        runners.infer(runner, graphs.frames(1))

    def test_symbols_for_the_batch_may_differ(self, tmp_path: Path) -> None:
        models = [graphs.small_net(1), graphs.small_net(2)]
        for model, symbol in zip(models, ("N", "batch_size"), strict=True):
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = symbol
        runner = joined(tmp_path, *models)
        frames = graphs.frames(2)
        feed = graphs.nchw(frames)
        assert_each_as_alone(runner, [(model, feed) for model in models], frames)


class TestRefused:
    def test_a_control_flow_body_is_refused_when_it_is_parsed(self, tmp_path: Path) -> None:
        bodies = {
            f"{branch}_branch": helper.make_graph(
                [helper.make_node(operator, ["a"], [branch])], branch, [],
                [helper.make_tensor_value_info(branch, TensorProto.FLOAT, None)],
            )
            for branch, operator in (("then", "Relu"), ("else", "Neg"))
        }  # fmt: skip
        nodes = [
            conv("x", "a", "c"),
            node("ReduceMax", "a", "m", keepdims=0),
            node("Cast", "m", "is", to=TensorProto.BOOL),
        ]
        model = network([*nodes, node("If", "is", "y", **bodies)], W)
        with pytest.raises(exceptions.ParsingWithRecommendationException, match="op /y: If operation is unsupported"):
            runners.parsed(model, tmp_path)
