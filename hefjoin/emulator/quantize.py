"""Write the quantized form of a graph: QuantizeLinear/DequantizeLinear at every border between layers.

The rules:

1. Activations: unsigned, one scale and zero point per tensor; the range always holds zero, and zero maps to zero. An
   output may have one for each feature (`output_encoding_vector`); a HEF has room for them, HailoRT's extension 25.
2. Kernels: signed, symmetric, one scale per output feature. Bias: 32 bits at the product of both scales; where a
   feature's kernel is so small that its bias would not fit (a pruned one), the kernel's scale gives way.
3. A layer that only moves values (max pooling, slicing, nearest resize) keeps its input's scale.
4. Constants that are added or multiplied per channel stay as they are: a kernel of one value per feature, with
   a scale of its own, is represented exactly.
5. Four-bit kernels use the fifteen levels -7…7 in an 8-bit container.

Source of rule 1 and 2: affine quantization as in Jacob et al. 2018 (arXiv 1712.05877), section 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hefjoin.emulator.calibrate import Ranges
from hefjoin.emulator.graph import Array, Graph, attributes, remove_unused
from hefjoin.emulator.layers import WEIGHTED, Layer, find_layers
from hefjoin.formats.onnx_operators import VIEWS, WEIGHTED_OPS

MOVES_ONLY = frozenset(
    {"maxpool", "format_conversion", "slice", "feature_splitter", "depth_to_space", "space_to_depth"}
)
BIAS_LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Mode:
    """Bits of a layer's activations and kernel."""

    activation_bits: int
    weight_bits: int


MODES: Mapping[str, Mode] = {"a8_w8": Mode(8, 8), "a8_w4": Mode(8, 4), "a16_w16": Mode(16, 16)}


@dataclass(frozen=True)
class Encoding:
    """How a tensor's real values map to integers: real = (integer - zero_point) · scale.

    Where channels (axis 1) are encoded apart, scale and zero point are tuples of one number for each.
    """

    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...]
    bits: int


def encoding(low: float | Array, high: float | Array, bits: int) -> Encoding:
    """Return the unsigned encoding of the range [low, high], widened to hold zero; of arrays, channel by channel.

    >>> encoding(-1.0, 3.0, 2)
    Encoding(scale=1.3333333333333333, zero_point=1, bits=2)
    """
    levels = (1 << bits) - 1
    lows = np.minimum(np.asarray(low, dtype=np.float64), 0.0)
    scales = (np.maximum(high, 0.0) - lows) / levels
    scales = np.where(scales < np.finfo(np.float32).tiny, 1.0, scales)
    zero_points = np.clip(np.rint(-lows / scales), 0, levels).astype(np.int64)
    if scales.ndim:
        return Encoding(tuple(scales.tolist()), tuple(zero_points.tolist()), bits)
    return Encoding(scales.item(), zero_points.item(), bits)


