"""What a quantized network computes is what plain integers compute: 200 random graphs, numpy, whole numbers.

The reference knows the graph from the test, and from the emulator only the numbers a chip would be given: integers of
kernels and biases, scales and zero points. It sums in int64, checks that 32 bits would have done, and rescales by a
32-bit multiplier and a shift (Jacob et al. 2018, arXiv 1712.05877, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from hefjoin.emulator import ClientRunner
from hefjoin.emulator.quantize import Encoding

GRAPHS = 200
FRAMES = graphs.frames(4).astype(np.uint8)


@dataclass
class Step:
    """One layer: what it is, what it reads and how many channels it gives."""

    kind: str
    reads: list[str]
    result: str
    channels: int
    size: int
    has_relu: bool = False


@dataclass
class Drawn:
    """A random graph."""

    steps: list[Step] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)


def draw(seed: int) -> Drawn:
    """Draw three to seven layers; the last one is the output."""
    rng = np.random.default_rng(seed)
    drawn = Drawn()
    known = [Step("input", [], "x", 3, 8)]
    for index in range(int(rng.integers(3, 8))):
        source = known[-1]
        alike = [step for step in known[1:-1] if (step.channels, step.size) == (source.channels, source.size)]
        kinds = ["conv", "conv", "dw", "maxpool", "avgpool"] + (["add", "concat"] * 2 if alike else [])
        kind = str(rng.choice([kind for kind in kinds if source.size > 2 or not kind.endswith("pool")]))
        other = [alike[int(rng.integers(len(alike)))]] if kind in ("add", "concat") else []
        result, channels = f"t{index}", int(rng.integers(2, 7)) if kind == "conv" else source.channels
        reads = [source.result, *(step.result for step in other)]
        step = Step(kind, reads, result, channels, source.size, bool(rng.integers(2)))
        _add_nodes(drawn, step, source)
        known.append(step)
        drawn.steps.append(step)
    return drawn


def _add_nodes(drawn: Drawn, step: Step, source: Step) -> None:
    name, before = step.result, " ".join(step.reads)
    if step.kind in ("conv", "dw"):
        group = source.channels if step.kind == "dw" else 1
        drawn.weights |= conv_weights(name, step.channels, source.channels // group, 3, 3, seed=len(drawn.steps))
        inner = f"{name}_pre" if step.has_relu else name
        drawn.nodes.append(conv(before, inner, name, group=group))
        drawn.nodes += [node("Relu", inner, name)] if step.has_relu else []
    elif step.kind.endswith("pool"):
        step.size //= 2
        kind = {"maxpool": "MaxPool", "avgpool": "AveragePool"}[step.kind]
        drawn.nodes.append(node(kind, before, name, kernel_shape=[2, 2], strides=[2, 2]))
    elif step.kind == "add":
        drawn.nodes.append(node("Add", before, name))
    else:
        step.channels *= 2
        drawn.nodes.append(node("Concat", before, name, axis=1))


def rescaled(sums: Array, factor: Array | float, code: Encoding, bits: int = 31) -> Array:
    """Return round(sums · factor) + zero point, clipped to 8 bits, by multiplication and shift alone."""
    mantissa, exponent = np.frexp(np.asarray(factor, dtype=np.float64))
    multiplier = np.rint(mantissa * (1 << bits)).astype(np.int64)
    shift = bits - exponent.astype(np.int64)
    assert np.abs(sums).max() < 1 << 31
    whole = (sums.astype(np.int64) * multiplier + (np.int64(1) << (shift - 1))) >> shift
    clipped: Array = np.clip(whole + code.zero_point, 0, 255)
    return clipped


def constants(runner: ClientRunner) -> dict[str, Array]:
    """Return the quantized constants by the name that the test gave them: `t0_w/q`, `t0_w/quant_scale`, …"""
    assert runner._quantized is not None
    return {t.name.rpartition("::")[2]: numpy_helper.to_array(t) for t in runner._quantized.graph.initializer}


def convolved(pixels: Array, step: Step, held: dict[str, Array], before: Encoding, code: Encoding) -> Array:
    kernel, bias = held[f"{step.result}_w/q"].astype(np.int64), held[f"{step.result}_b/q"].astype(np.int64)
    padded = np.pad(pixels.astype(np.int64) - before.zero_point, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    rule = "nchwij,cij->nchw" if step.kind == "dw" else "nchwij,ocij->nohw"
    sums = np.einsum(rule, windows, kernel[:, 0] if step.kind == "dw" else kernel) + bias[:, None, None]
    factor = before.scale * held[f"{step.result}_w/quant_scale"].astype(np.float64) / code.scale
    result = rescaled(sums, factor[:, None, None], code)
    return np.maximum(result, code.zero_point) if step.has_relu else result


def pooled(pixels: Array) -> Array:
    """Return the four values under each place: shape (frames, channels, height, width, 4)."""
    windows = sliding_window_view(pixels.astype(np.int64), (2, 2), axis=(2, 3))[:, :, ::2, ::2]
    return windows.reshape(*windows.shape[:4], 4)


def computed(step: Step, inputs: list[Array], before: list[Encoding], code: Encoding, held: dict[str, Array]) -> Array:
    if step.kind in ("conv", "dw"):
        return convolved(inputs[0], step, held, before[0], code)
    if step.kind == "maxpool":
        return np.max(pooled(inputs[0]), axis=-1)
    if step.kind == "avgpool":
        sums = np.sum(pooled(inputs[0]) - before[0].zero_point, axis=-1)
        return rescaled(sums, before[0].scale / 4 / code.scale, code)
    centred = [pixels.astype(np.int64) - item.zero_point for pixels, item in zip(inputs, before, strict=True)]
    if step.kind == "concat":
        scales = [item.scale / code.scale for item in before]
        return np.concatenate([rescaled(*pair, code) for pair in zip(centred, scales, strict=True)], axis=1)
    finest = max(item.scale for item in before) / (1 << 20)
    sums = sum(pixels * round(item.scale / finest) for pixels, item in zip(centred, before, strict=True))
    return rescaled(np.asarray(sums), finest / code.scale, code)


def by_integers(drawn: Drawn, runner: ClientRunner) -> Array:
    """Return the integers of the output: shape (frames, channels, height, width)."""
    held = constants(runner)
    codes = dict(zip(["x", *(step.result for step in drawn.steps)], runner._encodings.values(), strict=True))
    values = {"x": graphs.nchw(FRAMES)}
    for step in drawn.steps:
        before = [codes[name] for name in step.reads]
        values[step.result] = computed(step, [values[name] for name in step.reads], before, codes[step.result], held)
    return values[drawn.steps[-1].result]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> list[Array]:
    """Return how many steps the emulator's output is from the reference, graph by graph."""
    folder: Path = tmp_path_factory.mktemp("integers")
    return [_apart(draw(seed), folder) for seed in range(GRAPHS)]


