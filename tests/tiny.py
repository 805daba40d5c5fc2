"""Two networks of a few milliseconds with their images and a spec: a whole build in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SIZE = 16
CLASSES = {"left": 4, "right": 6}


def classifier(seed: int, classes: int, size: int = SIZE, pool: str = "GlobalAveragePool") -> onnx.ModelProto:
    """Return conv, relu, pool, flatten, dense: 3 channels in, `classes` scores out."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(0, 0.4, (8, 3, 3, 3)),
        "b": rng.normal(0, 0.1, 8),
        "v": rng.normal(0, 0.5, (classes, 8)),
        "c": rng.normal(0, 0.1, classes),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["1"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["1"], ["2"], "relu"),
        helper.make_node(pool, ["2"], ["3"], "pool"),
        helper.make_node("Flatten", ["3"], ["4"], "flat"),
        helper.make_node("Gemm", ["4", "v", "c"], ["scores"], "dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(count: int, size: int = SIZE, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return smooth images, uint8, shape (frames, height, width, channels), 0–255: a colour gradient each."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 255, (count, 2, 2, 3))
    ramp = np.linspace(0, 1, size)
    weights = np.stack([1 - ramp, ramp])
    found = np.einsum("nijc,ih,jw->nhwc", corners, weights, weights)
    return (found + rng.normal(0, 8, found.shape)).clip(0, 255).astype(np.uint8)


def write_model(path: Path, seed: int, classes: int, **options: Any) -> Path:
    """Write a classifier."""
    onnx.save(classifier(seed, classes, **options), path)
    return path


def pair(**changes: Any) -> dict[str, Any]:
    """Return the spec of a pair, its files beside it; `changes` replace whole fields."""
    normalization = {"mean": [120.0, 115.0, 105.0], "std": [60.0, 58.0, 57.0]}
    spec: dict[str, Any] = {
        "name": "tiny",
        "models": [{"name": name, "source": f"{name}.onnx", **normalization} for name in CLASSES],
        "calibration": {"source": "images.npy", "count": 16},
        "evaluation": {"count": 16},
        "benchmark": {"seconds": 0.03, "batch_sizes": [1, 2]},
    }
    return {**spec, **changes}


def write_pair(folder: Path, spec: Mapping[str, Any] | None = None, count: int = 32) -> Path:
    """Write both models, `count` images and the spec (that of `pair` unless given); return the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, classes) in enumerate(CLASSES.items()):
        write_model(folder / f"{name}.onnx", seed, classes)
    np.save(folder / "images.npy", images(count))
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(dict(spec or pair())), encoding="utf-8")
    return path
