"""The layers that the emulator sees in a graph, rule by rule of `hefjoin.emulator.layers`."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal

from hefjoin.emulator import hn
from hefjoin.emulator.compile import forecast
from hefjoin.emulator.layers import Layer
from hefjoin.emulator.translate import translate
from hefjoin.examples.resnet import build_resnet18
from hefjoin.formats.model_script import Script

W = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3) | conv_weights("e", 4, 3, 3, 3, seed=3)
C = conv("x", "a", "c")
ONE, THREE, SIX = np.float32(1), np.float32(3), np.float32(6)
SCALARS: dict[str, Array] = {
    "one": np.asarray(ONE), "three": np.asarray(THREE), "six": np.asarray(SIX), "zero": np.asarray(np.float32(0)),
    "half": np.asarray(np.float32(0.5)), "sqrt2": np.asarray(np.float32(2**0.5)),
}  # fmt: skip


def layers_of(nodes: list[onnx.NodeProto], folder: Path, **changes: object) -> list[Layer]:
    weights = W | SCALARS | norm_weights("n", 4) | {"k": normal(1, 4, 1, 1)}
    model = network(nodes, weights | changes.pop("weights", {}), **changes)  # type: ignore[arg-type, operator]
    return translate(graphs.save(model, folder), "net").layers


def seen(layers: list[Layer]) -> list[str]:
    """Return `type` or `type+activation` of each layer."""
    return [layer.type + ("" if layer.activation == "linear" else f"+{layer.activation}") for layer in layers]


def test_convolution_takes_normalization_and_activation_with_it(tmp_path: Path) -> None:
    nodes = [C, node("BatchNormalization", "a n_g n_h n_m n_v", "n"), node("Relu", "n", "y")]
    (layer,) = layers_of(nodes, tmp_path)
    assert (layer.name, layer.type, layer.activation) == ("conv1", "conv", "relu")
    assert [item.op_type for item in layer.nodes] == ["Conv", "BatchNormalization", "Relu"]
    assert (layer.inputs, layer.outputs) == (["net/input_layer1"], ["net/conv1"])


@pytest.mark.parametrize("step", ["Mul a k", "Add k a", "Sub a k", "Div a k"])
def test_per_channel_steps_join_the_convolution(step: str, tmp_path: Path) -> None:
    operator, _, inputs = step.partition(" ")
    assert seen(layers_of([C, node(operator, inputs, "y")], tmp_path)) == ["conv"]


def test_an_affine_step_whose_input_is_read_elsewhere_is_a_normalization(tmp_path: Path) -> None:
    nodes = [C, node("Mul", "a k", "m"), node("Add", "m k", "n"), node("Concat", "a n", "y", axis=1)]
    assert seen(layers_of(nodes, tmp_path)) == ["conv", "normalization", "concat"]


def test_a_step_over_an_image_axis_is_not_per_channel(tmp_path: Path) -> None:
    nodes = [C, node("Relu", "a", "r"), node("Mul", "r row", "y")]
    assert seen(layers_of(nodes, tmp_path, weights={"row": normal(8)})) == ["conv+relu", "normalization"]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_addition_is_a_layer(swapped: bool, tmp_path: Path) -> None:
    add = node("Add", "r d" if swapped else "d r", "s")
    layers = layers_of([C, node("Relu", "a", "r"), conv("r", "d", "d"), add, node("Relu", "s", "y")], tmp_path)
    assert seen(layers) == ["conv+relu", "conv", "ew_add+relu"]
    assert layers[2].inputs == [f"net/conv{n}" for n in ((1, 2) if swapped else (2, 1))]


def test_a_convolution_of_one_pixel_is_dense(tmp_path: Path) -> None:
    kernels = {"down": normal(2, 4, 1, 1), "wide": normal(4, 2, 3, 3)}
    nodes = [C, node("GlobalAveragePool", "a", "g"), node("Conv", "g down", "p"), node("Relu", "p", "q")]
    layers = layers_of([*nodes, node("Conv", "q wide", "y", pads=[1, 1, 1, 1])], tmp_path, weights=kernels)
    assert seen(layers) == ["conv", "avgpool", "dense+relu", "conv"]
    assert [layer.name for layer in layers] == ["conv1", "avgpool1", "fc1", "conv2"]


@pytest.mark.parametrize("mover", ["Concat", "Resize", "DepthToSpace"])
def test_what_only_moves_values_takes_no_activation(mover: str, tmp_path: Path) -> None:
    made = {
        "Concat": node("Concat", "a x", "m", axis=1),
        "Resize": node("Resize", "a _ twice", "m"),
        "DepthToSpace": node("DepthToSpace", "a", "m", blocksize=2),
    }[mover]
    layers = layers_of([C, made, node("Relu", "m", "y")], tmp_path, weights={"twice": np.float32([1, 1, 2, 2])})
    assert [layer.type for layer in layers][2:] == ["activation"]
    assert layers[2].activation == "relu"


@pytest.mark.parametrize("operator", ["Dropout", "MaxPool"])
def test_a_second_output_that_nobody_reads_is_none(operator: str, tmp_path: Path) -> None:
    kernel = {"kernel_shape": [1, 1]} if operator == "MaxPool" else {}
    nodes = [C, node(operator, "a", "d second", None, **kernel), node("Add", "d a", "y")]
    assert [len(layer.outputs) for layer in layers_of(nodes, tmp_path)] == [1, 1, 1]


def test_an_addition_of_what_others_read_is_a_layer(tmp_path: Path) -> None:
    nodes = [C, conv("x", "b", "e"), node("Add", "a b", "s"), node("Concat", "a b s", "y", axis=1)]
    assert seen(layers_of(nodes, tmp_path)) == ["conv", "conv", "ew_add", "concat"]


def test_a_broadcast_addition_is_a_layer(tmp_path: Path) -> None:
    nodes = [
        C,
        node("Relu", "a", "r"),
        node("GlobalAveragePool", "r", "g"),
        conv("r", "d", "d"),
        node("Add", "d g", "y"),
    ]
    assert seen(layers_of(nodes, tmp_path)) == ["conv+relu", "avgpool", "conv", "ew_add"]


ACTIVATIONS = {
    "silu": [node("Sigmoid", "a", "s"), node("Mul", "a s", "y")],
    "hardswish": [
        node("Add", "a three", "p"), node("Clip", "p zero six", "q"), node("Mul", "a q", "r"),
        node("Div", "r six", "y"),
    ],
    "gelu": [
        node("Div", "a sqrt2", "p"), node("Erf", "p", "q"), node("Add", "q one", "r"), node("Mul", "a r", "s"),
        node("Mul", "s half", "y"),
    ],
    "mish": [node("Softplus", "a", "p"), node("Tanh", "p", "q"), node("Mul", "a q", "y")],
    "leaky": [node("LeakyRelu", "a", "y", alpha=0.1)],
    "relu": [node("Relu", "a", "y")],
    "sigmoid": [node("Sigmoid", "a", "y")],
    "relu6": [node("Clip", "a zero six", "y")],
    "clip": [node("Clip", "a _ six", "y")],
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_decomposed_activations_are_known_by_name(name: str, tmp_path: Path) -> None:
    layers = layers_of([C, *ACTIVATIONS[name]], tmp_path)
    assert seen(layers) == [f"conv+{name}"]
    assert layers[0].outputs == ["net/conv1"]


@pytest.mark.parametrize("name", ["silu", "hardswish", "relu"])
def test_an_activation_whose_input_is_also_read_elsewhere_is_a_layer(name: str, tmp_path: Path) -> None:
    layers = layers_of([C, *ACTIVATIONS[name], node("Concat", "a y", "z", axis=1)], tmp_path)
    assert seen(layers) == ["conv", f"activation+{name}", "concat"]


@pytest.mark.parametrize("order", ["srm", "smr", "rsm"])
def test_two_functions_of_one_tensor_are_told_apart(order: str, tmp_path: Path) -> None:
    nodes = {"s": node("Sigmoid", "a", "s"), "r": node("Relu", "a", "r"), "m": node("Mul", "a s", "m")}
    layers = layers_of([C, *(nodes[key] for key in order), node("Concat", "r m", "y", axis=1)], tmp_path)
    found = {layer.activation: [item.op_type for item in layer.nodes] for layer in layers[1:3]}
    assert found == {"silu": ["Sigmoid", "Mul"], "relu": ["Relu"]}


def test_a_function_ends_where_its_inside_is_read(tmp_path: Path) -> None:
    nodes = [C, node("Sigmoid", "a", "s"), node("Mul", "a s", "m"), node("Concat", "s m", "y", axis=1)]
    assert seen(layers_of(nodes, tmp_path)) == ["conv", "activation+sigmoid", "ew_mult", "concat"]


def test_the_activation_of_one_half_of_a_split_is_a_layer(tmp_path: Path) -> None:
    nodes = [C, node("Split", "a halves", "p q", axis=1), node("Relu", "p", "r"), node("Concat", "r q", "y", axis=1)]
    layers = layers_of(nodes, tmp_path, weights={"halves": np.array([2, 2])})
    assert seen(layers) == ["conv", "feature_splitter", "activation+relu", "concat"]


def test_squeeze_and_excitation(tmp_path: Path) -> None:
    nodes = [
        C,
        node("Relu", "a", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Conv", "g down", "p"),
        node("Relu", "p", "q"),
        node("Conv", "q up", "t"),
        node("HardSigmoid", "t", "h"),
        node("Mul", "r h", "y"),
    ]
    layers = layers_of(nodes, tmp_path, weights={"down": normal(2, 4, 1, 1), "up": normal(4, 2, 1, 1)})
    assert seen(layers) == ["conv+relu", "avgpool", "dense+relu", "dense+hardsigmoid", "ew_mult"]
    assert layers[-1].inputs == ["net/conv1", "net/fc2"]


def test_views_take_no_layer(tmp_path: Path) -> None:
    nodes = [
        C, node("Identity", "a", "b"), node("Transpose", "b", "t", perm=[0, 2, 3, 1]), node("Flatten", "t", "f"),
        node("Unsqueeze", "f axis", "u"), node("Squeeze", "u axis", "y"),
    ]  # fmt: skip
    layers = layers_of(nodes, tmp_path, weights={"axis": np.array([1])})
    assert seen(layers) == ["conv"]
    assert layers[0].outputs == ["net/conv1"]


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        ([node("Conv", "x dw", "y", group=3)], ["dw"]),
        ([node("Conv", "x c_w", "a"), node("Conv", "a grouped", "y", group=2)], ["conv", "conv"]),
        ([node("ConvTranspose", "x deconv", "y")], ["deconv"]),
        ([node("Flatten", "x", "f"), node("MatMul", "f fc", "y")], ["format_conversion", "dense"]),
        ([node("ReduceMean", "x", "y", axes=[2, 3])], ["avgpool"]),
        ([node("ReduceMean", "x", "y", axes=[1])], ["reduce_mean"]),
        ([node("MaxPool", "x", "y", kernel_shape=[2, 2])], ["maxpool"]),
        ([node("DepthToSpace", "b", "y", blocksize=2)], ["depth_to_space"]),
        ([node("Softmax", "x", "y", axis=1)], ["softmax"]),
        ([node("Max", "x zero", "y")], ["activation+max"]),
        ([node("Conv", "x c_w", "a"), node("Div", "one a", "y")], ["conv+div"]),
        ([node("Mul", "x x", "y")], ["activation+mul"]),
        ([node("Concat", "x x", "y", axis=1)], ["concat"]),
    ],
)
def test_other_operators(nodes: list[onnx.NodeProto], kinds: list[str], tmp_path: Path) -> None:
    weights = {"dw": normal(3, 1, 3, 3), "grouped": normal(4, 2, 1, 1), "deconv": normal(3, 2, 2, 2)}
    weights |= {"fc": normal(192, 5), "four": normal(4, 3, 1, 1)}
    if nodes[0].input[0] == "b":
        nodes, kinds = [node("Conv", "x four", "b"), *nodes], ["conv", *kinds]
    assert seen(layers_of(nodes, tmp_path, weights=weights)) == kinds


def test_an_input_read_by_several_layers(tmp_path: Path) -> None:
    layers = layers_of([C, conv("x", "b", "e"), node("Concat", "a b x", "y", axis=1)], tmp_path)
    assert [layer.inputs for layer in layers] == [
        ["net/input_layer1"], ["net/input_layer1"], ["net/conv1", "net/conv2", "net/input_layer1"],
    ]  # fmt: skip


def test_resnet18_takes_23_layers_and_11684712_parameters(tmp_path: Path) -> None:
    translated = translate(graphs.save(build_resnet18(1), tmp_path), "r")
    kinds = seen(translated.layers)
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "conv+relu": 9, "conv": 11, "ew_add+relu": 8, "maxpool": 1, "avgpool": 1, "dense": 1,
    }  # fmt: skip
    fit = forecast(hn.build(translated, "r"), "hailo8", Script())
    assert (fit.layers, fit.parameters) == (23, 11_684_712)
