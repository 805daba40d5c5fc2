"""Channels with scales of their own: where they may be, what they save, and what of them a HEF and a device know."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node

from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.emulator import ClientRunner
from hefjoin.emulator.own_scales import into_depthwise, of_outputs
from hefjoin.emulator.quantize import Encoding
from hefjoin.formats import hef as hef_file

VECTOR = "model_optimization_config(globals, output_encoding_vector=enabled)"
OFF = "pre_quantization_optimization(equalization, policy=disabled)"
SPREAD = np.array([30, 1, 0.3, 0.03], np.float32)


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model)


def hardswish_then_depthwise() -> onnx.ModelProto:
    """Return a stem whose features differ a thousandfold, an activation that cannot be divided, a depthwise layer."""
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 1, 3, 3)
    weights["c_w"] *= (SPREAD / 255)[:, None, None, None]
    weights["d_w"] /= SPREAD[:, None, None, None]
    nodes = [conv("x", "a", "c"), node("HardSwish", "a", "r"), conv("r", "y", "d", group=4)]
    return network(nodes, weights)


FOUND = {
    "behind an activation": ([node("Sigmoid", "a", "r"), conv("r", "y", "d", group=4)], ["r"]),
    "two depthwise layers": (
        [conv("a", "p", "d", group=4), conv("a", "q", "d2", group=4), node("Add", "p q", "y")],
        ["a"],
    ),
    "another reader": ([conv("a", "p", "d", group=4), conv("a", "q", "e"), node("Add", "p q", "y")], []),
    "made without a kernel": (
        [node("MaxPool", "a", "m", kernel_shape=[2, 2]), conv("m", "y", "d", group=4)],
        [],
    ),
    "a grouped convolution": ([conv("a", "y", "g", group=2)], []),
    "turned on the way": (
        [node("Transpose", "a", "t", perm=[0, 1, 3, 2]), conv("t", "y", "d", group=4)],
        [],
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_into_depthwise_layers_alone(case: str) -> None:
    nodes, expected = FOUND[case]
    shapes = {"c": (4, 3, 3, 3), "d": (4, 1, 3, 3), "d2": (4, 1, 3, 3), "e": (4, 4, 3, 3), "g": (4, 2, 3, 3)}
    weights = {key: value for name, shape in shapes.items() for key, value in conv_weights(name, *shape).items()}
    model = inferred(network([conv("x", "a", "c"), *nodes], weights))
    assert into_depthwise(model) == expected


def test_outputs_of_layers_with_a_kernel_that_the_host_alone_reads() -> None:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3) | conv_weights("e", 4, 4, 3, 3)
    nodes = [
        conv("x", "a", "c"), conv("a", "b", "d"), conv("b", "p", "e"), node("Add", "a b", "q"),
        node("Transpose", "z", "t", perm=[0, 2, 3, 1]), conv("b", "z", "d"),
    ]  # fmt: skip
    nodes = [*nodes[:4], nodes[5], nodes[4]]
    model = inferred(network(nodes, weights, outputs=["b", "p", "q", "t"]))
    assert of_outputs(model) == ["p"]


def test_small_channels_before_a_depthwise_layer_keep_their_levels(tmp_path: Path) -> None:
    frames, unseen, found = graphs.frames(16), graphs.frames(8, seed=9), {}
    (exact,) = graphs.run(hardswish_then_depthwise(), graphs.nchw(unseen))
    for script in (OFF, ""):
        runner = runners.quantized(hardswish_then_depthwise(), tmp_path, frames, script)
        (rough,) = runners.infer(runner, unseen, "SDK_QUANTIZED")
        found[script] = [graphs.snr_db(exact[:, c], graphs.nchw(rough)[:, c]) for c in range(4)]
    assert min(found[""]) > 30
    assert min(found[OFF]) < 15, "with one scale the smallest channel is lost"


def test_each_channel_has_the_range_that_it_was_seen_in(tmp_path: Path) -> None:
    frames = graphs.frames(16)
    runner = runners.quantized(hardswish_then_depthwise(), tmp_path, frames)
    code = runner._encodings["net/conv1"]
    stem = hardswish_then_depthwise()
    del stem.graph.node[2:]
    stem.graph.output[0].name = "r"
    (seen,) = graphs.run(stem, graphs.nchw(frames))
    assert isinstance(code.scale, tuple)
    for channel, scale in enumerate(code.scale):
        width = max(seen[:, channel].max(), 0) - min(seen[:, channel].min(), 0)
        assert 0.5 < scale * 255 / width < 1.1


def test_a_range_that_the_script_gives_is_for_all_channels(tmp_path: Path) -> None:
    script = "pre_quantization_optimization(activation_clipping, layers=[conv1], mode=manual, clipping_values=[-1, 9])"
    runner = runners.quantized(hardswish_then_depthwise(), tmp_path, graphs.frames(8), script)
    assert runner._encodings["net/conv1"] == Encoding(pytest.approx(10 / 255), 26, 8)


def uneven_outputs() -> onnx.ModelProto:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
    for name in ("d_w", "d_b"):
        weights[name] *= SPREAD.reshape(-1, *[1] * (weights[name].ndim - 1))
    return network([conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")], weights)


def outputs_with(script: str, folder: Path, frames: Array) -> tuple[ClientRunner, Array]:
    runner = runners.quantized(uneven_outputs(), folder, frames, script)
    return runner, runners.infer(runner, frames, "SDK_QUANTIZED")[0]


def test_each_feature_of_an_output_may_have_its_own_scale(tmp_path: Path) -> None:
    frames = graphs.frames(16)
    (exact,) = graphs.run(uneven_outputs(), graphs.nchw(frames))
    worst = {}
    for script in ("", VECTOR):
        _, rough = outputs_with(script, tmp_path, frames)
        worst[script] = min(graphs.snr_db(exact[:, c], graphs.nchw(rough)[:, c]) for c in range(4))
    assert worst[VECTOR] > 30 > worst[""]


def test_the_hef_lists_the_scales_and_the_device_gives_what_the_emulator_infers(tmp_path: Path) -> None:
    frames = graphs.frames(6).astype(np.uint8)
    runner, wanted = outputs_with(VECTOR, tmp_path, frames)
    runner.save_har(tmp_path / "q.har")
    runner = ClientRunner(har=tmp_path / "q.har")
    path, images = tmp_path / "net.emulated.hef", tmp_path / "frames.npy"
    path.write_bytes(runner.compile())
    np.save(images, frames)
    (stream,) = hef_file.read(path).groups[0].outputs
    code = runner._encodings["net/conv2"]
    assert stream.scales == pytest.approx(code.scale)
    assert stream.zero_points == code.zero_point
    (got,) = EmulatedDevice().outputs(path, images).values()
    np.testing.assert_allclose(got, wanted, atol=1e-6)
