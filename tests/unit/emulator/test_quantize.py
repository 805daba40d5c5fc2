"""Quantization against plain numpy: encodings, kernels, and whole small networks in integers."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, normal
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from hefjoin.emulator import ClientRunner
from hefjoin.emulator.quantize import Encoding, encoding, quantize_kernel

numbers = st.floats(-(2.0**100), 2.0**100, width=32)
bit_counts = st.sampled_from([8, 16])


def to_integers(values: Array, code: Encoding) -> Array:
    integers: Array = np.clip(np.rint(values / code.scale) + code.zero_point, 0, 2**code.bits - 1)
    return integers


def to_reals(integers: Array, code: Encoding) -> Array:
    return (integers - code.zero_point) * code.scale


@given(low=numbers, high=numbers, bits=bit_counts)
def test_encodings_hold_zero_and_the_range(low: float, high: float, bits: int) -> None:
    low, high = min(low, high), max(low, high)
    code = encoding(low, high, bits)
    assert 0 <= code.zero_point <= 2**bits - 1
    assert np.float32(code.scale) > 0
    assert to_reals(to_integers(np.zeros(1), code), code) == 0
    ends = np.array([min(low, 0), max(high, 0)])
    lost = np.abs(to_reals(to_integers(ends, code), code) - ends)
    assert np.all(lost <= code.scale * 0.5001)


@given(low=numbers, high=numbers, values=st.lists(numbers, min_size=2, max_size=20), bits=bit_counts)
def test_encodings_are_monotone(low: float, high: float, values: list[float], bits: int) -> None:
    code = encoding(min(low, high), max(low, high), bits)
    assert np.all(np.diff(to_integers(np.sort(values), code)) >= 0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, (1.0, 0)),
        (-128.0, 127.0, (1.0, 128)),
        (-5.1, -1.0, (0.02, 255)),
        (0.5, 5.1, (0.02, 0)),
        (0.0, 0.0, (1.0, 0)),
        (0.0, 1e-42, (1.0, 0)),
    ],
    ids=["bytes", "signed", "negative only", "positive only", "all zeros", "too small for a float32 scale"],
)
def test_encodings_of_known_ranges(low: float, high: float, expected: tuple[float, int]) -> None:
    code = encoding(low, high, 8)
    assert code.scale == pytest.approx(expected[0])
    assert code.zero_point == expected[1]


kernels = st.integers(0, 1000).map(lambda seed: normal(4, 3, 3, 3, seed=seed, spread=10.0 ** (seed % 50 - 40)))


@given(kernel=kernels, bits=st.sampled_from([4, 8, 16]), axis=st.integers(0, 3))
def test_kernels_lose_at_most_half_a_step_per_feature(kernel: Array, bits: int, axis: int) -> None:
    integers, scales = quantize_kernel(kernel, axis, bits)
    top = 2 ** (bits - 1) - 1
    assert np.abs(integers.astype(int)).max() <= top
    shape = [1] * 4
    shape[axis] = -1
    steps = scales.reshape(shape).astype(np.float64)
    assert np.all(np.abs(integers * steps - kernel) <= steps * 0.51)  # 16 bits of float32's 24 are used up
    peaks = np.abs(kernel).max(axis=tuple(set(range(4)) - {axis}))
    sizable = peaks / top > np.finfo(np.float32).tiny
    np.testing.assert_allclose(scales[sizable], (peaks / top)[sizable], rtol=1e-6)
    mirrored, _ = quantize_kernel(-kernel, axis, bits)
    np.testing.assert_array_equal(mirrored, -integers)


@pytest.mark.parametrize("kernel", [np.zeros((2, 3), np.float32), np.full((2, 3), 1e-44, np.float32)])
def test_a_kernel_of_nothing_stays_nothing(kernel: Array) -> None:
    integers, scales = quantize_kernel(kernel, 0, 8)
    assert not integers.any()
    np.testing.assert_array_equal(scales, [1, 1])


def integer_convolution(frames: Array, kernel: Array, bias: Array) -> Array:
    """Return what an 8-bit chip computes for a 3x3 convolution, as real numbers, NHWC, by numpy alone."""
    exact = np.einsum("nchwij,ocij->nohw", windows(graphs.nchw(frames)), kernel) + bias[:, None, None]
    scale_in = frames.max() / 255
    pixels = np.clip(np.rint(graphs.nchw(frames) / scale_in), 0, 255).astype(np.int64)
    scale_w = np.abs(kernel).max(axis=(1, 2, 3)) / 127
    weights = np.rint(kernel / scale_w[:, None, None, None]).astype(np.int64)
    addends = np.rint(bias / (scale_in * scale_w)).astype(np.int64)
    sums = np.einsum("nchwij,ocij->nohw", windows(pixels), weights) + addends[:, None, None]
    low, high = min(exact.min(), 0), max(exact.max(), 0)
    scale_out = (high - low) / 255
    zero_point = round(-low / scale_out)
    outputs = np.clip(np.rint(sums * (scale_in * scale_w)[:, None, None] / scale_out) + zero_point, 0, 255)
    reals: Array = (outputs - zero_point) * scale_out
    return reals.transpose(0, 2, 3, 1)


def windows(images: Array) -> Array:
    return sliding_window_view(np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))


def test_one_convolution_equals_integer_arithmetic_within_one_step(tmp_path: Path) -> None:
    weights = conv_weights("c", 4, 3, 3, 3)
    frames = graphs.frames(4)
    runner = runners.quantized(network([conv("x", "y", "c")], weights), tmp_path, frames)
    (got,) = runners.infer(runner, frames, "SDK_QUANTIZED")
    wanted = integer_convolution(frames, weights["c_w"].astype(np.float64), weights["c_b"].astype(np.float64))
    step = runner._encodings["net/conv1"].scale
    apart = np.abs(got - wanted) / step
    assert apart.max() <= 1.01
    assert np.mean(apart < 0.01) > 0.99


def test_a_dead_or_tiny_kernel_does_not_cost_its_bias(tmp_path: Path) -> None:
    kernel, bias = normal(4, 3, 3, 3), np.array([0.4, -37.3, 5.0, 0.0], np.float32)
    kernel[0] = 0
    kernel[1] *= np.float32(1e-9)
    model = network([node("Conv", "x w b", "y", pads=[1, 1, 1, 1])], {"w": kernel, "b": bias})
    frames = graphs.frames(4)
    runner = runners.quantized(model, tmp_path, frames)
    (got,) = runners.infer(runner, frames, "SDK_QUANTIZED")
    step = runner._encodings["net/conv1"].scale
    np.testing.assert_allclose(got[..., 0], 0.4, atol=step / 2)
    np.testing.assert_allclose(got[..., 1], -37.3, atol=step / 2)


ZEROS, ONES = np.zeros(3, np.float32), np.ones((3, 3, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("model", "frames"),
    [
        (network([node("Conv", "x w b", "y")], {"w": ONES * 0, "b": ZEROS}), graphs.frames(2)),
        (network([node("Conv", "x w b", "y")], {"w": -ONES, "b": ZEROS - 5}), graphs.frames(2)),
        (network([node("Conv", "x w", "y")], {"w": ONES}), np.zeros((2, 8, 8, 3), np.float32)),
        (
            network([node("Conv", "x w", "y")], {"w": ONES[:1, :1]}, inputs={"x": (1, 1, 8, 8)}),
            graphs.frames(2, 8, 8, 1),
        ),
    ],
    ids=["all zeros", "negative only", "black frames", "one channel"],
)
def test_unusual_ranges(model: onnx.ModelProto, frames: Array, tmp_path: Path) -> None:
    runner = runners.quantized(model, tmp_path, frames)
    (exact,), (rough,) = (runners.infer(runner, frames, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
    step = runner._encodings["net/conv1"].scale
    # Half a step of the output and, through three weights of one, half a step of each input.
    tolerance = step / 2 + 1.5 * runner._encodings["net/input_layer1"].scale
    np.testing.assert_allclose(rough, exact, atol=tolerance)


def kernel_levels(runner: ClientRunner, name: str) -> int:
    """Return the largest absolute integer among a kernel's weights."""
    assert runner._quantized is not None
    (kernel,) = (item for item in runner._quantized.graph.initializer if item.name.endswith(f"{name}_w/q"))
    return int(np.abs(numpy_helper.to_array(kernel)).max())


