"""Noise per layer is the ratio that numpy computes from both graphs' tensors."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hefjoin.emulator import ClientRunner, noise
from hefjoin.emulator.fp_optimize import fp_optimize
from hefjoin.emulator.noise import EXACT_DB, snr_db
from hefjoin.emulator.quantize import quantize_kernel

SCRIPT = "n = normalization([120, 110, 100], [60, 50, 40])"
FRAMES = graphs.frames(4)


def branching() -> onnx.ModelProto:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
    nodes = [
        conv("x", "a", "c"),
        node("Relu", "a", "r"),
        conv("r", "d", "d"),
        node("Add", "d r", "s"),
        node("MaxPool", "s", "m", kernel_shape=[2, 2]),
    ]
    return network(nodes, weights, outputs=["m", "r"])


def values_of(model: onnx.ModelProto, names: list[str]) -> list[Array]:
    """Return tensors of a graph for all frames, from a session without any optimization of its own."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    found = [graphs.run(shown, graphs.nchw(frame[np.newaxis])) for frame in FRAMES]
    return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]


@pytest.fixture(params=["whole", "cut"], autouse=True)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a network in one piece, and cut before every kernel with one frame at a time."""
    if request.param == "cut":
        monkeypatch.setattr(noise, "PART_BYTES", 1)
        monkeypatch.setattr(noise, "BUDGET_BYTES", 1)
    return str(request.param)


@pytest.fixture
def runner(tmp_path: Path) -> ClientRunner:
    return runners.quantized(branching(), tmp_path, FRAMES, SCRIPT)


NAMES = ["net/conv1", "net/conv2", "net/ew_add1", "net/maxpool1"]


def reference_of(runner: ClientRunner) -> onnx.ModelProto:
    return fp_optimize(runner._model, runner._plan(runner._script).modifications)


def cosine(exact: Array, rough: Array) -> float:
    exact, rough = exact.astype(np.float64).ravel(), rough.astype(np.float64).ravel()
    return float(exact @ rough / np.linalg.norm(exact) / np.linalg.norm(rough))


def test_noise_is_what_numpy_computes(runner: ClientRunner) -> None:
    runner.analyze_noise(FRAMES)
    found = runner.get_params_statistics()
    assert runner._quantized is not None
    pairs = zip(values_of(reference_of(runner), NAMES), values_of(runner._quantized, NAMES), strict=True)
    for name, (exact, rough) in zip(NAMES, pairs, strict=True):
        assert found[f"{name}/layer_noise_analysis/snr"] == [pytest.approx(graphs.snr_db(exact, rough), abs=1e-3)]
        assert found[f"{name}/layer_noise_analysis/cosine"] == [pytest.approx(cosine(exact, rough), abs=1e-6)]
        assert 20 < graphs.snr_db(exact, rough) < 80


def test_own_noise_is_that_of_the_layer_quantized_alone(runner: ClientRunner) -> None:
    """Against a network in which nothing but the second convolution is quantized, by numpy's hand."""
    runner.analyze_noise(FRAMES)
    found = runner.get_params_statistics()
    reference = reference_of(runner)
    (exact,) = values_of(reference, ["net/conv2"])
    held = {tensor.name: tensor for tensor in reference.graph.initializer}
    kernel = next(tensor for name, tensor in held.items() if name.endswith("d_w"))
    integers, scales = quantize_kernel(onnx.numpy_helper.to_array(kernel), 0, 8)
    kernel.CopyFrom(onnx.numpy_helper.from_array(integers * scales[:, None, None, None], kernel.name))
    (alone,) = values_of(reference, ["net/conv2"])
    code = runner._encodings["net/conv2"]
    rough = (np.clip(np.rint(alone / code.scale) + code.zero_point, 0, 255) - code.zero_point) * code.scale
    assert found["net/conv2/layer_noise_analysis/own_snr"] == [
        pytest.approx(graphs.snr_db(exact, rough), abs=0.05)  # its bias is rounded too
    ]
    assert found["net/conv2/layer_noise_analysis/own_snr"] > found["net/conv2/layer_noise_analysis/snr"]
    assert found["net/conv1/layer_noise_analysis/own_snr"][0] < 80


def test_what_only_moves_values_has_no_noise_of_its_own_but_rounding(runner: ClientRunner) -> None:
    runner.analyze_noise(FRAMES)
    found = runner.get_params_statistics()
    assert found["net/maxpool1/layer_noise_analysis/own_snr"] > found["net/maxpool1/layer_noise_analysis/snr"]


