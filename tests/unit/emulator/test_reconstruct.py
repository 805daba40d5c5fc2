"""Reconstruction chooses integers by the layer's output: never worse than rounding, close to the best there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
from graphs import Array, network, node, normal
from onnx import numpy_helper

from hefjoin.emulator.quantize import quantize_kernel
from hefjoin.emulator.reconstruct import fit, reconstruct
from hefjoin.emulator.walk import Recipe, Stop, own_constants


def lost(kernel: Array, other: Array, second: Array) -> Array:
    """Return the error of each feature's output."""
    rest = kernel - other
    error: Array = np.einsum("oi,ij,oj->o", rest, second, rest)
    return error


def correlated(inputs: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 3)) @ rng.standard_normal((3, inputs)) + 0.2 * rng.standard_normal((400, inputs)) + 1
    second: Array = x.T @ x / len(x)
    return second


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [9, 200])
def test_outputs_err_less_than_by_rounding(bits: int, inputs: int) -> None:
    kernel, second = np.random.default_rng(0).standard_normal((16, inputs)), correlated(inputs, seed=1)
    fitted, steps = fit(kernel, second, bits)
    integers, scales = quantize_kernel(kernel, 0, bits)
    assert lost(kernel, fitted, second).sum() < 0.3 * lost(kernel, integers * scales[:, None], second).sum()
    whole = fitted / steps[:, None].astype(np.float64)
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-6)
    assert np.abs(whole).max() <= 2 ** (bits - 1) - 1


def test_small_kernels_come_near_the_best_of_all() -> None:
    """Against every way to round five weights up or down, at the scale that was chosen."""
    ours = best = 0.0
    for seed in range(20):
        kernel, second = np.random.default_rng(seed).standard_normal((1, 5)), correlated(5, seed=seed)
        fitted, steps = fit(kernel, second, 4)
        low = np.floor(kernel / steps[:, None].astype(np.float64))
        ways = [np.clip(low + np.array(way), -7, 7) * steps[:, None] for way in product((0, 1), repeat=5)]
        ours += lost(kernel, fitted, second).item()
        best += min(lost(kernel, way, second).item() for way in ways)
    assert ours < 2 * best


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (node("Conv", "x w b", "y", pads=[1, 0, 2, 1], strides=[2, 1]), (6, 4, 3, 3)),
        (node("Conv", "x w b", "y", auto_pad="SAME_UPPER", strides=[2, 2]), (6, 4, 3, 3)),
        (node("Conv", "x w b", "y", dilations=[2, 1]), (6, 4, 3, 2)),
        (node("Conv", "x w b", "y", group=4), (8, 1, 3, 3)),
        (node("Conv", "x w b", "y", group=2), (6, 2, 3, 3)),
        (node("Gemm", "x w b", "y"), (12, 6)),
        (node("Gemm", "x w b", "y", transB=1), (6, 12)),
        (node("MatMul", "x w", "y"), (12, 6)),
    ],
    ids=["pads", "auto pad", "dilated", "depthwise", "groups", "gemm", "gemm transposed", "matmul"],
)
def test_every_form_of_kernel_errs_less(step: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    """The layer's true outputs are compared: wrong patches would make them worse."""
    inputs = (4, 9, 9) if len(shape) == 4 else (12,)
    base = normal(1, *inputs)
    frames = [(base + normal(1, *inputs, seed=seed, spread=0.1)).astype(np.float32) + 1 for seed in range(40)]
    features = shape[1] if len(shape) == 2 and not step.attribute else shape[0]
    model = network([step], {"w": normal(*shape), "b": normal(features)}, inputs={"x": (1, *inputs)})
    own_constants(model)
    recipe = Recipe(model, {}, {model.graph.node[0].input[1]: 4})
    exact = Stop(Recipe(model, {}, {}), model.graph.node[0], [], frames).rough()
    stop = Stop(recipe, model.graph.node[0], exact, frames)

    def error() -> float:
        return float(sum(np.sum((a - b) ** 2) for a, b in zip(exact, stop.rough(), strict=True)))

    rounded = error()
    reconstruct(stop)
    assert error() < 0.5 * rounded


def test_dead_inputs_and_features_do_no_harm() -> None:
    second = correlated(6, seed=0)
    second[2], second[:, 2] = 0, 0
    kernel = np.random.default_rng(0).standard_normal((4, 6))
    kernel[1] = 0
    for moments in (second, np.zeros((6, 6))):
        fitted, steps = fit(kernel, moments, 8)
        assert np.all(np.isfinite(fitted))
        assert np.all(steps > 0)
        assert not fitted[1].any()


def test_constants_become_a_nodes_own() -> None:
    nodes = [node("Conv", "x w", "a"), node("Conv", "a w", "y")]
    model = network(nodes, {"w": normal(3, 3, 1, 1)})
    own_constants(model)
    used = [name for item in model.graph.node for name in item.input[1:]]
    assert len(set(used)) == len(used) == 4
    held = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    np.testing.assert_array_equal(held[used[0]], held[used[2]])
    assert not held[used[1]].any()
