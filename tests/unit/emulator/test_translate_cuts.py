"""Start and end nodes cut a file; every file that cannot be translated is refused with what to do."""

from __future__ import annotations

import re
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from graphs import conv, conv_weights, network, node, normal
from onnx import TensorProto

from hefjoin.emulator import exceptions
from hefjoin.emulator.translate import translate
from hefjoin.errors import InputError

W = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
C = conv("x", "a", "c")


def residual() -> onnx.ModelProto:
    """a = conv(x), r = relu(a), d = conv(r), s = d + r, y = sigmoid(s)."""
    nodes = [C, node("Relu", "a", "r"), conv("r", "d", "d"), node("Add", "d r", "s"), node("Sigmoid", "s", "y")]
    return network(nodes, W)


def test_end_nodes_cut_the_tail(tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    feeds = normal(*graphs.IMAGE)
    whole = residual()
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "dr")
    _, d, r = graphs.run(whole, feeds)
    cut = translate(path, "net", end_nodes=["/d", "/r"])
    np.testing.assert_array_equal(graphs.run(cut.model, feeds)[0], d)
    np.testing.assert_array_equal(graphs.run(cut.model, feeds)[1], r)
    assert [layer.type for layer in cut.layers] == ["conv", "conv"]


@pytest.mark.parametrize(("start_nodes", "inputs"), [(["/s"], ["d", "r"]), (["/d"], ["r"]), (["/r"], ["a"])])
def test_start_nodes_cut_the_head(start_nodes: list[str], inputs: list[str], tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    whole = with_every_output(residual())
    values = dict(zip("yards", graphs.run(whole, normal(*graphs.IMAGE)), strict=True))
    cut = translate(path, "net", start_nodes=start_nodes)
    names = [cut.original_names[item.name] for item in cut.model.graph.input]
    assert sorted(names) == inputs
    np.testing.assert_array_equal(graphs.run(cut.model, *(values[name] for name in names))[0], values["y"])


def with_every_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with `y a r d s` as outputs."""
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "ards")
    return model


def test_both_ends_are_cut(tmp_path: Path) -> None:
    cut = translate(graphs.save(residual(), tmp_path), "net", start_nodes=["/d"], end_nodes=["/d"])
    assert [layer.type for layer in cut.layers] == ["conv"]
    assert cut.original_names == {"net/input_layer1": "r", "net/conv1": "d"}


def test_a_start_node_that_leaves_a_branch_without_input_is_refused(tmp_path: Path) -> None:
    nodes = [C, node("Relu", "a", "r"), conv("r", "d", "d"), conv("x", "e", "c"), node("Add", "d e", "y")]
    path = graphs.save(network(nodes, W), tmp_path)
    with pytest.raises(exceptions.UnsupportedModelError, match=r"also depends on x, which the start nodes /d do not"):
        translate(path, "net", start_nodes=["/d"])


def test_a_start_node_behind_the_end_is_refused(tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    with pytest.raises(exceptions.UnsupportedModelError, match=r"no end node depends on the start nodes /y$"):
        translate(path, "net", start_nodes=["/r", "/y"], end_nodes=["/d"])


def test_every_misspelt_node_is_named(tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    with pytest.raises(exceptions.MisspellNodeError, match=r"/front, /sgmoid$"):
        translate(path, "net", start_nodes=["/front", "/a"], end_nodes=["/sgmoid", "/y"])


def unsupported_network() -> onnx.ModelProto:
    """Two heads on one trunk, one through three operators that no layer stands for; a third head without any."""
    nodes = [
        C,
        node("Relu", "a", "r"),
        conv("r", "d", "d"),
        node("Sin", "d", "e"),
        node("NonZero", "r", "n"),
        node("Cast", "n", "f", to=TensorProto.FLOAT),
        node("Cos", "e", "g"),
        node("Sigmoid", "r", "y"),
    ]
    return network(nodes, W, outputs=["g", "f", "y"])


def test_all_unsupported_operators_are_listed_with_their_nodes(tmp_path: Path) -> None:
    with pytest.raises(exceptions.ParsingWithRecommendationException) as caught:
        translate(graphs.save(unsupported_network(), tmp_path), "net")
    found = re.findall(r"in op (\S+): (\w+) operation is unsupported", str(caught.value))
    assert found == [("/e", "Sin"), ("/n", "NonZero"), ("/g", "Cos")]


def test_cutting_at_the_recommended_end_nodes_parses_and_keeps_every_sound_head(tmp_path: Path) -> None:
    path = graphs.save(unsupported_network(), tmp_path)
    with pytest.raises(exceptions.ParsingWithRecommendationException) as caught:
        translate(path, "net")
    ends = str(caught.value).rpartition("end node names: ")[2].split(", ")
    assert set(ends) == {"/d", "/r", "/y"}
    cut = translate(path, "net", end_nodes=ends)
    assert {cut.original_names[output.name] for output in cut.model.graph.output} == {"d", "r", "y"}


def test_an_unsupported_operator_that_no_output_needs_is_left_out(tmp_path: Path) -> None:
    path = graphs.save(network([node("Sin", "x", "s"), C], W), tmp_path)
    assert [layer.type for layer in translate(path, "net").layers] == ["conv"]


@pytest.mark.parametrize(
    ("nodes", "operator"),
    [
        ([node("GlobalAveragePool", "x", "g"), node("Reshape", "g s", "b"), node("Conv", "x w b", "y")], "Conv"),
        ([node("Relu", "x", "r"), node("MatMul", "x r", "y")], "MatMul"),
        ([node("ArgMax", "x", "y", axis=1)], "ArgMax"),
        ([node("Cast", "x", "i", to=TensorProto.INT64), node("Cast", "i", "y", to=TensorProto.FLOAT)], "Cast"),
    ],
)
def test_what_looks_supported_and_is_not(nodes: list[onnx.NodeProto], operator: str, tmp_path: Path) -> None:
    weights = {"w": normal(3, 3, 3, 3), "s": np.array([3])}
    with pytest.raises(exceptions.ParsingWithRecommendationException, match=f": {operator} operation is unsupported"):
        translate(graphs.save(network(nodes, weights), tmp_path), "net")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"x": ("N", 3, "H", "W")}}, "input x leaves dimension 2, 3 open"),
        ({"inputs": {"x": None}}, "input x has 0 dimensions"),
        ({"inputs": {"x": (1, 3, 8, 8, 8)}}, "input x has 5 dimensions"),
        ({"input_type": TensorProto.UINT8}, "input x is UINT8"),
        ({"outputs": ["y", "w"]}, "output w does not depend on an input"),
    ],
)
def test_what_cannot_be_an_image_network_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    model = network([node("Sigmoid", "x", "y")], {"w": normal(3)}, **changes)  # type: ignore[arg-type]
    with pytest.raises(exceptions.UnsupportedModelError, match=message):
        translate(graphs.save(model, tmp_path), "net")


def test_an_output_with_five_dimensions_is_refused_before_it_fails_in_compile(tmp_path: Path) -> None:
    model = network([C, node("Reshape", "a s", "y")], W | {"s": np.array([1, 2, 2, 8, 8])})
    with pytest.raises(exceptions.UnsupportedModelError, match="output y has 5 dimensions"):
        translate(graphs.save(model, tmp_path), "net")


def test_all_open_inputs_are_listed_at_once(tmp_path: Path) -> None:
    inputs: dict[str, graphs.Dims] = {"x": ("N", 3, "H", "W"), "z": ("N", 3, 8, "W")}
    path = graphs.save(network([node("Concat", "x z", "y", axis=1)], inputs=inputs), tmp_path)
    with pytest.raises(exceptions.UnsupportedModelError) as caught:
        translate(path, "net")
    assert "input x leaves dimension 2, 3 open" in str(caught.value)
    assert "input z leaves dimension 3 open" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"image": [1, 3, 8, 8]}, "names image; the model's inputs are x"),
        ({"x": [1, 3, 8]}, "3 dimensions, the file 4"),
    ],
)
def test_input_shapes_that_do_not_fit_are_refused(shapes: dict[str, list[int]], message: str, tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    with pytest.raises(exceptions.InvalidArgumentsException, match=message):
        translate(path, "net", input_shapes=shapes)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = graphs.save(residual(), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=re.escape(str(path))):
        translate(path, "net")


def test_shapes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = graphs.save(network([node("Flatten", "x", "f"), node("Gemm", "f w", "y")], {"w": normal(191, 5)}), tmp_path)
    with pytest.raises(exceptions.UnsupportedModelError, match=r"shapes in net\.onnx contradict.*191 and 192"):
        translate(path, "net")


@pytest.mark.parametrize(
    ("nodes", "weights", "found"),
    [
        ([node("Conv", "x w", "y")], {"w": normal(4, 1, 3, 3)}, "Conv /y is given 3 features, its weights are for 1"),
        ([node("ConvTranspose", "x w", "y")], {"w": normal(4, 2, 3, 3)}, "given 3 features, its weights are for 4"),
    ],
)
def test_features_that_weights_are_not_for_are_refused(
    nodes: list[onnx.NodeProto], weights: dict[str, graphs.Array], found: str, tmp_path: Path
) -> None:
    with pytest.raises(exceptions.UnsupportedModelError, match=found):
        translate(graphs.save(network(nodes, weights), tmp_path), "net")


def test_an_opset_that_onnx_runtime_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(exceptions.UnsupportedModelError, match="opset 99 is newer"):
        translate(graphs.save(network([C], W, opset=99), tmp_path), "net")


def batch_of_two(target: list[int]) -> onnx.ModelProto:
    """A reshape of what a convolution gives for two frames."""
    return network([C, node("Reshape", "a t", "y")], W | {"t": np.array(target)}, inputs={"x": (2, 3, 8, 8)})


def test_a_batch_in_the_file_is_opened(tmp_path: Path) -> None:
    model = batch_of_two([2, -1])
    frames = normal(2, 3, 8, 8)
    cut = translate(graphs.save(model, tmp_path), "net")
    (exact,) = graphs.run(model, frames)
    alone = [graphs.run(cut.model, frames[index : index + 1])[0] for index in range(2)]
    np.testing.assert_array_equal(np.concatenate(alone), exact)


def test_a_batch_that_a_reshape_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(exceptions.UnsupportedModelError, match="takes 2 frames at once and Reshape /y holds it"):
        translate(graphs.save(batch_of_two([1, -1]), tmp_path), "net")
