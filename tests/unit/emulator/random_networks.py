"""Draws small random networks on one image: what a joined pair may be made of.

The rule: every tensor is an image (channels, height, width) until a head makes features of it, and all that is made is
read or comes out, because ONNX Runtime fuses differently around nodes that nobody needs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from graphs import Array, conv, conv_weights, network, node, norm_weights, normal
from hypothesis import strategies as st

Shape = tuple[int, int, int]
ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "silu", "HardSwish")
"""The last is in ONNX from opset 14 on."""
LARGEST = 16
"""No side of an image grows beyond this."""
MOST_CHANNELS = 12


class Drawing:
    """A network on its way: its nodes, its weights, and the image of each tensor so far."""

    def __init__(self, draw: st.DrawFn, seed: int) -> None:
        self.draw, self.seed = draw, seed
        self.opset = draw(st.sampled_from([13, 15, 17]))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.images: dict[str, Shape] = {"x": (3, 8, 8)}

    def conv(self, source: str, result: str) -> Shape:
        """3 × 3, with a stride of 1 or 2."""
        channels, height, width = self.images[source]
        made, stride = self.draw(st.integers(1, 5)), self.draw(st.sampled_from([1, 1, 2]))
        self.weights |= conv_weights(result, made, channels, 3, 3, seed=self.seed + len(self.nodes))
        self.nodes.append(conv(source, result, result, strides=[stride, stride]))
        return made, -(-height // stride), -(-width // stride)

    def depthwise(self, source: str, result: str) -> Shape:
        channels, *_ = shape = self.images[source]
        self.weights |= conv_weights(result, channels, 1, 3, 3, seed=self.seed + len(self.nodes))
        self.nodes.append(conv(source, result, result, group=channels))
        return shape

    def norm(self, source: str, result: str) -> Shape:
        channels, *_ = shape = self.images[source]
        self.weights |= norm_weights(result, channels, seed=self.seed)
        inputs = " ".join([source, *(f"{result}_{part}" for part in "ghmv")])
        self.nodes.append(node("BatchNormalization", inputs, result))
        return shape

    def pool(self, source: str, result: str) -> Shape:
        channels, height, width = self.images[source]
        kind = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        self.nodes.append(node(kind, source, result, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0]))
        return channels, height, width

    def activation(self, source: str, result: str) -> Shape:
        kind = self.draw(st.sampled_from(ACTIVATIONS[: None if self.opset > 13 else -1]))
        if kind == "silu":
            self.nodes += [node("Sigmoid", source, f"{result}s"), node("Mul", f"{source} {result}s", result)]
        else:
            self.nodes.append(node(kind, source, result))
        return self.images[source]

    def add(self, source: str, result: str) -> Shape:
        shape = self.images[source]
        other = self.draw(st.sampled_from([name for name, image in self.images.items() if image == shape]))
        self.nodes.append(node("Add", f"{source} {other}", result))
        return shape

    def concat(self, source: str, result: str) -> Shape:
        channels, *space = self.images[source]
        alike = [name for name, (_, *other) in self.images.items() if other == space]
        other = self.draw(st.sampled_from(alike))
        self.nodes.append(node("Concat", f"{source} {other}", result, axis=1))
        return channels + self.images[other][0], space[0], space[1]

    def resize(self, source: str, result: str) -> Shape:
        channels, height, width = self.images[source]
        mode = self.draw(st.sampled_from(["nearest", "linear"]))
        self.weights["twice"] = np.array([1, 1, 2, 2], np.float32)
        self.nodes.append(node("Resize", f"{source} _ twice", result, mode=mode))
        return channels, 2 * height, 2 * width

    def transpose(self, source: str, result: str) -> Shape:
        """Turn the image on its side."""
        channels, height, width = self.images[source]
        self.nodes.append(node("Transpose", source, result, perm=[0, 1, 3, 2]))
        return channels, width, height

    def gemm(self, source: str, result: str) -> None:
        """A head, which nothing stands behind."""
        size = int(np.prod(self.images[source]))
        self.weights |= {f"{result}_w": normal(size, 3, seed=self.seed), f"{result}_b": normal(3, seed=self.seed)}
        self.nodes += [
            node("Flatten", source, f"{result}f"),
            node("Gemm", f"{result}f {result}_w {result}_b", result),
        ]

    def steps(self, source: str) -> list[Callable[[str, str], Shape]]:
        """Return what may be done with an image without making it too large."""
        channels, height, width = self.images[source]
        found = [self.conv, self.depthwise, self.norm, self.pool, self.activation, self.add, self.transpose]
        if channels <= MOST_CHANNELS // 2:
            found.append(self.concat)
        if max(height, width) <= LARGEST // 2:
            found.append(self.resize)
        return found


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a network of 3–12 nodes at a random opset, with one output or several."""
    drawing = Drawing(draw, draw(st.integers(0, 1000)))
    wanted = draw(st.integers(2, 9))
    while len(drawing.nodes) < wanted:
        source = draw(st.sampled_from(sorted(drawing.images)))
        result = f"t{len(drawing.nodes)}"
        drawing.images[result] = draw(st.sampled_from(drawing.steps(source)))(source, result)
    heads = [f"t{len(drawing.nodes)}"] if draw(st.booleans()) or len(drawing.nodes) < 3 else []
    for head in heads:
        drawing.gemm(draw(st.sampled_from(sorted(drawing.images))), head)
    read = {name for item in drawing.nodes for name in item.input}
    ends = [name for name in (*drawing.images, *heads) if name not in read]
    also = draw(st.sampled_from([[], ["t0"]]))
    outputs = list(dict.fromkeys(ends + also))
    return network(drawing.nodes, drawing.weights, outputs=outputs, opset=drawing.opset)


def as_the_sdk_gives(arrays: list[Array]) -> list[Array]:
    """Return images with their channels last, as `infer` does."""
    return [array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in arrays]
