"""Builds the ONNX graphs of the examples, named the way a PyTorch export names them.

The rule: equal calls give equal bytes, so a model can be known by its digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8


class Graph:
    """A graph under construction: each method appends a node and returns the name of its output.

    `path` says which module a node stands for: `layer1/layer1.0/conv1` gives the node
    `/layer1/layer1.0/conv1/Conv` and the weights `layer1.0.conv1.weight` and `layer1.0.conv1.bias`.
    """

    def __init__(self, input_name: str, input_shape: tuple[int, ...]) -> None:
        self._input = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, input_shape)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def conv(
        self, source: str, path: str, weight: NDArray[np.float32], bias: NDArray[np.float32], stride: int = 1
    ) -> str:
        """Append a convolution that pads by half its kernel.

        Args:
            source: Name of the tensor to convolve.
            path: Of the module.
            weight: float32, shape (out channels, in channels, height, width), height odd and equal to width.
            bias: float32, shape (out channels,).
            stride: In both directions.
        """
        kernel = weight.shape[2]
        return self._append(
            "Conv",
            [source, *self._store(path, weight, bias)],
            path,
            dilations=[1, 1],
            group=1,
            kernel_shape=[kernel, kernel],
            pads=[kernel // 2] * 4,
            strides=[stride, stride],
        )

    def relu(self, source: str, path: str) -> str:
        """Append max(0, x)."""
        return self._append("Relu", [source], path)

    def add(self, left: str, right: str, path: str) -> str:
        """Append the sum of two tensors of one shape."""
        return self._append("Add", [left, right], path)

    def max_pool(self, source: str, path: str) -> str:
        """Append the 3x3 maximum with stride 2 of a ResNet's stem."""
        return self._append("MaxPool", [source], path, ceil_mode=0, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])

    def classifier(
        self, source: str, path: str, weight: NDArray[np.float32], bias: NDArray[np.float32], output: str
    ) -> str:
        """Append the mean over height and width and a fully connected layer whose result is named `output`."""
        pooled = self._append("GlobalAveragePool", [source], "avgpool")
        flat = self._append("Flatten", [pooled], "", axis=1)
        inputs = [flat, *self._store(path, weight, bias)]
        return self._append("Gemm", inputs, path, output=output, alpha=1.0, beta=1.0, transB=1)

    def model(self, name: str, output_name: str, output_shape: tuple[int, ...]) -> onnx.ModelProto:
        """Return the finished, checked model with the one output `output_name`."""
        output = helper.make_tensor_value_info(output_name, TensorProto.FLOAT, output_shape)
        graph = helper.make_graph(self._nodes, name, [self._input], [output], self._weights)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="hefjoin.examples",
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _append(self, op: str, inputs: list[str], path: str, output: str = "", **attributes: Any) -> str:
        node = f"/{path}/{op}" if path else f"/{op}"
        result = output or f"{node}_output_0"
        self._nodes.append(helper.make_node(op, inputs, [result], node, **attributes))
        return result

    def _store(self, path: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> list[str]:
        parts = path.split("/")
        module = ".".join(
            part for part, inner in zip(parts, [*parts[1:], ""], strict=True) if not inner.startswith(f"{part}.")
        )
        names = [f"{module}.weight", f"{module}.bias"]
        for array, name in zip((weight, bias), names, strict=True):
            self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return names
