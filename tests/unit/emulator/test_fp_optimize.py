"""Folding and normalization in the graph change nothing but rounding."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal
from onnx import numpy_helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.fp_optimize import fp_optimize
from hefjoin.emulator.modify import Normalization
from hefjoin.emulator.translate import translate

C = conv("x", "a", "c")
NORM = node("BatchNormalization", "a n_g n_h n_m n_v", "n", epsilon=1e-3)
W = conv_weights("c", 4, 3, 3, 3) | norm_weights("n", 4)
FLAT = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f")]
K = normal(1, 4, 1, 1) + np.float32(2)

FOLDED: dict[str, onnx.ModelProto] = {
    "batch normalization, mul, add": network(
        [C, NORM, node("Mul", "n k", "m"), node("Add", "k m", "s"), node("Relu", "s", "y")], W | {"k": K}
    ),
    "sub, div": network([C, node("Sub", "a k", "s"), node("Div", "s k", "y")], W | {"k": K}),
    "scalars": network([C, node("Mul", "a k", "y")], W | {"k": np.float32(3)}),
    "no bias": network([node("Conv", "x c_w", "a"), NORM], W),
    "grouped": network(
        [C, node("Conv", "a g", "b", group=2), node("Mul", "b k", "y")], W | {"k": K, "g": normal(4, 2, 3, 3)}
    ),
    "transposed": network(
        [node("ConvTranspose", "x t", "a", strides=[2, 2]), NORM], W | {"t": normal(3, 4, 2, 2)}
    ),
    "transposed in groups": network(
        [node("Conv", "x c_w c_b", "b"), node("ConvTranspose", "b t u", "a", group=2), NORM],
        W | {"t": normal(4, 2, 2, 2), "u": normal(4)},
    ),
    "gemm": network(
        [*FLAT, node("Gemm", "f w v", "a"), node("Mul", "a k", "y")],
        {"w": normal(3, 5), "v": normal(5), "k": normal(5)},
    ),
    "gemm, transposed, bias of one row": network(
        [*FLAT, node("Gemm", "f w v", "a", transB=1, alpha=1.0, beta=1.0), node("Add", "a k", "y")],
        {"w": normal(5, 3), "v": normal(1, 5), "k": normal(5)},
    ),
    "gemm, bias of one number": network(
        [*FLAT, node("Gemm", "f w v", "a"), node("Mul", "a k", "y")],
        {"w": normal(3, 5), "v": np.asarray(np.float32(0.3)), "k": normal(5)},
    ),
}  # fmt: skip
KEPT: dict[str, onnx.ModelProto] = {
    "a constant minus the convolution": network([C, node("Sub", "k a", "y")], W | {"k": K}),
    "one feature broadcast to five": network(
        [node("Conv", "x w", "a"), node("Mul", "a k", "y")], {"w": normal(1, 3, 1, 1), "k": normal(1, 5, 1, 1)}
    ),
    "a constant per row": network([C, node("Mul", "a k", "y")], W | {"k": normal(8, 1)}),
    "the convolution is also an output": network([C, node("Mul", "a k", "y")], W | {"k": K}, outputs=["a", "y"]),
    "the convolution is also read elsewhere": network(
        [C, node("Mul", "a k", "m"), node("Concat", "a m", "y", axis=1)], W | {"k": K}
    ),
    "gemm with alpha": network(
        [*FLAT, node("Gemm", "f w", "a", alpha=0.5), node("Mul", "a k", "y")], {"w": normal(3, 5), "k": normal(5)}
    ),
    "one axis only": network(
        [node("Reshape", "x s", "r"), node("Conv", "r w", "a"), node("Mul", "a k", "y")],
        {"s": np.array([1, 3, 64]), "w": normal(64, 3, 1), "k": normal(64)},
    ),
}  # fmt: skip


def both(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, list[Array], list[Array]]:
    """Return the optimized graph, its outputs, and those of ONNX Runtime for the untouched model."""
    feeds = normal(*graphs.IMAGE, seed=3)
    optimized = fp_optimize(translate(graphs.save(model, folder), "net").model, [])
    return optimized, graphs.run(optimized, feeds), graphs.run(model, feeds)


def assert_close(got: list[Array], wanted: list[Array]) -> None:
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max(), rtol=0)


@pytest.mark.parametrize("case", FOLDED)
def test_affine_steps_disappear_into_the_kernel(case: str, tmp_path: Path) -> None:
    optimized, got, wanted = both(FOLDED[case], tmp_path)
    assert_close(got, wanted)
    left = {item.op_type for item in optimized.graph.node}
    assert not left & {"BatchNormalization", "Mul", "Add", "Sub", "Div"}


@pytest.mark.parametrize("case", KEPT)
def test_what_cannot_be_folded_stays(case: str, tmp_path: Path) -> None:
    optimized, got, wanted = both(KEPT[case], tmp_path)
    assert_close(got, wanted)
    assert {item.op_type for item in optimized.graph.node} & {"Mul", "Sub"}


def test_outputs_keep_their_names_and_the_native_graph_is_left_as_it_was(tmp_path: Path) -> None:
    native = translate(graphs.save(FOLDED["batch normalization, mul, add"], tmp_path), "net").model
    before = native.SerializeToString()
    optimized = fp_optimize(native, [])
    assert native.SerializeToString() == before
    assert [item.name for item in optimized.graph.output] == ["net/conv1"]


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def padded(last: bool = False) -> onnx.ModelProto:
    """Two convolutions that read the input, both with a border of zeros."""
    nodes = [conv("t" if last else "x", "a", "c"), conv("t" if last else "x", "b", "d"), node("Add", "a b", "y")]
    turn = [node("Transpose", "x", "t", perm=[0, 3, 1, 2])] if last else []
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 3, 3, 3, seed=5)
    return network([*turn, *nodes], weights, inputs={"x": (1, 6, 8, 3) if last else (1, 3, 6, 8)})


@pytest.mark.parametrize("last", [False, True])
def test_normalization_in_the_graph_is_that_of_the_host(last: bool, tmp_path: Path) -> None:
    """Borders of padding included: they hold the normalized zero, not the normalized black."""
    model, frames = padded(last), graphs.frames(3, 6, 8)
    runner = runners.parsed(model, tmp_path)
    runner.load_model_script(f"n = normalization({list(MEAN)}, {list(STD)})")
    runner.optimize_full_precision()
    (got,) = runners.infer(runner, frames, "SDK_FP_OPTIMIZED")
    host = ((frames - MEAN) / STD).astype(np.float32)
    wanted = np.concatenate(
        [graphs.run(model, frame[np.newaxis] if last else graphs.nchw(frame[np.newaxis]))[0] for frame in host]
    ).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


def test_native_inference_takes_frames_without_normalization(tmp_path: Path) -> None:
    runner = runners.parsed(padded(), tmp_path)
    frames = graphs.frames(1, 6, 8)
    before = runners.infer(runner, frames)
    runner.load_model_script("n = normalization([1, 2, 3], [4, 5, 6])")
    runner.optimize_full_precision()
    np.testing.assert_array_equal(runners.infer(runner, frames), before)


def test_normalization_is_one_depthwise_layer_with_its_own_name(tmp_path: Path) -> None:
    native = translate(graphs.save(padded(), tmp_path), "net").model
    step = Normalization("net/n", "net/input_layer1", MEAN, STD)
    optimized = fp_optimize(native, [step])
    (made,) = (item for item in optimized.graph.node if item.output[0] == "net/n")
    assert (made.op_type, [item.i for item in made.attribute if item.name == "group"]) == ("Conv", [3])
    kernel = next(item for item in optimized.graph.initializer if item.name == made.input[1])
    np.testing.assert_allclose(numpy_helper.to_array(kernel).reshape(-1), 1 / np.array(STD), rtol=1e-6)


def test_a_normalization_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    native = translate(graphs.save(padded(), tmp_path), "net").model
    with pytest.raises(exceptions.AllocatorScriptParserException, match="has 3 channels, the script 1 means and 1 sta"):
        fp_optimize(native, [Normalization("net/n", "net/input_layer1", (0.0,), (1.0,))])
    features = network([node("MatMul", "x w", "y")], {"w": normal(3, 2)}, inputs={"x": (1, 3)})
    native = translate(graphs.save(features, tmp_path), "net").model
    with pytest.raises(exceptions.AllocatorScriptParserException, match="has no channels"):
        fp_optimize(native, [Normalization("net/n", "net/input_layer1", MEAN, STD)])