def deep(seed: int = 0) -> onnx.ModelProto:
    """Conv, relu, depthwise, relu, conv."""
    weights = conv_weights("c", 6, 3, 3, 3, seed=seed) | conv_weights("d", 6, 1, 3, 3) | conv_weights("e", 5, 6, 3, 3)
    nodes = [
        conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "b", "d", group=6), node("Relu", "b", "s"),
        conv("s", "y", "e"),
    ]  # fmt: skip
    return network(nodes, weights)


@pytest.mark.parametrize("script", ["", "n = normalization([120, 110, 100], [60, 50, 40])\n"])
def test_more_bits_are_better(script: str, tmp_path: Path) -> None:
    frames = graphs.frames(8)
    found = []
    for mode in ("a8_w4", "a8_w8", "a16_w16"):
        text = f"{script}quantization_param({{*}}, precision_mode={mode})"
        runner = runners.quantized(deep(), tmp_path, frames, text)
        (exact,), (rough,) = (runners.infer(runner, frames, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
        found.append(graphs.snr_db(exact, rough))
    four, eight, sixteen = found
    assert four + 10 < eight
    assert eight + 30 < sixteen  # 8 bits more are worth 48 dB


@pytest.mark.parametrize(
    ("step", "shape", "axis"),
    [
        (node("Conv", "x w", "y"), (4, 3, 2, 2), 0),
        (node("ConvTranspose", "x w", "y"), (3, 4, 2, 2), 1),
        (node("Gemm", "f w", "y"), (192, 4), 1),
        (node("Gemm", "f w", "y", transB=1), (4, 192), 0),
        (node("MatMul", "f w", "y"), (192, 4), 1),
    ],
    ids=["conv", "deconv", "gemm", "gemm transposed", "matmul"],
)
def test_each_output_feature_has_a_scale_of_its_own(
    step: onnx.NodeProto, shape: tuple[int, ...], axis: int, tmp_path: Path
) -> None:
    kernel = np.moveaxis(np.moveaxis(normal(*shape), axis, -1) * np.array([1, 1e-1, 1e-2, 1e-3], np.float32), -1, axis)
    head = [node("Flatten", "x", "f")] if len(shape) == 2 else []
    runner = runners.quantized(network([*head, step], {"w": kernel}), tmp_path, graphs.frames(2))
    assert runner._quantized is not None
    held = {item.name.rpartition("::")[2]: item for item in runner._quantized.graph.initializer}
    others = tuple(index for index in range(len(shape)) if index != axis)
    scales = np.abs(kernel).max(axis=others) / 127
    np.testing.assert_allclose(numpy_helper.to_array(held["w/quant_scale"]), scales, rtol=1e-6)
    wanted = np.rint(np.moveaxis(kernel, axis, -1) / scales)
    np.testing.assert_array_equal(np.moveaxis(numpy_helper.to_array(held["w/q"]), axis, -1), wanted)


def test_precision_is_set_layer_by_layer(tmp_path: Path) -> None:
    script = "quantization_param({conv*}, precision_mode=a8_w4)\nquantization_param(conv2, precision_mode=a16_w16)"
    runner = runners.quantized(deep(), tmp_path, graphs.frames(2), script)
    assert [kernel_levels(runner, name) for name in "cde"] == [7, 127, 32767]
    assert {name: code.bits for name, code in runner._encodings.items()} == {
        "net/input_layer1": 8, "net/conv1": 8, "net/dw1": 8, "net/conv2": 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    "move",
    [
        node("MaxPool", "a", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", "a _ twice", "m", mode="nearest"),
        node("Slice", "a one two axis", "m"),
        node("DepthToSpace", "a", "m", blocksize=2),
    ],
    ids=lambda item: item.op_type,
)
def test_what_only_moves_values_keeps_their_scale(move: onnx.NodeProto, tmp_path: Path) -> None:
    weights = conv_weights("c", 4, 3, 3, 3)
    weights |= {"twice": np.array([1, 1, 2, 2], np.float32), "one": np.array([1]), "two": np.array([3])}
    model = network([conv("x", "a", "c"), move], weights | {"axis": np.array([2])})
    runner = runners.quantized(model, tmp_path, graphs.frames(2))
    codes = list(runner._encodings.values())
    assert codes[2] == codes[1] != codes[0]
    # Exactly what moving the already quantized values gives.
    cut = network([move], weights | {"axis": np.array([2])}, inputs={"a": (1, 4, 8, 8)}, outputs=["m"])
    head = network([conv("x", "a", "c")], weights)
    before = runners.quantized(head, tmp_path, graphs.frames(2), name="head")
    (held,) = runners.infer(before, graphs.frames(1), "SDK_QUANTIZED")
    (got,) = runners.infer(runner, graphs.frames(1), "SDK_QUANTIZED")
    np.testing.assert_array_equal(graphs.nchw(got), graphs.run(cut, graphs.nchw(held))[0])


def test_linear_resize_has_a_scale_of_its_own(tmp_path: Path) -> None:
    weights = conv_weights("c", 4, 3, 3, 3) | {"s": np.array([1, 1, 0.5, 0.5], np.float32)}
    model = network([conv("x", "a", "c"), node("Resize", "a _ s", "y", mode="linear")], weights)
    codes = runners.quantized(model, tmp_path, graphs.frames(4))._encodings
    assert codes["net/resize1"] != codes["net/conv1"]


def test_bytes_are_taken_as_they_are(tmp_path: Path) -> None:
    runner = runners.quantized(deep(), tmp_path, graphs.frames(2).astype(np.uint8) // 2)
    assert runner._encodings["net/input_layer1"] == Encoding(1.0, 0, 8)
