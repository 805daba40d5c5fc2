"""The networks that every SDK and device is asked about: small, each with one thing to show, the same everywhere.

The rule: equal bytes on every machine, since two archives are compared by what was made of them. Weights come from
generators seeded by the network's name, and nothing else varies.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

CALIBRATION_FRAMES = 64
"""As many as the DFC takes where a script names no number."""
EVALUATION_FRAMES = 8

NETWORKS = {
    "conv_bn_relu": """(float[1,3,16,16] image) => (float[1,8,16,16] activated)
        <float[8,3,3,3] kernel, float[8] scale, float[8] bias, float[8] mean, float[8] variance> {
          convolved = Conv <pads = [1,1,1,1]> (image, kernel)
          normalized = BatchNormalization (convolved, scale, bias, mean, variance)
          activated = Relu (normalized)
        }""",
    "depthwise": """(float[1,3,16,16] image) => (float[1,4,8,8] mixed)
        <float[3,1,3,3] per_channel, float[4,3,1,1] across> {
          filtered = Conv <group = 3, pads = [1,1,1,1], strides = [2,2]> (image, per_channel)
          mixed = Conv (filtered, across)
        }""",
    "residual_add": """(float[1,3,16,16] image) => (float[1,8,16,16] activated)
        <float[8,3,3,3] first, float[8,8,3,3] second> {
          trunk = Conv <pads = [1,1,1,1]> (image, first)
          branch = Conv <pads = [1,1,1,1]> (trunk, second)
          added = Add (branch, trunk)
          activated = Relu (added)
        }""",
    "concat": """(float[1,3,16,16] image) => (float[1,8,16,16] both)
        <float[4,3,1,1] narrow, float[4,3,3,3] wide> {
          near = Conv (image, narrow)
          far = Conv <pads = [1,1,1,1]> (image, wide)
          both = Concat <axis = 1> (near, far)
        }""",
    "resize": """(float[1,3,16,16] image) => (float[1,4,8,8] large)
        <float[4,3,3,3] kernel, float[4] factors = {1, 1, 2, 2}> {
          small = Conv <pads = [1,1,1,1], strides = [4,4]> (image, kernel)
          large = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
            (small, , factors)
        }""",
    "pooling": """(float[1,3,32,32] image) => (float[1,6,1,1] pooled)
        <float[6,3,3,3] kernel> {
          convolved = Conv <pads = [1,1,1,1]> (image, kernel)
          highest = MaxPool <kernel_shape = [2,2], strides = [2,2]> (convolved)
          middle = AveragePool <kernel_shape = [2,2], strides = [2,2]> (highest)
          pooled = GlobalAveragePool (middle)
        }""",
    "dense": """(float[1,3,16,16] image) => (float[1,10] scores)
        <float[8,3,3,3] kernel, float[10,8] matrix, float[10] bias> {
          convolved = Conv <pads = [1,1,1,1]> (image, kernel)
          pooled = GlobalAveragePool (convolved)
          flat = Flatten (pooled)
          scores = Gemm <transB = 1> (flat, matrix, bias)
        }""",
    "two_outputs": """(float[1,3,24,24] image) => (float[1,4,24,24] fine, float[1,4,12,12] coarse)
        <float[4,3,3,3] first, float[4,4,3,3] second> {
          fine = Conv <pads = [1,1,1,1]> (image, first)
          coarse = Conv <pads = [1,1,1,1], strides = [2,2]> (fine, second)
        }""",
    "left": """(float[1,3,16,16] image) => (float[1,4] scores)
        <float[8,3,3,3] kernel, float[4,8] matrix, float[4] bias> {
          convolved = Conv <pads = [1,1,1,1]> (image, kernel)
          activated = Relu (convolved)
          pooled = GlobalAveragePool (activated)
          flat = Flatten (pooled)
          scores = Gemm <transB = 1> (flat, matrix, bias)
        }""",
    "right": """(float[1,3,16,16] image) => (float[1,6,8,8] features)
        <float[6,3,3,3] kernel> {
          convolved = Conv <pads = [1,1,1,1], strides = [2,2]> (image, kernel)
          features = Relu (convolved)
        }""",
    "larger": """(float[1,3,24,24] image) => (float[1,4,24,24] features)
        <float[4,3,3,3] kernel> {
          features = Conv <pads = [1,1,1,1]> (image, kernel)
        }""",
    "two_inputs": """(float[1,3,16,16] image, float[1,3,16,16] depth) => (float[1,4,16,16] features)
        <float[4,3,1,1] first, float[4,3,1,1] second> {
          seen = Conv (image, first)
          measured = Conv (depth, second)
          features = Add (seen, measured)
        }""",
    "unsupported": """(float[1,3,16,16] image) => (float[1,4,16,16] features)
        <float[4,3,1,1] kernel> {
          convolved = Conv (image, kernel)
          features = Sin (convolved)
        }""",
}
"""Name to graph, in ONNX's own text form; what is declared between < and > is a weight."""


class Files(NamedTuple):
    """Where one network and its frames lie."""

    model: Path
    frames: Path
    """.npy, uint8, (frames, height, width, channels), `EVALUATION_FRAMES` of them."""
    calibration: Path
    """.npy, as `frames`, `CALIBRATION_FRAMES` of them."""


def write(name: str, folder: Path) -> Files:
    """Write a network of `NETWORKS` as ONNX, with its frames."""
    import onnx

    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {name} {NETWORKS[name]}')
    _fill(model, np.random.default_rng(crc32(name.encode())))
    onnx.checker.check_model(model, full_check=True)
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    files = Files(folder / f"{name}.onnx", folder / f"frames_{size}.npy", folder / f"calibration_{size}.npy")
    onnx.save(model, files.model)
    for path, count, seed in ((files.frames, EVALUATION_FRAMES, 1), (files.calibration, CALIBRATION_FRAMES, 2)):
        np.save(path, images(count, size, seed))
    return files


def images(count: int, size: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return smooth noisy frames, uint8, shape (frames, height, width, channels), 0–255: a colour gradient each."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size)
    weights = np.stack([1 - ramp, ramp])
    gradients = np.einsum("nijc,ih,jw->nhwc", rng.uniform(0, 255, (count, 2, 2, 3)), weights, weights)
    noisy: npt.NDArray[np.float64] = gradients + rng.normal(0, 8, gradients.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _fill(model: object, rng: np.random.Generator) -> None:
    """Turn the declared weights into initializers, and name every node after what it makes."""
    from onnx import ModelProto, numpy_helper

    assert isinstance(model, ModelProto)
    graph = model.graph
    for declared in graph.value_info:
        shape = [dim.dim_value for dim in declared.type.tensor_type.shape.dim]
        if declared.name == "variance":
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), declared.name))
    del graph.value_info[:]
    for node in graph.node:
        node.name = node.output[0]
