"""The HN: a whole graph by itself, in the words of the vendor's own files."""

from __future__ import annotations

import json
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from graphs import conv, conv_weights, network, node, normal

from hefjoin.emulator import hn
from hefjoin.emulator.layer_names import in_order
from hefjoin.emulator.translate import translate
from hefjoin.formats import har

REAL = Path(__file__).parents[4] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
needs_real_file = pytest.mark.skipif(not REAL.exists(), reason="the real HAR is not beside the repository")

W = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
C = conv("x", "a", "c")


def view_of(model: onnx.ModelProto, folder: Path, scope: str = "net") -> hn.Hn:
    return hn.build(translate(graphs.save(model, folder), scope), scope)


def branched() -> onnx.ModelProto:
    """A residual block whose sum feeds two outputs, one of them also read inside."""
    nodes = [
        C,
        node("Relu", "a", "r"),
        conv("r", "d", "d", strides=[1, 1]),
        node("Add", "d r", "s"),
        node("Split", "s parts", "p q", axis=1),
        node("MaxPool", "q", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "f"),
        node("Gemm", "f w b", "y", transB=1),
    ]
    weights = W | {"parts": np.array([1, 3]), "w": normal(5, 96), "b": normal(5)}
    return network(nodes, weights, inputs={"x": (1, 3, 8, 16)}, outputs=["y", "p", "q"])


def test_every_input_exists_and_output_is_its_inverse(tmp_path: Path) -> None:
    layers = view_of(branched(), tmp_path)["layers"]
    forward = sorted((source, name) for name, layer in layers.items() for source in layer["input"])
    backward = sorted((name, reader) for name, layer in layers.items() for reader in layer["output"])
    assert {source for source, _ in forward} <= set(layers)
    assert forward == backward
    assert all(name.startswith("net/") for name in layers)


def test_shapes_are_nhwc(tmp_path: Path) -> None:
    layers = view_of(branched(), tmp_path)["layers"]
    shapes = {name: (layer["input_shapes"], layer["output_shapes"]) for name, layer in layers.items()}
    image, features = [-1, 8, 16, 3], [-1, 8, 16, 4]
    assert shapes["net/input_layer1"] == ([image], [image])
    assert shapes["net/conv1"] == ([image], [features, features])  # one for each of its readers
    assert shapes["net/ew_add1"] == ([features, features], [features])
    one, three = [-1, 8, 16, 1], [-1, 8, 16, 3]
    assert shapes["net/feature_splitter1"] == ([features], [three, one, three])  # maxpool1, output_layer2 and 3
    assert shapes["net/maxpool1"] == ([[-1, 8, 16, 3]], [[-1, 96]])  # its result is flattened
    assert shapes["net/output_layer1"] == ([[-1, 5]], [[-1, 5]])


def test_kernels_are_written_as_height_width_inputs_outputs(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x c_w c_b", "a", strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2]),
        node("Conv", "a dw", "b", group=4),
        node("ConvTranspose", "b up", "t", group=2),
        node("Flatten", "t", "f"),
        node("MatMul", "f w", "y"),
    ]
    weights = W | {"dw": normal(4, 1, 1, 2), "up": normal(4, 3, 2, 2), "w": normal(6 * 5 * 8, 5)}
    layers = view_of(network(nodes, weights), tmp_path)["layers"]
    kernels = {name: layer["params"].get("kernel_shape") for name, layer in layers.items() if "params" in layer}
    assert kernels == {
        "net/conv1": [3, 3, 3, 4],
        "net/dw1": [1, 2, 1, 4],
        "net/deconv1": [2, 2, 2, 6],
        "net/fc1": [240, 5],
    }
    assert layers["net/conv1"]["params"]["strides"] == [1, 2, 1, 1]
    assert layers["net/conv1"]["params"]["dilations"] == [1, 1, 2, 1]
    assert [layers[name]["params"]["groups"] for name in ("net/dw1", "net/deconv1")] == [4, 2]


def test_parameters_are_what_the_file_holds(tmp_path: Path) -> None:
    deconv, pool = node("ConvTranspose", "a up u", "t", group=2), node("GlobalAveragePool", "t", "p")
    nodes = [C, deconv, pool, node("Flatten", "p", "f"), node("Gemm", "f w b", "y")]
    weights = W | {"up": normal(4, 3, 2, 2), "u": normal(6), "w": normal(6, 7), "b": normal(7)}
    view = view_of(network(nodes, weights), tmp_path)
    used = ("c_w", "c_b", "up", "u", "w", "b")
    counted = sum(
        har.HarLayer.model_validate({**layer, "name": name}).parameters for name, layer in view["layers"].items()
    )
    assert counted == sum(weights[name].size for name in used)


def test_layers_say_what_they_took_with_them(tmp_path: Path) -> None:
    params = view_of(branched(), tmp_path)["layers"]
    assert params["net/conv1"]["params"]["activation"] == "relu"
    assert params["net/conv1"]["original_names"] == ["/a", "/r"]
    assert params["net/ew_add1"]["original_names"] == ["/s"]
    assert params["net/fc1"]["params"]["kernel_shape"] == [96, 5]
    assert params["net/input_layer1"]["original_names"] == ["x"]