def quantized_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that are handed on between layers: inputs and layer outputs."""
    names = [info.name for info in model.graph.input]
    for layer in find_layers(model):
        names += layer.outputs
    return names


def outputs_by_feature(model: onnx.ModelProto) -> list[str]:
    """Return the outputs that the host alone reads, and whose axis 1 is the features of the kernel that makes them."""
    graph = Graph(model)
    found = []
    for layer in find_layers(model):
        name, shape = layer.outputs[0], graph.shapes.get(layer.main.output[0], ())
        final = graph.shapes.get(name, ())
        is_turned = any(node.op_type == "Transpose" for node in layer.nodes)
        has_features = {len(shape), len(final)} <= {2, 4} and shape[1] == final[1] and not is_turned
        if layer.type in WEIGHTED and has_features and name in graph.outputs and graph.readers(name) == 1:
            found.append(name)
    return found


def activation_bits(model: onnx.ModelProto, modes: Mapping[str, Mode]) -> dict[str, int]:
    """Return the bits of each tensor at a layer's border.

    An input has the fewest that a layer asks for which reads it, changes of format looked through: one layer with more
    bits changes neither what the host sends nor what the other readers see.

    Args:
        model: The full-precision optimized graph.
        modes: Bits per layer, by the name of its output tensor; a layer not named is a8_w8.
    """
    layers = find_layers(model)
    read_by: dict[str, int] = {}
    for layer in reversed(layers):
        bits = _mode(layer, modes).activation_bits
        if layer.type == "format_conversion":
            bits = read_by.get(layer.outputs[0], bits)
        for name in layer.inputs:
            read_by[name] = min(bits, read_by.get(name, bits))
    inputs = {info.name: read_by[info.name] for info in model.graph.input if info.name in read_by}
    return inputs | {name: _mode(layer, modes).activation_bits for layer in layers for name in layer.outputs}


def kernel_bits(model: onnx.ModelProto, modes: Mapping[str, Mode]) -> dict[str, int]:
    """Return the bits of each kernel, by its name; `modes` as for `activation_bits`."""
    return {
        node.input[1]: _mode(layer, modes).weight_bits
        for layer in find_layers(model)
        for node in layer.nodes
        if node.op_type in WEIGHTED_OPS
    }


def _mode(layer: Layer, modes: Mapping[str, Mode]) -> Mode:
    return modes.get(layer.outputs[0], MODES["a8_w8"])


def encodings(model: onnx.ModelProto, ranges: Ranges, bits: Mapping[str, int]) -> dict[str, Encoding]:
    """Return the encoding of each tensor of `bits`, from its smallest and largest value in `ranges`."""
    found: dict[str, Encoding] = {}

    def encode(name: str) -> Encoding:
        low, high = ranges[name]
        return encoding(low, high, bits[name])

    for info in model.graph.input:
        if info.name in bits:
            found[info.name] = encode(info.name)
    for layer in find_layers(model):
        kept = found.get(layer.inputs[0]) if _moves_only(layer) else None
        for name in layer.outputs:
            found[name] = kept or encode(name)
    return found


def _moves_only(layer: Layer) -> bool:
    nearest = layer.type == "resize" and attributes(layer.main).get("mode", b"nearest") == b"nearest"
    return (layer.type in MOVES_ONLY or nearest) and layer.activation == "linear"


def quantize(
    model: onnx.ModelProto,
    codes: Mapping[str, Encoding],
    bits: Mapping[str, int],
    steps: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """Return the quantized graph.

    Args:
        model: The full-precision optimized graph; it is left as it was.
        codes: Of the tensors at the borders of layers, as `encodings` gives them.
        bits: Of each kernel, by its name.
        steps: Scales of kernels, float32, one per output feature; a kernel not named has the least that hold it.
    """
    return _Writer(model, codes, bits, steps or {}).write()


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        codes: Mapping[str, Encoding],
        bits: Mapping[str, int],
        steps: Mapping[str, Array],
    ) -> None:
        self.source = Graph(model)
        self.encodings = codes
        self.bits = bits
        self.steps = steps
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self) -> onnx.ModelProto:
        graph = self.source.model.graph
        renamed = {}
        for info in graph.input:
            if info.name in self.encodings:
                renamed[info.name] = f"{info.name}/dq"
                self._quantize_dequantize(info.name, info.name, f"{info.name}/dq")
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [renamed.get(name, name) for name in node.input]
            if node.op_type in WEIGHTED_OPS and node.input[1] in self.bits:
                self._quantize_kernel(node, copy)
            borders = [name for name in node.output if name in self.encodings]
            copy.output[:] = [f"{name}/float" if name in borders else name for name in node.output]
            self.nodes.append(copy)
            for name in borders:
                self._quantize_dequantize(f"{name}/float", name, name)
        return self._model()

    def _quantize_dequantize(self, source: str, name: str, result: str) -> None:
        code = self.encodings[name]
        if isinstance(code.scale, tuple):
            self._by_channel(source, name, result, code)
        else:
            self._pair(source, name, result, np.float32(code.scale), code.zero_point, code.bits)

    def _by_channel(self, source: str, name: str, result: str, code: Encoding) -> None:
        """Scale and shift around a pair of scale 1: ORT 1.32 fuses convolutions with pairs of lists, then refuses them.

        Rounding comes before the shift, as in QuantizeLinear.
        """
        column = (-1, *[1] * (len(self.source.shapes[name]) - 2))
        scales = self._constant(f"{name}/quant_scale", np.array(code.scale, np.float32).reshape(column))
        zero_points = self._constant(f"{name}/quant_zero_point", np.array(code.zero_point, np.float32).reshape(column))
        within, levels, centred = (f"{name}/{part}" for part in ("steps", "levels", "centred"))
        self.nodes += [
            helper.make_node("Div", [source, scales], [within], within),
            helper.make_node("Round", [within], [f"{within}/whole"], f"{within}/whole"),
            helper.make_node("Add", [f"{within}/whole", zero_points], [f"{within}/shifted"], f"{within}/shifted"),
        ]
        self._pair(f"{within}/shifted", name, levels, np.float32(1), 0, code.bits, "unit")
        self.nodes += [
            helper.make_node("Sub", [levels, zero_points], [centred], centred),
            helper.make_node("Mul", [centred, scales], [result], f"{name}/real"),
        ]

    def _pair(
        self, source: str, name: str, result: str, scale: np.float32, zero_point: Any, bits: int, how: str = "quant"
    ) -> None:
        kind, domain = (np.uint8, "") if bits == 8 else (np.uint16, "com.microsoft")
        numbers = [
            self._constant(f"{name}/{how}_scale", scale),
            self._constant(f"{name}/{how}_zero_point", kind(zero_point)),
        ]
        quantized = f"{name}/q"
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, *numbers], [quantized], f"{name}/Q", domain=domain),
            helper.make_node("DequantizeLinear", [quantized, *numbers], [result], f"{name}/DQ", domain=domain),
        ]

    def _quantize_kernel(self, node: onnx.NodeProto, copy: onnx.NodeProto) -> None:
        name = node.input[1]
        axis, bits, steps = feature_axis(node, self.source.shapes[name]), self.bits[name], self.steps.get(name)
        kernel = self.source.constant(name)
        behind = self.encodings.get(self._through_views(node.input[0]))
        has_bias = len(node.input) > 2 and bool(node.input[2])
        if not has_bias or behind is None or behind.bits > 8 or bits > 8:
            integers, scales = quantize_kernel(kernel, axis, bits, steps=steps)
            domain = "com.microsoft" if integers.dtype == np.int16 else ""
            copy.input[1] = self._dequantized(name, integers, scales, axis, domain)
            return
        features = kernel.shape[axis]
        # A grouped deconvolution repeats its scales for every group; a bias of one element is for all features.
        bias = self.source.constant(node.input[2]).astype(np.float64).reshape(-1)
        peaks = np.max(np.abs(np.resize(bias, (-(-bias.size // features), features))), axis=0)
        integers, scales = quantize_kernel(kernel, axis, bits, peaks / BIAS_LIMIT / behind.scale, steps)
        copy.input[1] = self._dequantized(name, integers, scales, axis, "")
        units = np.resize(scales.astype(np.float64), bias.size) * behind.scale
        whole = np.clip(np.rint(bias / units), -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
        copy.input[2] = self._dequantized(node.input[2], whole, units.astype(np.float32), 0, "")

    def _through_views(self, name: str) -> str:
        while name not in self.encodings and name in self.source.producer:
            node = self.source.producer[name]
            if node.op_type not in VIEWS:
                break
            name = node.input[0]
        return name

    def _dequantized(self, name: str, integers: Array, scales: Array, axis: int, domain: str) -> str:
        result = f"{name}/dq"
        if f"{name}/q" not in self.constants:
            inputs = [
                self._constant(f"{name}/q", integers),
                self._constant(f"{name}/quant_scale", scales),
                self._constant(f"{name}/quant_zero_point", np.zeros(scales.shape, dtype=integers.dtype)),
            ]
            self.nodes.append(
                helper.make_node("DequantizeLinear", inputs, [result], f"{name}/DQ", domain=domain, axis=axis)
            )
        return result

    def _constant(self, name: str, value: Array | np.generic) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name

    def _model(self) -> onnx.ModelProto:
        source = self.source.model
        used = {name for node in self.nodes for name in node.input}
        floats = [tensor for name, tensor in self.source.initializers.items() if name in used]
        graph = helper.make_graph(
            self.nodes,
            source.graph.name,
            source.graph.input,
            source.graph.output,
            [*floats, *self.constants.values()],
        )
        opsets = [*source.opset_import]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=source.ir_version)
        remove_unused(model)
        return model


def quantize_kernel(
    kernel: Array, axis: int, bits: int, least: Array | float = 0.0, steps: Array | None = None
) -> tuple[Array, Array]:
    """Return a kernel's integers and its float32 scales, one per index of `axis`.

    Args:
        kernel: float32, any shape.
        axis: The axis of the output features.
        bits: 4, 8 or 16; integers are int8 up to 8 bits, else int16, symmetric around zero.
        least: The smallest scale allowed, for all features or one for each.
        steps: The scales to use where they are not too small; left out, the least that hold the kernel.
    """
    top = (1 << (bits - 1)) - 1
    others = tuple(index for index in range(kernel.ndim) if index != axis)
    wanted = np.max(np.abs(kernel), axis=others) / top if steps is None else steps
    scale = np.maximum(wanted, least).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1.0
    shape = [-1 if index == axis else 1 for index in range(kernel.ndim)]
    integers = np.clip(np.rint(kernel / scale.reshape(shape)), -top, top)
    return integers.astype(np.int8 if bits <= 8 else np.int16), scale


def feature_axis(node: onnx.NodeProto, shape: tuple[int, ...]) -> int:
    """Return the axis of the output features in the kernel of that shape."""
    given = attributes(node)
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if given.get("transB") else 1
    return len(shape) - 1
