"""Branches that a constant chooses and functions of the file become plain nodes; other control flow is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, normal
from onnx import TensorProto, helper, numpy_helper

from hefjoin.emulator import JoinAction, exceptions
from hefjoin.emulator.graph import rename_tensors
from hefjoin.emulator.translate import translate
from hefjoin.formats.onnx_head import read_head

W = conv_weights("c", 4, 3, 3, 3) | {"yes": np.array(True), "no": np.array(False)}
C = conv("x", "a", "c")


def branch(nodes: Sequence[onnx.NodeProto], output: str, weights: dict[str, Array] | None = None) -> onnx.GraphProto:
    """Return a body without inputs."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    return helper.make_graph(nodes, "body", [], [helper.make_empty_tensor_value_info(output)], held)


def choose(condition: str, result: str, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.NodeProto:
    return node("If", condition, result, then_branch=then, else_branch=other)


RELU, NEG = branch([node("Relu", "a", "in")], "in"), branch([node("Neg", "a", "in")], "in")
SCALED = branch([node("Mul", "a k", "b"), node("Add", "b k", "in")], "in", {"k": np.array(0.5, np.float32)})
MANY = [C, node("Shape", "a", "s"), node("Size", "s", "n"), node("Equal", "n four", "is")]
SQUEEZED = [C, node("GlobalAveragePool", "a", "g")]

BRANCHES: dict[str, onnx.ModelProto] = {
    "then": network([C, choose("yes", "y", RELU, NEG)], W),
    "else": network([C, choose("no", "y", RELU, NEG)], W),
    "a condition that is a node": network(
        [C, helper.make_node("Constant", [], ["is"], value=numpy_helper.from_array(np.array(False))),
         choose("is", "y", RELU, NEG)], W,
    ),
    "a condition of the shape": network([*MANY, choose("is", "y", RELU, NEG)], W | {"four": np.array(4)}),
    "names inside that two branches share": network(
        [C, choose("yes", "b", SCALED, NEG), node("Relu", "b", "r"), choose("yes", "y", SCALED, NEG)], W
    ),
    "a branch in a branch": network(
        [C, choose("yes", "y", branch([choose("no", "in", NEG, SCALED)], "in"), NEG)], W
    ),
    "a branch that gives a constant": network(
        [C, choose("yes", "k", branch([], "half", {"half": np.float32(0.5)}), NEG), node("Mul", "a k", "y")], W
    ),
    "squeeze where there is something to squeeze, opset 11": network(
        [*SQUEEZED, choose("yes", "y", branch([node("Squeeze", "g", "in", axes=[2, 3])], "in"),
                           branch([node("Identity", "g", "in")], "in"))], W, opset=11,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BRANCHES)
def test_a_branch_that_a_constant_chooses_takes_the_place_of_its_if(case: str, tmp_path: Path) -> None:
    model = translate(graphs.save(BRANCHES[case], tmp_path), "net").model
    assert not {item.op_type for item in model.graph.node} & {"If", "Constant"}
    assert len({item.name for item in model.graph.node}) == len(model.graph.node)
    x = normal(*graphs.IMAGE, seed=3)
    np.testing.assert_array_equal(graphs.run(model, x)[0], graphs.run(BRANCHES[case], x)[0])


def test_a_branch_may_give_what_is_outside(tmp_path: Path) -> None:
    """ONNX allows it, ONNX Runtime does not."""
    model = network([C, choose("yes", "b", branch([], "a"), NEG), node("Relu", "b", "y")], W)
    x = normal(*graphs.IMAGE)
    (got,) = graphs.run(translate(graphs.save(model, tmp_path), "net").model, x)
    np.testing.assert_array_equal(got, graphs.run(network([C, node("Relu", "a", "y")], W), x)[0])


@pytest.mark.parametrize("end", ["/y", "/a"])
def test_an_if_can_be_an_end_node_and_brings_what_its_branches_read(end: str, tmp_path: Path) -> None:
    model = network([C, choose("yes", "y", NEG, RELU), node("Sin", "y", "z")], W)
    cut = translate(graphs.save(model, tmp_path), "net", end_nodes=[end])
    assert [layer.type for layer in cut.layers] == ["conv"]
    wanted = network([C, node("Neg", "a", "y")], W, outputs=[end[1:]])
    x = normal(*graphs.IMAGE)
    np.testing.assert_array_equal(graphs.run(cut.model, x)[0], graphs.run(wanted, x)[0])


def loop(count: str = "n") -> onnx.NodeProto:
    """Add the tensor `a` of outside to the running one, n times."""
    body = helper.make_graph(
        [node("Add", "run a", "next"), node("Identity", "go", "go_on")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("run", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    return node("Loop", f"{count} _ a", "y", body=body)


IS_POSITIVE = [
    node("ReduceMean", "x", "m", keepdims=0),
    node("Relu", "m", "p"),
    node("Cast", "p", "is", to=TensorProto.BOOL),
]


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    ("nodes", "operator"), [([*IS_POSITIVE, choose("is", "y", RELU, NEG)], "If"), ([loop()], "Loop")]
)
def test_what_the_image_decides_is_refused_with_operator_node_and_model(
    nodes: list[onnx.NodeProto], operator: str, opset: int, tmp_path: Path
) -> None:
    path = graphs.save(network([C, *nodes], W | {"n": np.array(3)}, opset=opset), tmp_path, "chooser")
    with pytest.raises(exceptions.ParsingWithRecommendationException) as caught:
        translate(path, "net")
    assert "Parsing of chooser failed" in str(caught.value)
    assert f"in op /y: {operator} operation is unsupported" in str(caught.value)
    assert "/a" in str(caught.value).rpartition("end node names: ")[2].split(", ")


def test_names_are_changed_inside_bodies_too() -> None:
    """A body reads what is outside, and what an outer body makes; the empty name of an input left out stays."""
    clipped = branch([node("Clip", "n _ top", "two")], "two")
    inner = branch([choose("is", "deep", branch([node("Relu", "n", "one")], "one"), clipped)], "deep")
    nodes = [C, *IS_POSITIVE, node("Neg", "a", "n"), choose("is", "b", NEG, inner), loop("three")]
    nodes[-1].input[2] = "b"
    model = network(nodes, W | {"three": np.array(3), "top": np.float32(0.2)})
    feeds = [sign * np.abs(normal(*graphs.IMAGE)) for sign in (1, -1)]  # one for each branch
    wanted = [graphs.run(model, x)[0] for x in feeds]
    rename_tensors(model.graph, lambda name: f"scope/{name}")
    assert {info.name for info in model.graph.input} == {"scope/x"}
    for x, exact in zip(feeds, wanted, strict=True):
        np.testing.assert_array_equal(graphs.run(model, x)[0], exact)


def function(name: str, nodes: list[onnx.NodeProto], opset: int = 17, **options: Any) -> onnx.FunctionProto:
    """Return a function of one tensor `i` that gives `o`."""
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["i"], ["o"], nodes, opsets, **options)


def calling(
    functions: list[onnx.FunctionProto], nodes: list[onnx.NodeProto], opset: int = 17, **options: Any
) -> onnx.ModelProto:
    model = network(nodes, W | options.pop("weights", {}), opset=opset, **options)
    model.functions.extend(functions)
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


def call(name: str, source: str, result: str, **attributes: Any) -> onnx.NodeProto:
    return node(name, source, result, domain="local", **attributes)


def scaled_by(value: float) -> onnx.FunctionProto:
    half = numpy_helper.from_array(np.array(value, np.float32))
    return function("scaled", [helper.make_node("Constant", [], ["k"], value=half), node("Mul", "i k", "o")])


LEAKY = node("LeakyRelu", "i", "o")
LEAKY.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
TWICE = function("twice", [call("scaled", "i", "t"), call("scaled", "t", "o")])
PICKS = function("picks", [helper.make_node("Constant", [], ["is"], value=numpy_helper.from_array(np.array(True))),
                           node("If", "is", "o", then_branch=branch([node("Relu", "i", "r")], "r"),
                                else_branch=branch([node("Neg", "i", "r")], "r"))])  # fmt: skip

FUNCTIONS: dict[str, onnx.ModelProto] = {
    "called twice": calling([scaled_by(0.3)], [C, call("scaled", "a", "b"), call("scaled", "b", "y")]),
    "one calls another": calling([scaled_by(0.3), TWICE], [C, call("twice", "a", "y")]),
    "with an attribute": calling(
        [function("leaky", [LEAKY], attributes=["slope"])], [C, call("leaky", "a", "y", slope=0.25)]
    ),
    "written for another opset": calling(
        [function("pooled", [node("ReduceMean", "i", "o", axes=[2, 3], keepdims=0)], opset=17)],
        [C, call("pooled", "a", "y")],
        opset=18,
    ),
    "with a branch inside": calling([PICKS], [C, call("picks", "a", "y")]),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_of_the_file_is_put_in_place_of_its_calls(case: str, tmp_path: Path) -> None:
    model = translate(graphs.save(FUNCTIONS[case], tmp_path), "net").model
    assert not model.functions
    assert {item.domain for item in model.graph.node} == {""}
    x = normal(*graphs.IMAGE, seed=3)
    exact = plain_mean(x) if case == "written for another opset" else graphs.run(FUNCTIONS[case], x)[0]
    np.testing.assert_array_equal(graphs.run(model, x)[0], exact)


def plain_mean(x: Array) -> Array:
    """The same network without a function: ONNX Runtime refuses one of another opset."""
    return graphs.run(network([C, node("ReduceMean", "a", "y", axes=[2, 3], keepdims=0)], W), x)[0]


def test_functions_of_one_name_that_differ_are_joined_as_each_alone(tmp_path: Path) -> None:
    models = [calling([scaled_by(value)], [C, call("scaled", "a", "y")]) for value in (0.3, -2.0)]
    left, right = (runners.parsed(model, tmp_path, name) for model, name in zip(models, "ab", strict=True))
    left.join(right, join_action=JoinAction.AUTO_JOIN_INPUTS)
    x = normal(*graphs.IMAGE)
    found = runners.infer(left, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    for got, model in zip(found, models, strict=True):
        np.testing.assert_array_equal(got, graphs.run(model, x)[0].transpose(0, 2, 3, 1))


def test_a_call_can_be_an_end_node(tmp_path: Path) -> None:
    model = calling([scaled_by(0.3)], [C, call("scaled", "a", "b"), node("Sin", "b", "y")])
    cut = translate(graphs.save(model, tmp_path), "net", end_nodes=["/b"])
    assert list(cut.original_names.values()) == ["x", "b"]


def test_what_is_unsupported_inside_a_function_is_named_and_the_end_nodes_are_those_of_the_file(
    tmp_path: Path,
) -> None:
    wave = function("wave", [node("Neg", "i", "n"), node("Sin", "n", "o")])
    path = graphs.save(calling([wave], [C, node("Relu", "a", "r"), call("wave", "r", "y")]), tmp_path)
    with pytest.raises(exceptions.ParsingWithRecommendationException, match="Sin operation is unsupported") as caught:
        translate(path, "net")
    assert "end node names" not in str(caught.value)


def test_two_functions_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    path = graphs.save(calling([scaled_by(0.3), scaled_by(0.5)], [C, call("scaled", "a", "y")]), tmp_path)
    assert "functions" in read_head(path).unsettled
    with pytest.raises(exceptions.UnsupportedModelError, match=r"local functions cannot be told apart.*scaled"):
        translate(path, "net")
