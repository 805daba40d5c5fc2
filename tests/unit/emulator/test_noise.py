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

from hefjoin.emulator import ClientRunner
from hefjoin.emulator.fp_optimize import fp_optimize
from hefjoin.emulator.noise import EXACT_DB, snr_db

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


@pytest.fixture
def runner(tmp_path: Path) -> ClientRunner:
    return runners.quantized(branching(), tmp_path, FRAMES, SCRIPT)


def test_noise_is_what_numpy_computes(runner: ClientRunner) -> None:
    runner.analyze_noise(FRAMES)
    found = runner.get_params_statistics()
    names = ["net/conv1", "net/conv2", "net/ew_add1", "net/maxpool1"]
    assert list(found) == [f"{name}/layer_noise_analysis/snr" for name in names]
    assert runner._quantized is not None
    reference = fp_optimize(runner._model, runner._plan(runner._script).modifications)
    for name, exact, rough in zip(names, values_of(reference, names), values_of(runner._quantized, names), strict=True):
        assert found[f"{name}/layer_noise_analysis/snr"] == [pytest.approx(graphs.snr_db(exact, rough), abs=1e-3)]
        assert 20 < graphs.snr_db(exact, rough) < 80


def test_noise_of_some_frames_is_that_of_those(runner: ClientRunner) -> None:
    runner.analyze_noise(FRAMES, data_count=2)
    some = runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"]
    runner.analyze_noise(FRAMES[:2])
    assert runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"] == some
    runner.analyze_noise(FRAMES)
    assert runner.get_params_statistics()["net/conv1/layer_noise_analysis/snr"] != some


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
