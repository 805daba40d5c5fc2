"""What a model script changes of the network itself: layers behind an input, the activation of an output.

The rules:

1. Each layer goes directly behind its input, in front of what an earlier command put there, so that the last command
   of a script acts first on a frame.
2. A layer that takes frames of another shape gives the graph's input that shape; native inference is not touched.
3. A new layer's tensor has the layer's name, and everything computes in float: quantization comes later.

Sources: the order from the guide's public mirror; the layouts of NV12, YUY2 and RGBX frames from `convert_*` in
`core/preprocessing/preprocessing_factory.py` of hailo_model_zoo (frames of NV12 are (height / 2, width, 3), of YUY2
(height, width, 2)); the colors from ITU-R BT.601 with luma 16–235 and chroma 16–240, which that file has too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.graph import Array, Graph

Shape = tuple[int, ...]

LUMA_GAIN, CHROMA_GAIN = 255 / 219, 255 / 224
RED, BLUE = 0.299, 0.114
"""Share of red and blue in the luma of BT.601."""


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std behind one input layer, per channel on the scale of the raw frames."""

    target: str
    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Color:
    """Three channels made from three others behind one input layer."""

    target: str
    input: str
    kind: str
    """`bgr` or `yuv`: what comes in; RGB goes out."""


@dataclass(frozen=True)
class Layout:
    """Frames as a camera packs them, unpacked behind one input layer."""

    target: str
    input: str
    kind: str
    """`nv12` or `yuy2`: YUV with less chroma, which is repeated; `rgbx`: a fourth channel that is dropped."""


@dataclass(frozen=True)
class Resize:
    """Bilinear resize behind one input layer.

    Pixel centers lie at half (`half_pixel`), without anti-aliasing; which rule the DFC follows is not public.
    """

    target: str
    input: str
    height: int
    width: int
    """Of the frames that come in."""


@dataclass(frozen=True)
class Activation:
    """An activation put behind a linear output."""

    output: int
    """Index among the network's outputs."""
    function: str


Modification = Normalization | Color | Layout | Resize | Activation

FUNCTIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}
"""Activations of `change_output_activation` by the script's word, as ONNX operators."""


def modify(model: onnx.ModelProto, steps: Sequence[Modification]) -> None:
    """Apply modifications in place, in the order of the script.

    Raises:
        exceptions.AllocatorScriptParserException: One does not fit its input or output.
    """
    for step in steps:
        if isinstance(step, Activation):
            _activate(model, step)
        else:
            _Front(model, step).insert()


