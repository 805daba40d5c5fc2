"""Bias correction takes away the mean error of each feature, as far as all frames have it."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import runners
from graphs import conv, conv_weights, network, node

from hefjoin.emulator import ClientRunner

FRAMES = graphs.frames(32)
FOUR_BITS = "quantization_param({*}, precision_mode=a8_w4)\n"
NODES = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")]


def mean_error(level: int, folder: Path) -> float:
    """Return the largest mean error of a feature of the output, of its root mean square."""
    model = network(NODES, conv_weights("c", 8, 3, 3, 3) | conv_weights("d", 6, 8, 3, 3))
    script = f"{FOUR_BITS}model_optimization_flavor(optimization_level={level})"
    runner = runners.quantized(model, folder, FRAMES, script)
    (exact,), (rough,) = (runners.infer(runner, FRAMES, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
    return float(np.max(np.abs(np.mean(rough - exact, axis=(0, 1, 2)))) / np.sqrt(np.mean(exact**2)))


def test_the_mean_error_is_taken_away(tmp_path: Path) -> None:
    assert mean_error(1, tmp_path) < mean_error(0, tmp_path) / 5


def test_a_layer_without_a_bias_gets_one(tmp_path: Path) -> None:
    bare = network([node("Conv", "x c_w", "y", pads=[1, 1, 1, 1])], conv_weights("c", 8, 3, 3, 3))
    script = f"{FOUR_BITS}model_optimization_flavor(optimization_level=1)"
    runner = runners.quantized(bare, tmp_path, FRAMES, script)
    assert _biases(runner)


def test_it_can_be_asked_for_and_refused_by_name(tmp_path: Path) -> None:
    bare = network([node("Conv", "x c_w", "y", pads=[1, 1, 1, 1])], conv_weights("c", 8, 3, 3, 3))
    asked = "post_quantization_optimization(bias_correction, policy=enabled)"
    refused = f"model_optimization_flavor(optimization_level=1)\n{asked.replace('enabled', 'disabled')}"
    assert _biases(runners.quantized(bare, tmp_path, FRAMES, asked))
    assert not _biases(runners.quantized(bare, tmp_path, FRAMES, refused))


def _biases(runner: ClientRunner) -> list[str]:
    assert runner._quantized is not None
    return [node.name for node in runner._quantized.graph.node if node.op_type == "Conv" and len(node.input) > 2]
