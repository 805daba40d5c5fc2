"""Equalization moves scale between layers: outputs stay, channels come level, and only where it is allowed."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node

from hefjoin.emulator.equalize import equalize, factors, seams
from hefjoin.emulator.layers import find_layers
from hefjoin.emulator.observe import Observation, Wish, observe
from hefjoin.emulator.quantize import kernel_bits

FRAMES = [{"x": graphs.normal(1, 3, 8, 8, seed=seed)} for seed in range(4)]
OFF = "pre_quantization_optimization(equalization, policy=disabled)"


def uneven(group: int = 1, function: str = "Relu") -> onnx.ModelProto:
    """Return conv, function, conv (depthwise with group 6), function, conv; the first's features differ much."""
    weights = conv_weights("c", 6, 3, 3, 3) | conv_weights("d", 6, 6 // group, 3, 3) | conv_weights("e", 4, 6, 3, 3)
    spread = np.array([1, 0.3, 0.1, 0.03, 0.01, 0.003], np.float32)
    weights["c_w"] *= spread[:, None, None, None]
    weights["c_b"] *= spread
    weights["d_w"] /= spread[:, None, None, None] if group == 6 else spread[None, :, None, None]
    nodes = [
        conv("x", "a", "c"), node(function, "a", "r"), conv("r", "b", "d", group=group), node(function, "b", "s"),
        conv("s", "y", "e"),
    ]  # fmt: skip
    return onnx.shape_inference.infer_shapes(network(nodes, weights))


def seen_of(model: onnx.ModelProto) -> dict[str, Observation]:
    wishes = {seam.tensor: Wish(by_channel=True) for seam in seams(model)}
    return observe(model, wishes, iter(FRAMES), lambda done: None)


def equalized(model: onnx.ModelProto) -> dict[str, Array]:
    found = factors(model, seen_of(model), kernel_bits(model, {}))
    equalize(model, found)
    return found


@pytest.mark.parametrize("group", [1, 6])
@pytest.mark.parametrize("function", ["Relu", "LeakyRelu"])
def test_outputs_stay_what_they_are(group: int, function: str) -> None:
    model = uneven(group, function)
    before = [graphs.run(model, feeds["x"])[0] for feeds in FRAMES]
    assert equalized(model)
    for feeds, wanted in zip(FRAMES, before, strict=True):
        np.testing.assert_allclose(graphs.run(model, feeds["x"])[0], wanted, rtol=1e-4, atol=1e-5)


def test_before_a_depthwise_layer_every_channel_gets_all_levels() -> None:
    model = uneven(group=6)
    before = seen_of(model)["r"]
    factor = equalized(model)["r"]
    after = seen_of(model)["r"]
    assert before.high.max() / before.high.min() > 100
    assert after.high.max() / after.high.min() == pytest.approx(1.0, abs=0.01)
    assert after.high.max() == pytest.approx(before.high.max(), rel=0.01)
    np.testing.assert_allclose(after.high, before.divided(factor).high, rtol=1e-4)


@pytest.mark.parametrize("function", ["HardSwish", "Sigmoid", "Softplus"])
def test_before_a_depthwise_layer_any_activation_may_stand(function: str) -> None:
    model = uneven(6, function)
    before = [graphs.run(model, feeds["x"])[0] for feeds in FRAMES]
    low, high = (seen_of(model)["r"].low, seen_of(model)["r"].high)
    layers = [(layer.type, layer.outputs) for layer in find_layers(model)]
    assert "r" in equalized(model)
    assert [(layer.type, layer.outputs) for layer in find_layers(model)] == layers, "the division is no layer"
    after = seen_of(model)["r"]
    widths = np.maximum(after.high, 0) - np.minimum(after.low, 0)
    assert widths.min() / widths.max() > 0.45
    assert np.ptp(np.maximum(high, 0) - np.minimum(low, 0)) > np.ptp(widths)
    for feeds, wanted in zip(FRAMES, before, strict=True):
        np.testing.assert_allclose(graphs.run(model, feeds["x"])[0], wanted, rtol=1e-4, atol=1e-5)


def hardswish_then_depthwise() -> onnx.ModelProto:
    """Return a stem whose features differ a thousandfold, HardSwish, and a depthwise layer that levels them."""
    spread = np.array([30, 1, 0.3, 0.03], np.float32)
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 1, 3, 3)
    weights["c_w"] *= (spread / 255)[:, None, None, None]
    weights["d_w"] /= spread[:, None, None, None]
    nodes = [conv("x", "a", "c"), node("HardSwish", "a", "r"), conv("r", "y", "d", group=4)]
    return network(nodes, weights, {"x": ("n", 3, 8, 8)})


def test_small_channels_behind_a_hardswish_keep_their_levels(tmp_path: Path) -> None:
    frames, unseen, found = graphs.frames(16), graphs.frames(8, seed=9), []
    (exact,) = graphs.run(hardswish_then_depthwise(), graphs.nchw(unseen))
    outputs_apart = "model_optimization_config(globals, output_encoding_vector=enabled)"
    for script in (OFF, ""):
        runner = runners.quantized(hardswish_then_depthwise(), tmp_path, frames, f"{script}\n{outputs_apart}")
        (rough,) = runners.infer(runner, unseen, "SDK_QUANTIZED")
        found.append([graphs.snr_db(exact[:, c], graphs.nchw(rough)[:, c]) for c in range(4)])
    gains = np.subtract(found[1], found[0])
    assert min(gains[1:]) > 10
    assert abs(gains[0]) < 3, "the largest channel had its levels already"


@pytest.mark.parametrize("group", [1, 6])
def test_less_is_lost(group: int, tmp_path: Path) -> None:
    frames, found = graphs.frames(8), []
    for script in (OFF, ""):
        runner = runners.quantized(uneven(group), tmp_path, frames, script)
        (exact,), (rough,) = (runners.infer(runner, frames, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
        found.append(graphs.snr_db(exact, rough))
    assert found[1] > found[0] + 3


def test_what_is_even_already_is_left_alone() -> None:
    model = network(
        [conv("x", "a", "c"), conv("a", "y", "d")], conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 2, 4, 3, 3)
    )
    model = onnx.shape_inference.infer_shapes(model)
    for tensor in model.graph.initializer:
        if tensor.name in ("c_w", "d_w"):
            flat = np.sign(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.abs(flat).astype(np.float32), tensor.name))
    assert all(factor.max() / factor.min() < 1.5 for factor in equalized(model).values())


@pytest.mark.parametrize(
    "nodes",
    [
        [conv("x", "a", "c"), node("Sigmoid", "a", "r"), conv("r", "y", "d")],
        [conv("x", "a", "c"), conv("a", "b", "d"), node("Add", "a b", "y")],
        [conv("x", "a", "c"), node("GlobalAveragePool", "a", "p"), node("Add", "p a", "y")],
        [conv("x", "a", "c"), conv("a", "b", "c2"), conv("b", "y", "c2")],
    ],
    ids=["sigmoid", "read by an addition", "no kernel behind", "one kernel for two"],
)
def test_where_it_would_change_the_network_there_is_no_seam(nodes: list[onnx.NodeProto]) -> None:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3) | conv_weights("c2", 4, 4, 3, 3)
    assert seams(onnx.shape_inference.infer_shapes(network(nodes, weights))) == []