def input_shape(step: Modification, shape: Sequence[int]) -> list[int]:
    """Return the shape of the frames that a layer takes, from that of the frames it gives.

    Args:
        step: A modification behind an input.
        shape: (height, width, channels), what the network behind it takes.

    >>> input_shape(Layout("n/l", "n/input_layer1", "nv12"), [480, 640, 3])
    [240, 640, 3]
    """
    height, width, channels = shape
    match step:
        case Resize():
            return [step.height, step.width, channels]
        case Layout(kind="nv12"):
            return [height // 2, width, 3]
        case Layout(kind="yuy2"):
            return [height, width, 2]
        case Layout():
            return [height, width, 4]
        case _:
            return [height, width, channels]


def color_matrix(kind: str) -> tuple[Array, Array]:
    """Return what turns a color into RGB: float64, matrix (3, 3) and offset (3,), `rgb = matrix · color + offset`.

    >>> matrix, offset = color_matrix("yuv")
    >>> (matrix @ [235, 128, 128] + offset).round(6).tolist()
    [255.0, 255.0, 255.0]
    """
    if kind == "bgr":
        return np.eye(3)[::-1].copy(), np.zeros(3)
    green = 1 - RED - BLUE
    to_red, to_blue = 2 * (1 - RED) * CHROMA_GAIN, 2 * (1 - BLUE) * CHROMA_GAIN
    matrix = np.array(
        [
            [LUMA_GAIN, 0.0, to_red],
            [LUMA_GAIN, -to_blue * BLUE / green, -to_red * RED / green],
            [LUMA_GAIN, to_blue, 0.0],
        ]
    )
    return matrix, -matrix @ np.array([16.0, 128.0, 128.0])


class _Front:
    """Writes one layer between a graph's input and what reads it."""

    def __init__(self, model: onnx.ModelProto, step: Normalization | Color | Layout | Resize) -> None:
        self.model = model
        self.step = step
        graph = Graph(model)
        self.info = next((info for info in model.graph.input if info.name == step.input), None)
        if self.info is None:
            raise self.refusal("is no input layer")
        self.readers = graph.consumers.get(step.input, [])
        self.given = graph.shapes[step.input]
        if len(self.given) != 4:
            raise self.refusal("has no channels, only features")
        self.batch, self.channels, self.height, self.width = self.given
        self.nodes: list[onnx.NodeProto] = []

    def insert(self) -> None:
        """Write the nodes, and let all readers of the input read the layer instead."""
        step = self.step
        taken = input_shape(step, [self.height, self.width, self.channels])
        is_reshaped = taken != [self.height, self.width, self.channels]
        for node in self.readers:
            node.input[:] = [step.target if name == step.input else name for name in node.input]
        self.build(step.input, "")
        if is_reshaped and self.info is not None:
            self.info.type.CopyFrom(_float(self.nchw(taken)))
        for position, node in enumerate(self.nodes):
            self.model.graph.node.insert(position, node)

    def build(self, source: str, end: str) -> str:
        match self.step:
            case Normalization():
                return self.normalize(self.step, source, end)
            case Color():
                return self.convert(self.step, source, end)
            case Resize():
                scales = self.scales(_ratio(self.height, self.step.height), _ratio(self.width, self.step.width))
                inputs = [source, "", self.constant("scales", scales)]
                return self.add("Resize", inputs, end, self.image(), mode="linear")
            case Layout(kind="rgbx"):
                self.expect(3)
                return self.slice(source, end, self.image(), axis=1, stop=3)
            case Layout(kind="yuy2"):
                return self.unpack_yuy2(source, end)
            case _:
                return self.unpack_nv12(source, end)

    def normalize(self, step: Normalization, source: str, end: str) -> str:
        """Write a depthwise 1x1 convolution."""
        if not len(step.mean) == len(step.std) == self.channels:
            raise self.refusal(
                f"has {self.channels} channels, the script {len(step.mean)} means and {len(step.std)} "
                "standard deviations"
            )
        scale: Array = 1.0 / np.asarray(step.std, dtype=np.float64)
        shift: Array = -np.asarray(step.mean, dtype=np.float64) * scale
        inputs = [source, self.floats("kernel", scale.reshape(-1, 1, 1, 1)), self.floats("bias", shift)]
        return self.add("Conv", inputs, end, self.image(), group=self.channels)

    def convert(self, step: Color, source: str, end: str) -> str:
        """Write a 1x1 convolution."""
        self.expect(3)
        matrix, offset = color_matrix(step.kind)
        inputs = [source, self.floats("kernel", matrix.reshape(3, 3, 1, 1)), self.floats("bias", offset)]
        return self.add("Conv", inputs, end, self.image())

    def unpack_nv12(self, source: str, end: str) -> str:
        """A plane of Y, then one of U and V side by side for every second pixel of every second row."""
        self.expect(3, is_even=True)
        batch, height, width = self.batch, self.height, self.width
        pixels = height * width
        rows = self.add("Transpose", [source], "rows", (batch, height // 2, width, 3), perm=[0, 2, 3, 1])
        flat = self.reshape(rows, "flat", (batch, pixels * 3 // 2))
        luma = self.slice(flat, "luma", (batch, pixels), axis=1, stop=pixels)
        luma = self.reshape(luma, "y", (batch, 1, height, width))
        pairs = self.slice(flat, "chroma", (batch, pixels // 2), axis=1, start=pixels, stop=pixels * 3 // 2)
        pairs = self.reshape(pairs, "pairs", (batch, height // 2, width // 2, 2))
        half = (batch, 2, height // 2, width // 2)
        return self.join(luma, self.add("Transpose", [pairs], "half", half, perm=[0, 3, 1, 2]), (2, 2), end)

    def unpack_yuy2(self, source: str, end: str) -> str:
        """Y in the first channel; in the second U and V in turn, each for two pixels of a row."""
        self.expect(3, is_even=True)
        plane, half = (self.batch, 1, self.height, self.width), (self.batch, 1, self.height, self.width // 2)
        luma = self.slice(source, "y", plane, axis=1, stop=1)
        pairs = self.slice(source, "pairs", plane, axis=1, start=1, stop=2)
        parts = [
            self.slice(pairs, name, half, axis=3, start=first, stop=self.width, every=2)
            for name, first in (("u", 0), ("v", 1))
        ]
        shape = (self.batch, 2, self.height, self.width // 2)
        return self.join(luma, self.add("Concat", parts, "half", shape, axis=1), (1, 2), end)

    def join(self, luma: str, chroma: str, repeats: tuple[int, int], end: str) -> str:
        inputs = [chroma, "", self.constant("scales", self.scales(*repeats))]
        shape = (self.batch, 2, self.height, self.width)
        whole = self.add(
            "Resize", inputs, "uv", shape, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip
        return self.add("Concat", [luma, whole], end, self.image(), axis=1)

    def expect(self, channels: int, is_even: bool = False) -> None:
        if self.channels != channels:
            raise self.refusal(f"has {self.channels} channels, {channels} are needed")
        if is_even and (self.height % 2 or self.width % 2):
            raise self.refusal(f"is {self.height}x{self.width}; height and width must be even")

    def refusal(self, why: str) -> exceptions.AllocatorScriptParserException:
        return exceptions.AllocatorScriptParserException(f"{self.step.target}: {self.step.input} {why}")

    def image(self) -> Shape:
        return (self.batch, self.channels, self.height, self.width)

    def nchw(self, shape: Sequence[int]) -> Shape:
        height, width, channels = shape
        return (self.batch, channels, height, width)

    def scales(self, height: float, width: float) -> Array:
        return np.array([1, 1, height, width], dtype=np.float32)

    def reshape(self, source: str, end: str, shape: Shape) -> str:
        return self.add("Reshape", [source, self.constant(f"{end}_shape", np.array([0, *shape[1:]]))], end, shape)

    def slice(
        self, source: str, end: str, shape: Shape, *, axis: int, stop: int, start: int = 0, every: int = 1
    ) -> str:
        bounds = {"starts": start, "ends": stop, "axes": axis, "steps": every}
        given = [self.constant(f"{end}_{name}", np.array([value])) for name, value in bounds.items()]
        return self.add("Slice", [source, *given], end, shape)

    def floats(self, name: str, value: Array) -> str:
        return self.constant(name, value.astype(np.float32))

    def constant(self, name: str, value: Array) -> str:
        name = f"{self.step.target}/{name}"
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], end: str, shape: Shape, **attributes: Any) -> str:
        """Write a node; without an `end` its result has the layer's own name."""
        result = f"{self.step.target}/{end}" if end else self.step.target
        name = f"{result}/{operator.lower()}"
        self.nodes.append(helper.make_node(operator, inputs, [result], name, **attributes))
        self.model.graph.value_info.append(helper.make_value_info(result, _float(shape)))
        return result


def _activate(model: onnx.ModelProto, step: Activation) -> None:
    graph = Graph(model)
    info = model.graph.output[step.output]
    if graph.readers(info.name) > 1:
        raise exceptions.AllocatorScriptParserException(
            f"change_output_activation: {info.name} is also read inside the network, which would change with it"
        )
    node = graph.producer[info.name]
    linear = f"{info.name}/linear"
    node.output[:] = [linear if name == info.name else name for name in node.output]
    model.graph.node.append(
        helper.make_node(FUNCTIONS[step.function], [linear], [info.name], f"{info.name}/activation")
    )
    model.graph.value_info.append(helper.make_value_info(linear, info.type))


def _ratio(wanted: int, given: int) -> float:
    """Return the least float32 that stretches `given` pixels to `wanted`: a size is the product cut to an integer."""
    ratio = np.float32(wanted / given)
    return float(ratio if float(ratio) * given >= wanted else np.nextafter(ratio, np.float32(np.inf)))


def _float(shape: Shape) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch" if size < 0 else size for size in shape])
