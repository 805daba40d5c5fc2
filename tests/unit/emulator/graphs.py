"""Builds the small ONNX graphs of the emulator's tests in code.

The rule: a graph is a list of nodes and a dictionary of weights, so that the case stands in one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Dims = Sequence[int | str | None] | None

IMAGE = (1, 3, 8, 8)


def node(op: str, inputs: str, outputs: str, name: str | None = None, **attributes: Any) -> onnx.NodeProto:
    """Return a node; tensor names are separated by blanks, `_` is an input left out, its name that of its output."""
    names = ["" if item == "_" else item for item in inputs.split()]
    made = outputs.split()
    return helper.make_node(op, names, made, f"/{made[0]}" if name is None else name, **attributes)


def network(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Array | np.float32] | None = None,
    inputs: Mapping[str, Dims] | None = None,
    outputs: Sequence[str] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    input_type: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a model; its input is `x` of shape `IMAGE`, its output what the last node makes, unless said otherwise."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, input_type, dims) for name, dims in (inputs or {"x": IMAGE}).items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs or [nodes[-1].output[0]]],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def normal(*shape: int, seed: int = 0, spread: float = 0.4) -> Array:
    """Return float32 values around zero; the same shape and seed give the same values."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * spread).astype(np.float32)


def conv_weights(name: str, *shape: int, seed: int = 0) -> dict[str, Array]:
    """Return `<name>_w` of that shape and `<name>_b`, one per output feature."""
    return {f"{name}_w": normal(*shape, seed=seed), f"{name}_b": normal(shape[0], seed=seed + 1)}


def norm_weights(name: str, channels: int, seed: int = 0) -> dict[str, Array]:
    """Return gamma, beta, mean and variance of a batch normalization: `<name>_g`, `_h`, `_m`, `_v`."""
    return {
        f"{name}_g": 1 + normal(channels, seed=seed),
        f"{name}_h": normal(channels, seed=seed + 1),
        f"{name}_m": normal(channels, seed=seed + 2),
        f"{name}_v": 0.5 + np.abs(normal(channels, seed=seed + 3)),
    }


def conv(source: str, result: str, weights: str, **attributes: Any) -> onnx.NodeProto:
    """Return a convolution 3x3, padded by one, with the weights of `conv_weights(weights)`."""
    return node("Conv", f"{source} {weights}_w {weights}_b", result, **{"pads": [1, 1, 1, 1], **attributes})


def small_net(seed: int = 0, features: int = 4, opset: int = 17, size: int = 8) -> onnx.ModelProto:
    """Return conv, relu, conv: 3 channels in, `features` out."""
    weights = conv_weights("c", features, 3, 3, 3, seed=seed) | conv_weights(
        "d", features, features, 3, 3, seed=seed + 7
    )
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")]
    return network(nodes, weights, inputs={"x": (1, 3, size, size)}, opset=opset)


def save(model: onnx.ModelProto, folder: Path, name: str = "net") -> Path:
    """Write the model to `<folder>/<name>.onnx`."""
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def session(model: onnx.ModelProto | Path) -> Any:
    """Return an ONNX Runtime session with its default optimizations, one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | Path, *feeds: Array) -> list[Array]:
    """Return the outputs of a model for its inputs in order."""
    opened = session(model)
    names = [item.name for item in opened.get_inputs()]
    return list(opened.run(None, dict(zip(names, feeds, strict=True))))


def frames(count: int, height: int = 8, width: int = 8, channels: int = 3, seed: int = 0) -> Array:
    """Return raw frames, float32, shape (frames, height, width, channels), whole numbers 0-255."""
    made = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels))
    return made.astype(np.float32)


def nchw(array: Array) -> Array:
    """Return NHWC frames as NCHW."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def snr_db(exact: Array, rough: Array) -> float:
    """Return 10 log10 of the ratio of signal to error energy."""
    exact = exact.astype(np.float64)
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - rough) ** 2)))