def test_noise_of_an_equalized_layer_is_that_of_its_scaled_output(tmp_path: Path) -> None:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 1, 3, 3)
    weights["c_w"] *= np.array([1, 0.1, 0.01, 0.001], np.float32)[:, None, None, None]
    weights["c_b"] *= 0
    model = network([conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d", group=4)], weights)
    runner = runners.quantized(model, tmp_path, FRAMES)
    runner.analyze_noise(FRAMES)
    found = runner.get_params_statistics()
    factors = found["net/conv1/equalization/factors"]
    assert max(factors) / min(factors) > 100
    assert found["net/conv1/layer_noise_analysis/snr"][0] > 40


def test_noise_of_some_frames_is_that_of_those(runner: ClientRunner) -> None:
    runner.analyze_noise(FRAMES, data_count=2)
    some = runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"]
    runner.analyze_noise(FRAMES[:2])
    assert runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"] == some
    runner.analyze_noise(FRAMES)
    assert runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"] != some


def winding() -> onnx.ModelProto:
    """Return what is hard to cut: a long skip, a split, a view, a format change, a layer nobody reads but the host."""
    weights = (
        conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3) | conv_weights("e", 4, 1, 3, 3)
        | conv_weights("f", 2, 2, 3, 3) | conv_weights("g", 4, 4, 3, 3) | {"v": graphs.normal(5, 4)}
    )  # fmt: skip
    nodes = [
        conv("x", "a", "c"),
        node("Relu", "a", "r"),
        conv("r", "d", "d"),
        node("Split", "d", "h k", axis=1),
        conv("h", "l", "f"),
        node("Concat", "l k", "m", axis=1),
        conv("m", "e", "e", group=4),
        node("Sigmoid", "e", "s"),
        node("Mul", "e s", "t"),
        node("Add", "t r", "u"),
        node("MaxPool", "u", "p", kernel_shape=[2, 2], strides=[2, 2]),
        conv("p", "g", "g"),
        node("GlobalAveragePool", "g", "w"),
        node("Flatten", "w", "z"),
        node("Gemm", "z v", "o", transB=1),
        node("Transpose", "p", "n", perm=[0, 2, 3, 1]),
    ]
    return network(nodes, weights, outputs=["o", "n", "k"])


@pytest.mark.parametrize("bits", ["a8_w8", "a16_w16"])
def test_where_the_network_is_cut_does_not_matter(bits: str, cut: str, tmp_path: Path) -> None:
    script = f"{SCRIPT}\nquantization_param({{*conv*}}, precision_mode={bits})"
    runner = runners.quantized(winding(), tmp_path, FRAMES, script)
    names = [key.removesuffix("/layer_noise_analysis/snr") for key in measured(runner) if key.endswith("/snr")]
    assert len(names) == 12
    pairs = zip(values_of(reference_of(runner), names), values_of(runner._quantized, names), strict=True)
    wanted = [graphs.snr_db(exact, rough) for exact, rough in pairs]
    found = measured(runner)
    assert [found[f"{name}/layer_noise_analysis/snr"] for name in names] == [pytest.approx(x, abs=1e-3) for x in wanted]
    if cut == "cut":
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(noise, "PART_BYTES", 1 << 30)
            assert found == pytest.approx(measured(runner), abs=1e-4)


def measured(runner: ClientRunner) -> dict[str, float]:
    runner.analyze_noise(FRAMES)
    return {key: values[0] for key, values in runner.get_params_statistics().items() if len(values) == 1}


def test_noise_is_kept_in_the_har(runner: ClientRunner, tmp_path: Path) -> None:
    runner.analyze_noise(FRAMES)
    runner.save_har(tmp_path / "net.har")
    assert ClientRunner(har=tmp_path / "net.har").get_params_statistics() == runner.get_params_statistics()


@given(signal=st.floats(1e-20, 1e20), noise=st.floats(1e-20, 1e20))
def test_ratio_is_ten_decades_per_hundred_decibel(signal: float, noise: float) -> None:
    assert snr_db(signal, noise) == pytest.approx(min(10 * np.log10(signal / noise), EXACT_DB), abs=1e-6)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 0.0), (0.0, 0.0), (1e30, 1e-30)])
def test_no_noise_is_the_best_there_is(signal: float, noise: float) -> None:
    assert snr_db(signal, noise) == EXACT_DB


def test_noise_without_signal_is_worse_than_any(runner: ClientRunner) -> None:
    assert snr_db(0.0, 1.0) < -1000
