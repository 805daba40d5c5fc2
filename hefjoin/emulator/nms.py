"""`nms_postprocess` on the host: boxes decoded from a detector's outputs, and the best of those that overlap.

The rule: the arithmetic is that of the runtime, which does it for a real HEF.

Sources: `yolov8_post_process.*`, `yolov5_post_process.*` and `nms_post_process.cpp` of hailo-ai/hailort 4.x; the
configurations in `cfg/postprocess_config` of hailo_model_zoo. SSD is not here: which of its four values is which, the
compiler writes into the HEF, and no public configuration says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hefjoin.emulator.graph import Array
from hefjoin.formats.model_script import Command, Word
from hefjoin.formats.model_script_commands import EMULATED_DETECTORS

BOX_VALUES = 5
"""y_min, x_min, y_max, x_max as shares of the image, and the score."""
NOTHING = -1.0
"""Stands where a score was too low or a box was covered; scores are at least 0."""
INLINE = ("nms_scores_th", "nms_iou_th", "classes")
"""Values of the configuration that the command itself may give."""

Outputs = Mapping[str, tuple[int, Sequence[int]]]
"""Place and shape (height, width, features) of each output, by the layer that feeds it."""


@dataclass(frozen=True)
class Decoder:
    """A pair of outputs of one size."""

    regression: int
    """Index of the output with four distributions of distances per pixel."""
    scores: int
    """Index of the output with a score per class."""
    height: int
    width: int
    stride: float
    """Pixels of the image per pixel of the outputs."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of a YOLOv8 detector, per class the best first."""

    target: str
    decoders: tuple[Decoder, ...]
    classes: int
    boxes_per_class: int
    bins: int
    """Length of a distribution of distances."""
    image_height: float
    image_width: float
    score_threshold: float
    iou_threshold: float

    @property
    def outputs(self) -> tuple[int, ...]:
        """The outputs it takes."""
        return tuple(index for decoder in self.decoders for index in (decoder.regression, decoder.scores))


def read_boxes(command: Command, config: Mapping[str, Any], outputs: Outputs) -> Boxes:
    """Return what a command and its configuration ask for.

    Args:
        command: `nms_postprocess`.
        config: The content of its JSON file.
        outputs: The network's.

    Raises:
        ValueError: Something is missing, wrong, or not emulated; lists all of it.
    """
    reader = _Configuration({**config, **{key: value for key, value in command.kwargs if key in INLINE}}, outputs)
    architecture = next((str(word) for word in command.args if isinstance(word, Word)), None)
    architecture = str(command.get("meta_arch", architecture))
    engine = str(command.get("engine", "cpu"))
    if architecture not in EMULATED_DETECTORS:
        reader.problems.append(f"meta_arch {architecture}: the emulator has {', '.join(EMULATED_DETECTORS)}")
    if engine not in ("cpu", "auto"):
        reader.problems.append(f"engine {engine}: the emulator has it on the host, with engine cpu")
    known = (*INLINE, "meta_arch", "engine", "config_path")
    if others := [key for key, _ in command.kwargs if key not in known]:
        reader.problems.append(f"{', '.join(others)}: not emulated")
    return reader.boxes(architecture)


