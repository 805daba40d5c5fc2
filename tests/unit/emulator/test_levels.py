"""Levels and compression do what the script asks for, and say when they do less."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import graphs
import numpy as np
import pytest
import runners
from graphs import conv, conv_weights, network, node

from hefjoin.emulator import ClientRunner

FRAMES = graphs.frames(16)
Build = Callable[[str], tuple[ClientRunner, str]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    weights = conv_weights("c", 16, 3, 3, 3) | conv_weights("d", 16, 16, 3, 3) | conv_weights("e", 4, 16, 3, 3)
    nodes = [
        conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "b", "d"), node("Relu", "b", "s"), conv("s", "y", "e"),
    ]  # fmt: skip

    def built(script: str) -> tuple[ClientRunner, str]:
        with redirect_stdout(io.StringIO()) as log:
            runner = runners.quantized(network(nodes, weights), tmp_path, FRAMES, script)
        return runner, log.getvalue()

    return built


def snr_db(runner: ClientRunner) -> float:
    frames = graphs.frames(16, seed=3)
    (exact,), (rough,) = (runners.infer(runner, frames, how) for how in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"))
    return graphs.snr_db(exact, rough)


def four_bit_kernels(runner: ClientRunner) -> set[int]:
    """Return the sizes of the kernels that hold nothing above 7."""
    assert runner._quantized is not None
    kernels = [t for t in map(_array, runner._quantized.graph.initializer) if t.dtype == np.int8 and t.ndim == 4]
    return {kernel.size for kernel in kernels if np.abs(kernel.astype(int)).max() <= 7}


def _array(tensor: object) -> graphs.Array:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)  # type: ignore[arg-type]


def flavor(**arguments: int) -> str:
    return f"model_optimization_flavor({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def test_each_level_loses_less_at_four_bits(build: Build) -> None:
    asked = "\nquantization_param({*}, precision_mode=a8_w4)"
    zero, one, two = (snr_db(build(flavor(optimization_level=level) + asked)[0]) for level in (0, 1, 2))
    assert zero < one + 0.1
    assert one + 2 < two


@pytest.mark.parametrize(("level", "says"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_level_that_is_not_there_is_told(level: int, says: bool, build: Build) -> None:
    _, log = build(flavor(optimization_level=level))
    assert ("[warning] Reducing optimization level to 2" in log) == says
    assert "no available GPU" not in log


@pytest.mark.parametrize("asked", [{"optimization_level": 2}, {"optimization_level": 0, "compression_level": 5}])
def test_without_a_gpu_all_drops_to_level_zero(
    asked: dict[str, int], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, _ = build(flavor(optimization_level=0))
    monkeypatch.setenv("HEFJOIN_EMULATE_NO_GPU", "1")
    found, log = build(flavor(**asked))
    assert log.count("[warning] Reducing optimization level to 0 ") == 1
    assert wanted._quantized == found._quantized


@pytest.mark.parametrize(("level", "wanted"), [(0, set()), (1, {432}), (2, {576}), (5, {432, 2304, 576})])
def test_compression_takes_up_to_a_fifth_of_the_weights_a_level(level: int, wanted: set[int], build: Build) -> None:
    """The kernels hold 432, 2,304 and 576 weights; a fifth is 662."""
    runner, _ = build(flavor(optimization_level=0, compression_level=level))
    found = four_bit_kernels(runner)
    assert sum(found) <= 662.4 * level
    assert bool(found) == bool(wanted)
    if level == 5:
        assert found == wanted


def test_compression_leaves_what_the_script_names(build: Build) -> None:
    script = f"{flavor(optimization_level=0, compression_level=5)}\nquantization_param(conv1, precision_mode=a8_w8)"
    assert four_bit_kernels(build(script)[0]) == {2304, 576}


def test_manual_clipping_is_the_range(build: Build) -> None:
    script = "pre_quantization_optimization(activation_clipping, layers=conv1, mode=manual, clipping_values=[0, 50])"
    code = build(script)[0]._encodings["net/conv1"]
    assert (code.scale, code.zero_point) == (pytest.approx(50 / 255), 0)
