"""Joins of files that differ in how they were written: layout, version, opset, domains, symbols, size."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node
from onnx import helper

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
    @pytest.mark.parametrize(("opsets", "irs"), [((9, 15), (4, 10)), ((13, 17), (8, 8)), ((17, 17), (10, 8))])
    def test_ir_versions_and_opsets_that_differ_become_the_higher(
        self, opsets: tuple[int, int], irs: tuple[int, int], tmp_path: Path
    ) -> None:
        old, new = (graphs.small_net(seed, features=seed + 4, opset=opset) for seed, opset in enumerate(opsets))
        old.ir_version, new.ir_version = irs
        runner = joined(tmp_path, old, new)
        assert (runner._model.ir_version, joining._opset(runner._model)) == (max(irs), max(opsets))
        frames = graphs.frames(1)
        assert_each_as_alone(runner, [(old, graphs.nchw(frames)), (new, graphs.nchw(frames))], frames)

    def test_weights_that_an_old_file_lists_as_inputs_are_none(self, tmp_path: Path) -> None:
        old = graphs.small_net(1, opset=9)
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

    @pytest.mark.parametrize("batches", [("N", "N"), ("N", "batch_size"), (1, "N"), ("N", 1)])
    def test_batches_may_be_open_under_any_name_or_one(self, batches: tuple[int | str, ...], tmp_path: Path) -> None:
        models = [graphs.small_net(1), graphs.small_net(2)]
        for model, batch in zip(models, batches, strict=True):
            dim = model.graph.input[0].type.tensor_type.shape.dim[0]
            setattr(dim, "dim_param" if isinstance(batch, str) else "dim_value", batch)
        runner = joined(tmp_path, *models)
        frames = graphs.frames(3)
        for got, model in zip(runners.infer(runner, frames), models, strict=True):
            one_by_one = [graphs.run(model, graphs.nchw(frame[np.newaxis]))[0] for frame in frames]
            np.testing.assert_array_equal(got, np.concatenate(one_by_one).transpose(0, 2, 3, 1))

    def test_a_size_that_one_file_leaves_open_is_the_other_ones_where_it_is_given(self, tmp_path: Path) -> None:
        models = [graphs.small_net(1), network([conv("x", "y", "c")], W, inputs={"x": ("N", 3, "H", "W")})]
        left, right = runners.parsed(models[0], tmp_path, "a"), ClientRunner()
        path = graphs.save(models[1], tmp_path, "b")
        right.translate_onnx_model(str(path), "b", net_input_shapes={"x": [1, 3, 8, 8]})
        left.join(right, join_action=SHARED)
        frames = graphs.frames(1)
        assert_each_as_alone(left, [(model, graphs.nchw(frames)) for model in models], frames)
        other = ClientRunner()
        other.translate_onnx_model(str(path), "c", net_input_shapes={"x": [1, 3, 12, 8]})
        with pytest.raises(exceptions.InvalidArgumentsException, match=r"inputs differ: .*8, 8, 3\], .*12, 8, 3\]"):
            left.join(other, join_action=JoinAction.CUSTOM, join_action_info={"a/input_layer1": "c/input_layer1"})