class _Configuration:
    """Reads a configuration and gathers what is wrong with it."""

    def __init__(self, config: Mapping[str, Any], outputs: Outputs) -> None:
        self.config = config
        self.outputs = outputs
        self.problems: list[str] = []

    def boxes(self, architecture: str) -> Boxes:
        if self.config.get("background_removal"):
            self.problems.append("background_removal: not emulated")
        score, iou = (self.number(self.config, key, most=1.0) for key in ("nms_scores_th", "nms_iou_th"))
        if self.config.get("nms_iou_th") == 0:
            self.problems.append("nms_iou_th: 0 counts boxes apart as overlapping; a number above it is needed")
        classes, most, bins = map(self.whole, ("classes", "max_proposals_per_class", "regression_length"))
        height, width = self.image()
        entries = self.config.get("bbox_decoders")
        if not isinstance(entries, list) or not entries:
            self.problems.append("bbox_decoders: a list of decoders is needed")
            entries = []
        decoders = [self.decoder(f"bbox_decoders[{i}]", entry, classes, bins) for i, entry in enumerate(entries)]
        if self.problems:
            raise ValueError("cannot be emulated as configured: " + "; ".join(self.problems))
        scope = str(entries[0]["cls_layer"]).rpartition("/")[0]
        scope = scope or next(name for name in self.outputs if "/" in name).partition("/")[0]
        return Boxes(
            target=f"{scope}/{architecture}_nms_postprocess",
            decoders=tuple(filter(None, decoders)),
            classes=classes,
            boxes_per_class=most,
            bins=bins,
            image_height=height,
            image_width=width,
            score_threshold=score,
            iou_threshold=iou,
        )

    def decoder(self, where: str, entry: Any, classes: int, bins: int) -> Decoder | None:
        if not isinstance(entry, dict):
            self.problems.append(f"{where}: an object is needed")
            return None
        stride = self.number(entry, "stride", where=f"{where}.")
        pair = [self.output(f"{where}.{key}", entry.get(key)) for key in ("reg_layer", "cls_layer")]
        if None in pair:
            return None
        (regression, shape), (scores, other) = (item for item in pair if item is not None)
        if list(shape[:2]) != list(other[:2]) or len(shape) != 3:
            self.problems.append(f"{where}: its layers have the shapes {list(shape)} and {list(other)}, of two sizes")
        elif (shape[2], other[2]) != (4 * bins, classes):
            self.problems.append(
                f"{where}: its layers have {shape[2]} and {other[2]} features; 4 x regression_length is {4 * bins} and "
                f"classes is {classes}"
            )
        return Decoder(regression, scores, shape[0], shape[1], stride)

    def output(self, where: str, name: Any) -> tuple[int, Sequence[int]] | None:
        if name not in self.outputs:
            self.problems.append(f"{where}: {name!r} feeds no output; {', '.join(self.outputs)} do")
            return None
        return self.outputs[name]

    def image(self) -> tuple[float, float]:
        sizes = self.config.get("image_dims")
        if not isinstance(sizes, list) or len(sizes) != 2:
            self.problems.append(f"image_dims: [height, width] is needed, not {sizes!r}")
            return 1.0, 1.0
        height, width = (self.number({"image_dims": size}, "image_dims") for size in sizes)
        return height, width

    def number(self, source: Mapping[str, Any], key: str, most: float | None = None, where: str = "") -> float:
        value = source.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= (most or value):
            upper = f" and at most {most}" if most else ""
            self.problems.append(f"{where}{key}: a number of at least 0{upper} is needed, not {value!r}")
            return 0.0
        return float(value)

    def whole(self, key: str) -> int:
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problems.append(f"{key}: a whole number above zero is needed, not {value!r}")
            return 1
        return value


def add_boxes(graph: onnx.GraphProto, step: Boxes, outputs: Sequence[str]) -> None:
    """Append a detector's post-processing to a graph, in place.

    The result is float32, shape (frames, boxes, classes, 5), the best box of a class first, zeros behind the last.

    Args:
        graph: Opset 13 or later.
        step: What to decode.
        outputs: Names of the chip's outputs.
    """
    writer = _Writer(graph, step.target)
    parts = [_decoded(writer, step, decoder, outputs[decoder.regression]) for decoder in step.decoders]
    boxes = writer.add("Concat", parts, axis=1)
    shape = writer.constant("scores_shape", np.array([0, step.classes, -1]))
    flat = [writer.add("Reshape", [outputs[decoder.scores], shape]) for decoder in step.decoders]
    scores = writer.add("Concat", flat, axis=2)
    _best(writer, step, boxes, scores)


