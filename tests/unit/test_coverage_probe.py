"""What a probe tells of a network's channels, against ONNX Runtime on the original file with all values kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hefjoin.coverage.clip import Clipping
from hefjoin.coverage.probe import Layer, Probe
from hefjoin.emulator.client_runner import ClientRunner
from hefjoin.formats.har import WEIGHTS_SUFFIX, read

TENSORS = {"conv1": "b", "conv2": "e", "avgpool1": "f", "fc1": "scores"}
"""What each layer hands on; the pooling between them has no ranges of its own."""
WIDE = 4096
"""Channels that make a kernel too large to lie in the graph."""


def network(opset: int) -> onnx.ModelProto:
    """Return conv, relu, maxpool, a large conv with clipped output, average, dense."""
    rng = np.random.default_rng(opset)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "v": rng.normal(0, 0.2, (WIDE, 8, 3, 3)),
        "u": rng.normal(0, 0.1, (5, WIDE)),
        "z": rng.normal(0, 0.1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["a"], ["b"], "leak", alpha=0.1),
        helper.make_node("MaxPool", ["b"], ["c"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "v"], ["d"], "second"),
        helper.make_node("Relu", ["d"], ["e"], "relu"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], "mean"),
        helper.make_node("Flatten", ["f"], ["g"], "flat"),
        helper.make_node("Gemm", ["g", "u", "z"], ["scores"], "dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def kept(path: Path, frame: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return all values of each layer on a frame, shape (channels, places)."""
    model = onnx.load(path)
    names = list(TENSORS.values())
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names[:-1])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(names, {"image": frame.transpose(2, 0, 1)[np.newaxis]})
    return [values.reshape(values.shape[1], -1) for values in found]


@pytest.fixture(params=[(13, False), (17, True), (18, False)], ids=["opset 13", "weights beside", "opset 18"])
def made(request: Any, tmp_path: Path) -> tuple[Path, Path]:
    """The file, and the HAR that the emulator makes of it."""
    path, har = tmp_path / "wide.onnx", tmp_path / "wide.har"
    opset, is_outside = request.param
    onnx.save(network(opset), path, save_as_external_data=is_outside, location="wide.bin" if is_outside else None)
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(path, "wide")
    runner.save_har(har)
    assert any(name.endswith(WEIGHTS_SUFFIX) for name in read(har).members) == is_outside
    return path, har


def test_extremes_and_clipping_are_those_of_all_values(made: tuple[Path, Path]) -> None:
    path, har = made
    probe = Probe(har, [f"wide/{layer}" for layer in TENSORS])
    assert probe.layers == tuple(
        Layer(f"wide/{layer}", channels) for layer, channels in zip(TENSORS, (8, WIDE, WIDE, 5), strict=True)
    )
    frames = np.random.default_rng(0).normal(0, 1, (3, 8, 8, 3)).astype(np.float32)
    values = [kept(path, frame) for frame in frames]
    low, high = probe.extremes(frames[0])
    assert low == pytest.approx(np.concatenate([each.min(axis=1) for each in values[0]]), rel=1e-4, abs=1e-4)
    assert high == pytest.approx(np.concatenate([each.max(axis=1) for each in values[0]]), rel=1e-4, abs=1e-4)

    reach = np.stack([np.maximum(-low, 0), np.maximum(high, 0)])
    clipping = Clipping(probe)
    clipping.judge(frames[1], reach)
    clipping.judge(frames[2], reach)
    begin, shares, beyond = 0, [], []
    for first, *others in zip(*values, strict=True):
        limits = reach[:, begin : begin + len(first), np.newaxis]
        both = np.concatenate(others, axis=1)
        shares.append(((both < -limits[0]) | (both > limits[1])).mean(axis=1))
        beyond.append((both.min(axis=1) < -limits[0].max()) | (both.max(axis=1) > limits[1].max()))
        begin += len(first)
    assert clipping.share() == pytest.approx(np.concatenate(shares), abs=2e-2)
    assert clipping.share().mean() == pytest.approx(np.concatenate(shares).mean(), rel=1e-3)
    assert np.array_equal(clipping.is_beyond_layer, np.concatenate(beyond))
    assert 0 < np.concatenate(beyond).sum() < begin