def test_outputs_keep_the_order_of_the_file(tmp_path: Path) -> None:
    view = view_of(branched(), tmp_path)
    outputs = hn.output_layers(view)
    assert [layer["original_names"] for layer in outputs.values()] == [["y"], ["p"], ["q"]]
    assert view["net_params"]["output_layers_order"] == [
        "net/fc1", "net/feature_splitter1", "net/feature_splitter1",
    ]  # fmt: skip
    assert list(outputs) == ["net/output_layer1", "net/output_layer2", "net/output_layer3"]


def test_a_channels_last_input_is_seen_as_it_is(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t", "y", "c")]
    layers = view_of(network(nodes, W, inputs={"x": (1, 6, 8, 3)}), tmp_path)["layers"]
    assert layers["net/input_layer1"]["output_shapes"] == [[-1, 6, 8, 3]]
    assert layers["net/format_conversion1"]["input_shapes"] == [[-1, 6, 8, 3]]
    assert layers["net/conv1"]["input_shapes"] == [[-1, 6, 8, 3]]
    assert layers["net/conv1"]["output_shapes"] == [[-1, 6, 8, 4]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 3, 4, 5), [-1, 4, 5, 3]),
        ((-1, 84, 8400), [-1, 1, 8400, 84]),
        ((-1, 10), [-1, 10]),
    ],
)
def test_nhwc(shape: tuple[int, ...], expected: list[int]) -> None:
    assert hn.nhwc(shape) == expected


def test_renaming_scopes_touches_every_name(tmp_path: Path) -> None:
    view = view_of(branched(), tmp_path)
    renamed = hn.rename_scopes(view, {"net": "other"})
    text = json.dumps(view).replace('"net/', '"other/').replace('"net"', '"other"')
    assert renamed == json.loads(text)


def test_layers_stand_behind_what_feeds_them_else_by_name(tmp_path: Path) -> None:
    nodes = [C, *(conv("a", f"b{index}", "d") for index in range(10))]
    nodes.append(node("Concat", " ".join(f"b{index}" for index in range(10)), "y", axis=1))
    view = view_of(network(nodes, W), tmp_path)
    heads = ["net/conv10", "net/conv11", *(f"net/conv{number}" for number in range(2, 10))]
    assert list(view["layers"]) == ["net/input_layer1", "net/conv1", *heads, "net/concat1", "net/output_layer1"]
    assert view["layers"]["net/conv1"]["output"] == heads


def many_types() -> onnx.ModelProto:
    """A layer of every type that the real HAR has as well, and a dense one."""
    nodes = [
        C,
        node("Sigmoid", "a", "g"),
        node("Mul", "a g", "h"),
        node("Add", "h k", "n"),
        node("Concat", "h n", "t", axis=1),
        node("Mul", "h n", "m"),
        node("Add", "m n", "s"),
        node("ReduceSum", "s axes", "r"),
        node("Resize", "r _ scales", "u"),
        node("Conv", "u d_w d_b", "v"),
        node("Flatten", "v", "f"),
        node("Gemm", "f w b", "y", transB=1),
    ]
    weights = W | {"k": normal(1, 4, 1, 1), "axes": np.array([2]), "scales": np.float32([1, 1, 4, 1])}
    weights |= {"w": normal(5, 4 * 2 * 6), "b": normal(5)}
    return network(nodes, weights, outputs=["y", "t"])


@needs_real_file
def test_keys_are_the_vendors(tmp_path: Path) -> None:
    real = json.loads(har.read_member(REAL, ".hn"))
    ours = view_of(many_types(), tmp_path)
    assert set(ours) == set(real)
    assert set(ours["net_params"]) == set(real["net_params"])
    theirs = {layer["type"]: layer for layer in real["layers"].values()}
    mine = {layer["type"]: layer for layer in ours["layers"].values()}
    both = mine.keys() & theirs.keys()
    assert both == set(theirs) - {"const_input", "layer_normalization"}
    for kind in both:
        assert set(mine[kind]) == set(theirs[kind])
        assert set(mine[kind].get("params", {})) <= set(theirs[kind].get("params", {}))
        assert {key: type(value) for key, value in mine[kind].items()} == {
            key: type(theirs[kind][key]) for key in mine[kind]
        }
    assert mine["input_layer"]["input_shapes"][0][0] == theirs["input_layer"]["input_shapes"][0][0] == -1


@needs_real_file
def test_the_vendors_layers_stand_in_our_order() -> None:
    layers = json.loads(har.read_member(REAL, ".hn"))["layers"]
    order = in_order({name: layer["input"] for name, layer in layers.items()}, lambda name, _: name)
    assert order == list(layers)
    for name, layer in layers.items():
        assert layer["output"] == [reader for reader in order if name in layers[reader]["input"]]
        assert len(layer["output_shapes"]) == max(1, len(layer["output"]))