def _decoded(writer: _Writer, step: Boxes, decoder: Decoder, source: str) -> str:
    """Add the boxes of one pair of outputs: float32, shape (frames, height · width, 4), corners as shares.

    A distance is the mean of its distribution, in pixels of the output, from the pixel's center to one side.
    """
    pixels = decoder.height * decoder.width
    shape = writer.constant("bins_shape", np.array([0, 4, step.bins, pixels]))
    shares = writer.add("Softmax", [writer.add("Reshape", [source, shape])], axis=2)
    weights = np.arange(step.bins, dtype=np.float32).reshape(1, 1, -1, 1)
    weighted = writer.add("Mul", [shares, writer.constant("bins", weights)])
    distances = writer.add("ReduceSum", [weighted, writer.constant("bins_axis", np.array([2]))], keepdims=0)
    # Left, top, right, bottom become y_min, x_min, y_max, x_max.
    ordered = writer.add("Gather", [distances, writer.constant("sides", np.array([1, 0, 3, 2]))], axis=1)
    pixel = decoder.stride / np.array([step.image_height, step.image_width], dtype=np.float32)
    rows, columns = np.divmod(np.arange(pixels), decoder.width)
    centers = (np.stack([rows, columns]) + 0.5) * pixel[:, None]
    steps = np.concatenate([-pixel, pixel]).reshape(1, 4, 1)
    moved = writer.add("Mul", [ordered, writer.floats("steps", steps)])
    corners = writer.add("Add", [moved, writer.floats("centers", np.concatenate([centers, centers])[None])])
    return writer.add("Transpose", [corners], perm=[0, 2, 1])


def _best(writer: _Writer, step: Boxes, boxes: str, scores: str) -> None:
    """Add the suppression: of each class the best boxes that overlap no better one."""
    count = sum(decoder.height * decoder.width for decoder in step.decoders)
    kept = min(step.boxes_per_class, count)
    limits = [
        writer.constant("most", np.array([kept])),
        # A score equal to the threshold is kept, an overlap equal to it is not; the operator has it the other way.
        writer.floats("iou", _just_below(step.iou_threshold)),
        writer.floats("score", _just_below(step.score_threshold)),
    ]
    chosen = writer.add("NonMaxSuppression", [boxes, scores, *limits])
    size = writer.add("Shape", [scores])
    nothing = writer.add("ConstantOfShape", [size], value=_fill(NOTHING))
    values = writer.add("GatherND", [scores, chosen])
    masked = writer.add("ScatterND", [nothing, chosen, values])
    best, places = writer.add_two("TopK", [masked, writer.constant("kept", np.array([kept]))], axis=2)
    last = writer.constant("last", np.array([3]))
    corners = writer.add("GatherND", [boxes, writer.add("Unsqueeze", [places, last])], batch_dims=1)
    whole = writer.add("Concat", [corners, writer.add("Unsqueeze", [best, last])], axis=3)
    is_box = writer.add("Unsqueeze", [writer.add("GreaterOrEqual", [best, writer.floats("zero", np.zeros(1))]), last])
    clean = writer.add("Where", [is_box, whole, writer.floats("none", np.zeros(1))])
    if kept < step.boxes_per_class:
        pads = [0, 0, 0, 0, 0, 0, step.boxes_per_class - kept, 0]
        clean = writer.add("Pad", [clean, writer.constant("pads", np.array(pads))])
    writer.add("Transpose", [clean], step.target, perm=[0, 2, 1, 3])


class _Writer:
    """Appends nodes whose tensors are named after the layer and numbered."""

    def __init__(self, graph: onnx.GraphProto, target: str) -> None:
        self.graph = graph
        self.target = target
        self.count = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{self.target}/{what}{self.count}"

    def add(self, operator: str, inputs: Sequence[str], result: str = "", **attributes: Any) -> str:
        name = self.name(operator.lower())
        self.graph.node.append(helper.make_node(operator, inputs, [result or name], name, **attributes))
        return result or name

    def add_two(self, operator: str, inputs: Sequence[str], **attributes: Any) -> tuple[str, str]:
        first, second = self.name(operator.lower()), self.name(operator.lower())
        self.graph.node.append(helper.make_node(operator, inputs, [first, second], first, **attributes))
        return first, second

    def floats(self, what: str, value: Array) -> str:
        return self.constant(what, value.astype(np.float32))

    def constant(self, what: str, value: Array) -> str:
        name = self.name(what)
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def _just_below(value: float) -> Array:
    return np.nextafter(np.array([value], dtype=np.float32), np.float32(-1))


def _fill(value: float) -> onnx.TensorProto:
    return helper.make_tensor("value", TensorProto.FLOAT, [1], [value])
