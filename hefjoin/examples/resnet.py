"""The resnet pair: resnet_v1_18 twice, as in the vendor's article on joining two models.

The weights are random, so the pair says what a real one of its size costs (time, memory, quantization noise)
and nothing about recognition.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hefjoin.examples import photos

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from hefjoin.examples.graph import Graph

MODELS = {"resnet_a": 1, "resnet_b": 2}
"""Scope and seed of each."""
SIZE = 224
CLASSES = 1000
STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = 2
BRANCH_GAIN = 0.5
"""Scales each residual branch; with 1, activations of random weights grow from block to block."""
BIAS_SPREAD = 0.1
"""Standard deviation of the biases; folding a trained batch normalization leaves none at zero."""


def build_resnet18(seed: int) -> onnx.ModelProto:
    """Return resnet_v1_18 with folded batch normalization and He-normal weights.

    Input `input.1`, float32, shape (1, 3, 224, 224); output `191`, the logits, float32, shape (1, 1000);
    49 nodes, 11,684,712 parameters. The same seed gives the same bytes.

    Architecture: He et al., Deep Residual Learning for Image Recognition, 2015, table 1, 18 layers; initial
    weights: He et al., Delving Deep into Rectifiers, 2015, equation 10.
    """
    import numpy as np

    from hefjoin.examples.graph import Graph

    rng = np.random.default_rng(seed)
    graph = Graph("input.1", (1, 3, SIZE, SIZE))
    channels = STAGE_WIDTHS[0]
    x = _random_conv(graph, rng, "input.1", "conv1", (channels, 3, 7, 7), stride=2)
    x = graph.max_pool(graph.relu(x, "relu"), "maxpool")
    for stage, width in enumerate(STAGE_WIDTHS, start=1):
        for block in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _basic_block(graph, rng, x, f"layer{stage}/layer{stage}.{block}", channels, width, stride)
            channels = width
    weight = rng.standard_normal((CLASSES, channels), np.float32) * np.float32(channels**-0.5)
    graph.classifier(x, "fc", weight, np.zeros(CLASSES, np.float32), output="191")
    return graph.model("resnet_v1_18", "191", (1, CLASSES))


def _basic_block(
    graph: Graph, rng: np.random.Generator, x: str, path: str, channels: int, width: int, stride: int
) -> str:
    branch = _random_conv(graph, rng, x, f"{path}/conv1", (width, channels, 3, 3), stride)
    branch = graph.relu(branch, f"{path}/relu")
    branch = _random_conv(graph, rng, branch, f"{path}/conv2", (width, width, 3, 3), gain=BRANCH_GAIN)
    if stride != 1:
        x = _random_conv(graph, rng, x, f"{path}/downsample/downsample.0", (width, channels, 1, 1), stride)
    return graph.relu(graph.add(branch, x, path), f"{path}/relu_1")


def _random_conv(
    graph: Graph,
    rng: np.random.Generator,
    source: str,
    path: str,
    shape: tuple[int, int, int, int],
    stride: int = 1,
    gain: float = 1.0,
) -> str:
    """Append a convolution with weights of that shape (out channels, in channels, height, width)."""
    import numpy as np

    spread = gain * (2 / math.prod(shape[1:])) ** 0.5
    weight = rng.standard_normal(shape, np.float32) * np.float32(spread)
    bias = rng.standard_normal(shape[0], np.float32) * np.float32(gain * BIAS_SPREAD)
    return graph.conv(source, path, weight, bias, stride)


def write_files(folder: Path) -> None:
    """Write both models and the `calibration` and `evaluation` images."""
    import onnx

    for name, seed in MODELS.items():
        onnx.save(build_resnet18(seed), folder / f"{name}.onnx")
    photos.save_images(photos.photo_crops(SIZE, 64, seed=1), folder / "calibration")
    evaluation = photos.photo_crops(SIZE, 64, seed=2, photographs=photos.EVALUATION_PHOTOGRAPHS)
    photos.save_images(evaluation, folder / "evaluation")
