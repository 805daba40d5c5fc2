"""Raising one layer to 16 bits takes its own noise away, and changes nothing else."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import conv, conv_weights, network, node
from onnx import numpy_helper

from hefjoin.emulator import ClientRunner, JoinAction

SCRIPT = "n = normalization([120, 110, 100], [60, 50, 40])"
FRAMES = graphs.frames(6)
KERNELS = ("conv1", "dw1", "conv2", "conv3", "fc1")


def classifier() -> onnx.ModelProto:
    """Convolutions of uneven features, which are equalized, one depthwise, a residual, a dense layer."""
    shapes = {"c": (8, 3, 3, 3), "d": (8, 1, 3, 3), "e": (8, 8, 3, 3), "f": (8, 8, 3, 3)}
    weights = {key: value for name, shape in shapes.items() for key, value in conv_weights(name, *shape).items()}
    weights["c_w"] *= np.geomspace(1, 0.01, 8, dtype=np.float32)[:, None, None, None]
    weights |= {"w": graphs.normal(8, 5), "b": graphs.normal(5)}
    nodes = [
        conv("x", "c", "c"), node("Relu", "c", "cr"),
        conv("cr", "d", "d", group=8), node("Relu", "d", "dr"),
        conv("dr", "e", "e"), node("Relu", "e", "er"),
        conv("er", "f", "f"), node("Add", "f er", "s"), node("Relu", "s", "sr"),
        node("GlobalAveragePool", "sr", "g"), node("Flatten", "g", "h"), node("Gemm", "h w b", "y"),
    ]  # fmt: skip
    return network(nodes, weights)


def raised(folder: Path, *layers: str, mode: str = "a8_w8") -> ClientRunner:
    lines = [f"quantization_param({{*}}, precision_mode={mode})"]
    lines += [f"quantization_param({layer}, precision_mode=a16_w16)" for layer in layers]
    runner = runners.quantized(classifier(), folder, FRAMES, "\n".join([SCRIPT, *lines]))
    runner.analyze_noise(FRAMES)
    return runner


def own_noise(runner: ClientRunner) -> dict[str, float]:
    end = "/layer_noise_analysis/own_snr"
    statistics = runner.get_params_statistics()
    return {key.removesuffix(end): value[0] for key, value in statistics.items() if key.endswith(end)}


def kernels(runner: ClientRunner) -> dict[str, bytes]:
    assert runner._quantized is not None
    held = runner._quantized.graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in held}


@pytest.mark.parametrize("layer", KERNELS)
def test_its_own_noise_falls_and_that_of_others_stays(layer: str, tmp_path: Path) -> None:
    before, after = raised(tmp_path), raised(tmp_path, layer)
    noise, less = own_noise(before), own_noise(after)
    name = f"net/{layer}"
    assert less.pop(name) > noise.pop(name) + 20
    # The layer behind holds its bias exactly, where what it reads has 16 bits.
    assert less == pytest.approx(noise, abs=0.02)


@pytest.mark.parametrize("layer", KERNELS)
def test_no_constant_of_another_layer_changes(layer: str, tmp_path: Path) -> None:
    before, after = kernels(raised(tmp_path)), kernels(raised(tmp_path, layer))
    own = {name for name in before if before[name] != after.get(name)}
    assert own
    changed_kernels = [name for name in own if name.endswith("_w/q") or name == "w/q"]
    assert len(changed_kernels) <= 1


@pytest.mark.parametrize("layer", KERNELS)
def test_from_four_bits_too_it_gains(layer: str, tmp_path: Path) -> None:
    name = f"net/{layer}"
    assert own_noise(raised(tmp_path, layer, mode="a8_w4"))[name] > own_noise(raised(tmp_path, mode="a8_w4"))[name] + 20


def test_the_camera_still_sends_bytes(tmp_path: Path) -> None:
    runner = runners.quantized(
        classifier(), tmp_path, FRAMES.astype(np.uint8), f"{SCRIPT}\nquantization_param({{*}}, precision_mode=a16_w16)"
    )
    code = runner._encodings["net/input_layer1"]
    assert (code.bits, code.scale, code.zero_point) == (8, 1.0, 0)


def test_an_input_that_two_models_read_keeps_the_bits_of_the_other(tmp_path: Path) -> None:
    path = graphs.save(classifier(), tmp_path)
    left = runners.parsed(path, tmp_path, "a")
    left.join(runners.parsed(path, tmp_path, "b"), join_action=JoinAction.AUTO_JOIN_INPUTS)
    left.load_model_script("quantization_param(a/conv1, precision_mode=a16_w16)")
    left.optimize(FRAMES)
    assert left._encodings["a/input_layer1"].bits == 8
