"""A network under construction, its weights nothing but their shapes: for counting, not for running.

The rule: every weight of every network lies in one sparse file of zeros beside it, so a network of 70 million
parameters takes a few hundred KiB.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ZEROS = "zeros.bin"
"""The file of weights, beside the networks."""


class Net:
    """Each method appends what its name says and returns the name of its output; shapes are (channels, height, width).

    A convolution stands for one with batch normalization: it has a bias.
    """

    def __init__(self, height: int, width: int, channels: int = 3) -> None:
        self.image = "image"
        self.shape: dict[str, tuple[int, ...]] = {self.image: (channels, height, width)}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._outputs: list[str] = []

    def conv(
        self,
        source: str,
        features: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        act: str = "",
        groups: int = 1,
        pad: int | None = None,
    ) -> str:
        """Append a convolution and its activation; it pads by half its kernel unless told."""
        channels, height, width = self.shape[source]
        pad = kernel // 2 if pad is None else pad
        shape = (features, *((size + 2 * pad - kernel) // stride + 1 for size in (height, width)))
        weights = [self._weight(features, channels // groups, kernel, kernel), self._weight(features)]
        options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        return self.activated(self._node("Conv", [source, *weights], shape, **options), act)

    def depthwise(self, source: str, kernel: int = 3, stride: int = 1, *, act: str = "") -> str:
        """Append a depthwise convolution."""
        channels = self.shape[source][0]
        return self.conv(source, channels, kernel, stride, act=act, groups=channels)

    def deconv(self, source: str, features: int, kernel: int, *, act: str = "") -> str:
        """Append a transposed convolution that doubles the size."""
        channels, height, width = self.shape[source]
        weights = [self._weight(channels, features, kernel, kernel), self._weight(features)]
        options = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [(kernel - 2) // 2] * 4}
        found = self._node("ConvTranspose", [source, *weights], (features, 2 * height, 2 * width), **options)
        return self.activated(found, act)

    def dense(self, source: str, features: int, *, act: str = "") -> str:
        """Append a fully connected layer over everything."""
        flat = self.shape[source]
        if len(flat) > 1:
            source = self._node("Flatten", [source], (math.prod(flat),))
        weights = [self._weight(features, self.shape[source][0]), self._weight(features)]
        return self.activated(self._node("Gemm", [source, *weights], (features,), transB=1), act)

    def activated(self, source: str, act: str) -> str:
        """Append an activation; none where its name is empty."""
        shape = self.shape[source]
        if act == "silu":
            return self._node("Mul", [source, self._node("Sigmoid", [source], shape)], shape)
        if act == "relu6":
            return self._node("Clip", [source, *(self._number(value) for value in (0.0, 6.0))], shape)
        if act == "leaky":
            return self._node("LeakyRelu", [source], shape, alpha=0.1)
        return self._node({"relu": "Relu", "sigmoid": "Sigmoid", "elu": "Elu"}[act], [source], shape) if act else source

    def max_pool(self, source: str, kernel: int, stride: int, pad: int | None = None) -> str:
        """Append the largest of a window; rounds up unless told how much to pad."""
        channels, *size = self.shape[source]
        pads = [pad] * 4 if pad is not None else [0, 0, *self._missing(size, kernel, stride)]
        found = [(side + pads[axis] + pads[axis + 2] - kernel) // stride + 1 for axis, side in enumerate(size)]
        options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        return self._node("MaxPool", [source], (channels, *found), **options)

    @staticmethod
    def _missing(size: list[int], kernel: int, stride: int) -> list[int]:
        return [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size]

    def mean(self, source: str) -> str:
        """Append the mean over the image."""
        return self._node("GlobalAveragePool", [source], (self.shape[source][0], 1, 1))

    def add(self, left: str, right: str, *, act: str = "") -> str:
        """Append a sum and its activation."""
        return self.activated(self._node("Add", [left, right], self.shape[left]), act)

    def combine(self, operator: str, left: str, right: str) -> str:
        """Append another operator of two tensors of one shape."""
        return self._node(operator, [left, right], self.shape[left])

    def concat(self, *sources: str) -> str:
        """Append the sources one behind the other."""
        channels = sum(self.shape[source][0] for source in sources)
        return self._node("Concat", list(sources), (channels, *self.shape[sources[0]][1:]), axis=1)

    def halves(self, source: str) -> tuple[str, str]:
        """Append a split of the channels in two."""
        channels, *size = self.shape[source]
        sizes = self._constant(np.array([channels // 2] * 2))
        names = [f"t{len(self.shape)}", f"t{len(self.shape) + 1}"]
        self._nodes.append(helper.make_node("Split", [source, sizes], names, names[0], axis=1))
        self.shape |= dict.fromkeys(names, (channels // 2, *size))
        return names[0], names[1]

    def scaled(self, source: str, shift: float) -> str:
        """Append a normalization: a factor for each channel, and one summand."""
        channels = self.shape[source][0]
        factor = self._constant(np.full((1, channels, 1, 1), 0.5, np.float32))
        found = self._node("Mul", [source, factor], self.shape[source])
        return self._node("Add", [found, self._constant(np.full((1, 1, 1, 1), shift, np.float32))], self.shape[source])

    def resize(self, source: str, factor: int = 2, mode: str = "nearest") -> str:
        """Append an enlargement."""
        channels, height, width = self.shape[source]
        scales = self._constant(np.array([1, 1, factor, factor], np.float32))
        options = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if mode == "linear":
            options = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", [source, "", scales], (channels, height * factor, width * factor), **options)

    def focus(self, source: str) -> str:
        """Append four images of half the size, of every other pixel, as PyTorch exports them."""
        channels, height, width = self.shape[source]
        pieces = []
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
            rows = self._every_other(source, 2, row, (channels, height // 2, width))
            pieces.append(self._every_other(rows, 3, column, (channels, height // 2, width // 2)))
        return self.concat(*pieces)

    def _every_other(self, source: str, axis: int, start: int, shape: tuple[int, ...]) -> str:
        limits = [self._constant(np.array([value])) for value in (start, np.iinfo(np.int64).max, axis, 2)]
        return self._node("Slice", [source, *limits], shape)

    def output(self, *sources: str) -> None:
        """Make tensors outputs."""
        self._outputs += sources

    def save(self, path: Path) -> Path:
        """Write the network, and the file of zeros where it is not there or too short."""
        inputs = [helper.make_tensor_value_info(self.image, TensorProto.FLOAT, [1, *self.shape[self.image]])]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._outputs]
        graph = helper.make_graph(self._nodes, path.stem, inputs, outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        size_bytes = max(4 * math.prod(weight.dims) for weight in self._weights)
        zeros = path.with_name(ZEROS)
        with zeros.open("ab") as stream:
            if zeros.stat().st_size < size_bytes:
                stream.truncate(size_bytes)
        return path

    def _node(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"t{len(self.shape)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        self.shape[name] = shape
        return name

    def _weight(self, *dims: int) -> str:
        name = f"w{len(self._weights)}"
        weight = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", ZEROS), ("offset", "0"), ("length", str(4 * math.prod(dims)))):
            weight.external_data.add(key=key, value=value)
        self._weights.append(weight)
        return name

    def _constant(self, value: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(value, f"w{len(self._weights)}"))
        return str(self._weights[-1].name)

    def _number(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))