def _apart(drawn: Drawn, folder: Path) -> Array:
    model = network(drawn.nodes, drawn.weights)
    runner = runners.quantized(model, folder, FRAMES, "model_optimization_flavor(optimization_level=0)")
    (got,) = runners.infer(runner, FRAMES, "SDK_QUANTIZED")
    code = list(runner._encodings.values())[-1]
    integers = np.rint(graphs.nchw(got) / np.float32(code.scale)) + code.zero_point
    steps: Array = np.abs(integers - by_integers(drawn, runner))
    return steps


def test_no_value_is_more_than_one_step_apart(apart: list[Array]) -> None:
    worst = [float(steps.max()) for steps in apart]
    assert max(worst) <= 1, f"graphs {[seed for seed, value in enumerate(worst) if value > 1]}"


def test_nearly_all_values_are_equal(apart: list[Array]) -> None:
    assert np.mean(np.concatenate([steps.ravel() for steps in apart]) == 0) >= 0.999


def test_every_kind_of_layer_was_met() -> None:
    kinds = {step.kind for seed in range(GRAPHS) for step in draw(seed).steps}
    assert kinds == {"conv", "dw", "maxpool", "avgpool", "add", "concat"}


def test_the_reference_would_tell_a_scale_that_is_two_percent_off(tmp_path: Path) -> None:
    drawn = draw(0)
    runner = runners.quantized(network(drawn.nodes, drawn.weights), tmp_path, FRAMES)
    right = by_integers(drawn, runner)
    last, code = list(runner._encodings.items())[-1]
    runner._encodings[last] = Encoding(code.scale * 1.02, code.zero_point, code.bits)
    assert np.mean(by_integers(drawn, runner) == right) < 0.9
