"""`output_encoding_vector`: each feature of an output has its own scale, in the emulator, the HEF and the device."""

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
from hefjoin.emulator.quantize import Encoding, outputs_by_feature
from hefjoin.formats import hef as hef_file

VECTOR = "model_optimization_config(globals, output_encoding_vector=enabled)"
SPREAD = np.array([30, 1, 0.3, 0.03], np.float32)


def uneven(function: str = "Identity") -> onnx.ModelProto:
    """Return conv, relu, conv, function: the features of the output differ a thousandfold."""
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
    weights["d_w"] *= SPREAD.reshape(-1, 1, 1, 1)
    weights["d_b"] *= SPREAD
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "b", "d"), node(function, "b", "y")]
    return network(nodes, weights, {"x": ("n", 3, 8, 8)})


def worst_feature_db(function: str, script: str, folder: Path, frames: Array) -> float:
    (exact,) = graphs.run(uneven(function), graphs.nchw(frames))
    (rough,) = runners.infer(runners.quantized(uneven(function), folder, frames, script), frames, "SDK_QUANTIZED")
    return min(graphs.snr_db(exact[:, c], graphs.nchw(rough)[:, c]) for c in range(4))


@pytest.mark.parametrize("function", ["Identity", "Relu", "HardSwish"])
def test_small_features_keep_their_levels(function: str, tmp_path: Path) -> None:
    frames = graphs.frames(16)
    plain, apart = (worst_feature_db(function, script, tmp_path, frames) for script in ("", VECTOR))
    assert apart > plain + (10 if function == "Identity" else 3)


def test_each_feature_has_the_range_that_it_was_seen_in_and_some_reserve(tmp_path: Path) -> None:
    frames = graphs.frames(64)
    (exact,) = graphs.run(uneven(), graphs.nchw(frames))
    code = runners.quantized(uneven(), tmp_path, frames, VECTOR)._encodings["net/conv2"]
    assert isinstance(code.scale, tuple)
    for feature, scale in enumerate(code.scale):
        width = max(exact[:, feature].max(), 0) - min(exact[:, feature].min(), 0)
        assert 0.6 < scale * 255 / width < 1.1


@pytest.mark.parametrize("mode", ["a8_w8", "a16_w16"])
def test_an_output_of_one_value_a_frame_has_more_reserve_than_a_map(mode: str, tmp_path: Path) -> None:
    weights = {"w": graphs.normal(192, 5), "b": graphs.normal(5)}
    model = network([node("Flatten", "x", "f"), node("Gemm", "f w b", "y")], weights, {"x": ("n", 3, 8, 8)})
    frames, unseen = graphs.frames(32), graphs.frames(400, seed=3)
    script = f"{VECTOR}\nquantization_param({{*}}, precision_mode={mode})"
    runner = runners.quantized(model, tmp_path, frames, script)
    (exact,), (rough,) = graphs.run(model, graphs.nchw(unseen)), runners.infer(runner, unseen, "SDK_QUANTIZED")
    (seen,) = graphs.run(model, graphs.nchw(frames))
    beyond = (exact > seen.max(axis=0)) | (exact < seen.min(axis=0))
    assert beyond.mean() > 0.03, "some unseen values lie beyond all that were seen"
    assert np.mean(np.abs(exact - rough)[beyond] < 0.1 * exact.std()) > 0.7


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([conv("a", "y", "d"), node("Relu", "y", "z")], []),
        ([conv("a", "y", "d"), conv("y", "z", "d")], ["z"]),
        ([conv("a", "b", "d"), node("Transpose", "b", "y", perm=[0, 2, 3, 1])], []),
        ([node("MaxPool", "a", "y", kernel_shape=[2, 2])], []),
        ([node("Add", "a x4", "y"), node("Concat", "x x", "x4", axis=1)][::-1], []),
    ],
    ids=["two readers", "read by a layer", "turned", "made without a kernel", "an addition"],
)
def test_only_what_a_kernel_makes_for_the_host_alone(nodes: list[onnx.NodeProto], expected: list[str]) -> None:
    weights = conv_weights("c", 6, 3, 3, 3) | conv_weights("d", 6, 6, 3, 3)
    outputs = [node.output[0] for node in nodes if node.output[0] in ("y", "z")]
    model = onnx.shape_inference.infer_shapes(network([conv("x", "a", "c"), *nodes], weights, outputs=outputs))
    assert outputs_by_feature(model) == expected


def test_a_range_that_the_script_gives_is_for_all_features(tmp_path: Path) -> None:
    clip = "pre_quantization_optimization(activation_clipping, layers=[conv2], mode=manual, clipping_values=[-1, 9])"
    runner = runners.quantized(uneven(), tmp_path, graphs.frames(8), f"{VECTOR}\n{clip}")
    assert runner._encodings["net/conv2"] == Encoding(pytest.approx(10 / 255), 26, 8)


def test_the_hef_lists_the_scales_and_the_device_gives_what_the_emulator_infers(tmp_path: Path) -> None:
    frames = graphs.frames(6).astype(np.uint8)
    runners.quantized(uneven(), tmp_path, frames, VECTOR).save_har(tmp_path / "q.har")
    runner = ClientRunner(har=tmp_path / "q.har")
    (wanted,) = runners.infer(runner, frames, "SDK_QUANTIZED")
    path, images = tmp_path / "net.emulated.hef", tmp_path / "frames.npy"
    path.write_bytes(runner.compile())
    np.save(images, frames)
    (stream,) = hef_file.read(path).groups[0].outputs
    code = runner._encodings["net/conv2"]
    assert stream.scales == pytest.approx(code.scale)
    assert stream.zero_points == code.zero_point
    (got,) = EmulatedDevice().outputs(path, images).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
