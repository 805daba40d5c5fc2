"""A translated graph computes, bit for bit, what ONNX Runtime computes on the untouched file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal
from onnx import TensorProto, helper, numpy_helper

from hefjoin.emulator.translate import translate
from hefjoin.examples.resnet import build_resnet18

W = conv_weights("c", 4, 3, 3, 3)
C = conv("x", "a", "c")
POOLED = [C, node("GlobalAveragePool", "a", "g"), node("Flatten", "g", "f")]


def constant(result: str, **value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [result], **value)


CASES: dict[str, onnx.ModelProto] = {
    "one conv without bias": network([node("Conv", "x w", "y")], {"w": normal(2, 3, 3, 3)}),
    "conv with its bias left out by name": network([node("Conv", "x w _", "y")], {"w": normal(2, 3, 3, 3)}),
    "conv, batch normalization, relu": network(
        [C, node("BatchNormalization", "a n_g n_h n_m n_v", "n"), node("Relu", "n", "y")],
        W | norm_weights("n", 4),
    ),
    "identity on weights": network(
        [node("Identity", "w", "w2"), node("Conv", "x w2", "a"), node("Relu", "a", "y")], {"w": normal(4, 3, 3, 3)}
    ),
    "dropout, its mask named and unused": network([C, node("Dropout", "a", "d mask"), node("Add", "d a", "y")], W),
    "max pool with unused indices": network([C, node("MaxPool", "a", "y where", kernel_shape=[2, 2])], W),
    "nodes without names": network([conv("x", "a", "c", name=""), node("Relu", "a", "y", name="")], W),
    "a name that another node would be given": network(
        [C, node("Relu", "a", "r", name="Relu_y"), node("Relu", "r", "y", name="")], W
    ),
    "constant nodes of every kind": network(
        [
            constant("k", value_float=0.1),
            constant("l", value_floats=[0.1, 0.2, 0.3]),
            constant("s", value_ints=[1, -1]),
            constant("m", value=numpy_helper.from_array(normal(192))),
            node("Mul", "x k", "a"),
            node("Reshape", "l one", "l4"),
            node("Mul", "a l4", "b"),
            node("Reshape", "b s", "r"),
            node("Add", "r m", "y"),
        ],
        {"one": np.array([1, 3, 1, 1])},
    ),
    "shape subgraph": network(
        [
            C,
            node("Shape", "a", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n axis", "n1"),
            node("Concat", "n1 rest", "target", axis=0),
            node("Reshape", "a target", "y"),
        ],
        W | {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])},
        inputs={"x": ("N", 3, 8, 8)},
    ),
    "shape with a start": network(
        [C, node("Shape", "a", "s", start=2), node("Concat", "l s", "t", axis=0), node("Resize", "a _ _ t", "y")],
        W | {"l": np.array([1, 4])},
    ),
    "fully connected by a large transposed weight": network(
        [C, node("Flatten", "a", "f"), node("Transpose", "w", "wt", perm=[1, 0]), node("MatMul", "f wt", "y")],
        W | {"w": normal(1200, 256)},
    ),
    "weights standardized by sums and exponentials": network(
        [
            node("ReduceL2", "w", "n", axes=[1, 2, 3], keepdims=1),
            node("Tanh", "w", "t"),
            node("Div", "t n", "wn"),
            node("Conv", "x wn", "y"),
        ],
        {"w": normal(8, 3, 3, 3)},
    ),
    "batch merged into another axis and taken out again": network(
        [C, node("Reshape", "a s", "b"), node("Reshape", "b t", "y")],
        W | {"s": np.array([-1, 8]), "t": np.array([1, -1])},
    ),
    "resize to given sizes, linear": network(
        [C, node("Resize", "a _ _ s", "u", mode="linear"), node("Relu", "u", "y")], W | {"s": np.array([1, 4, 13, 17])}
    ),
    "resize by scales, nearest": network(
        [C, node("Resize", "a _ s", "y")], W | {"s": np.array([1, 1, 2, 2], np.float32)}
    ),
    "gemm with alpha and beta": network(
        [*POOLED, node("Gemm", "f w b", "y", alpha=0.5, beta=2.0)], W | {"w": normal(4, 5), "b": normal(5)}
    ),
    "clip without its least": network([C, node("Clip", "a _ hi", "y")], W | {"hi": np.float32(0.3)}),
    "a constant minus, and a constant over, a tensor": network(
        [C, node("Sub", "k a", "s"), node("Exp", "s", "e"), node("Div", "k e", "y")], W | {"k": normal(1, 4, 1, 1)}
    ),
    "one channel broadcast to five": network(
        [node("Conv", "x w", "a"), node("Mul", "a k", "y")], {"w": normal(1, 3, 1, 1), "k": normal(1, 5, 1, 1)}
    ),
    "an output that is also read inside": network([C, node("Relu", "a", "y")], W, outputs=["a", "y"]),
    "two outputs from one layer": network(
        [C, node("Split", "a s", "y z", axis=1)], W | {"s": np.array([1, 3])}, outputs=["z", "y"]
    ),
}  # fmt: skip


def assert_bit_equal(path: Path, *feeds: Array) -> onnx.ModelProto:
    wanted = graphs.run(path, *feeds)
    model = translate(path, "net").model
    for exact, got in zip(wanted, graphs.run(model, *feeds), strict=True):
        np.testing.assert_array_equal(got, exact)
    return model


@pytest.mark.parametrize("case", CASES)
def test_computes_what_the_file_computes(case: str, tmp_path: Path) -> None:
    assert_bit_equal(graphs.save(CASES[case], tmp_path), normal(*graphs.IMAGE, seed=5))


def old_network(opset: int) -> onnx.ModelProto:
    """Clip, Dropout, Resize, Squeeze and Softmax as they were written in that opset."""
    weights = dict(W) | {"scales": np.array([1, 1, 2, 2], np.float32), "roi": np.zeros(0, np.float32)}
    clip, drop = node("Clip", "a", "r", min=-0.5, max=0.6), node("Dropout", "r", "e", ratio=0.5)
    up = node("Upsample" if opset == 9 else "Resize", "e scales", "u", mode="nearest")
    if opset >= 11:
        clip = node("Clip", "a lo hi", "r")
        weights |= {"lo": np.float32(-0.5), "hi": np.float32(0.6)}
        up = node("Resize", "e roi scales", "u", mode="linear", coordinate_transformation_mode="align_corners")
    drop = node("Dropout", "r", "e") if opset == 12 else drop
    tail = [node("AveragePool", "u", "p", kernel_shape=[16, 16]), node("Squeeze", "p", "q", axes=[2, 3])]
    return network([C, clip, drop, up, *tail, node("Softmax", "q", "y", axis=1)], weights, opset=opset, ir_version=3)


@pytest.mark.parametrize("weights_are_inputs", [False, True])
@pytest.mark.parametrize("opset", [9, 10, 11, 12])
def test_older_opsets_are_converted(opset: int, weights_are_inputs: bool, tmp_path: Path) -> None:
    model = old_network(opset)
    if weights_are_inputs:  # as IR version 3 asks
        model.graph.input.extend(
            helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in model.graph.initializer
        )
    else:
        model.ir_version = 6
    path = graphs.save(model, tmp_path)
    feeds = normal(*graphs.IMAGE, seed=5)
    exact = graphs.session(path).run(None, {"x": feeds})
    translated = translate(path, "net")
    np.testing.assert_array_equal(graphs.run(translated.model, feeds)[0], exact[0])
    assert translated.model.opset_import[0].version == 13
    assert [layer.type for layer in translated.layers] == ["conv", "resize", "avgpool", "softmax"]


def test_resnet18_is_bit_equal(tmp_path: Path) -> None:
    assert_bit_equal(graphs.save(build_resnet18(1), tmp_path), normal(1, 3, 224, 224))


@pytest.mark.parametrize(
    "case", ["shape subgraph", "resize to given sizes, linear", "constant nodes of every kind", "one conv without bias"]
)
def test_the_batch_is_opened(case: str, tmp_path: Path) -> None:
    path = graphs.save(CASES[case], tmp_path)
    model = translate(path, "net").model
    frames = normal(3, 3, 8, 8)
    one_by_one = [graphs.run(path, frame[np.newaxis])[0] for frame in frames]
    np.testing.assert_array_equal(graphs.run(model, frames)[0], np.concatenate(one_by_one))


@pytest.mark.parametrize("sizes", [[1, 4, 13, 17], [1, 4, 5, 3], [1, 4, 123, 41]])
def test_resize_keeps_its_sizes_when_they_become_scales(sizes: list[int], tmp_path: Path) -> None:
    weights = W | {"s": np.array(sizes)}
    for mode in ("nearest", "linear"):
        path = graphs.save(network([C, node("Resize", "a _ _ s", "y", mode=mode)], weights), tmp_path)
        assert_bit_equal(path, normal(*graphs.IMAGE))


def test_resize_to_sizes_that_no_scale_gives_holds_the_batch(tmp_path: Path) -> None:
    """In float32, 14 times (31 / 14) is less than 31."""
    weights, inputs = W | {"s": np.array([1, 4, 31, 31])}, {"x": (1, 3, 14, 14)}
    path = graphs.save(network([C, node("Resize", "a _ _ s", "y", mode="linear")], weights, inputs), tmp_path)
    model = assert_bit_equal(path, normal(1, 3, 14, 14))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_dynamic_image_size_is_taken_from_the_caller(tmp_path: Path) -> None:
    model = network([C, node("Relu", "a", "y")], W, inputs={"x": ("N", 3, "H", "W")})
    path = graphs.save(model, tmp_path)
    translated = translate(path, "net", input_shapes={"x": [1, 3, 10, 6]})
    feeds = normal(1, 3, 10, 6)
    np.testing.assert_array_equal(graphs.run(translated.model, feeds)[0], graphs.run(path, feeds)[0])


def test_a_folded_constant_does_not_outgrow_what_it_is_made_of(tmp_path: Path) -> None:
    weights = {"s": np.array([1, 3, 4000, 4000]), "w": normal(2, 3, 3, 3)}
    one = numpy_helper.from_array(np.array([0.0], np.float32))
    nodes = [node("ConstantOfShape", "s", "k", value=one), node("Concat", "x k", "b", axis=3)]
    path = graphs.save(network([*nodes, node("Conv", "b w", "y")], weights, inputs={"x": (1, 3, 4000, 8)}), tmp_path)
    with pytest.raises(Exception, match="ConstantOfShape operation is unsupported"):
        translate(path, "net")


def test_original_names_are_kept(tmp_path: Path) -> None:
    model = network([C, node("Relu", "a", "y")], W, outputs=["y", "a"])
    assert translate(graphs.save(model, tmp_path), "net").original_names == {
        "net/input_layer1": "x",
        "net/activation1": "y",
        "net/conv1": "a",
    }


def test_outputs_keep_their_order_and_type(tmp_path: Path) -> None:
    model = translate(graphs.save(CASES["two outputs from one layer"], tmp_path), "net").model
    names = [output.name for output in model.graph.output]
    assert names == ["net/feature_splitter1:1", "net/feature_splitter1"]
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {TensorProto.FLOAT}
