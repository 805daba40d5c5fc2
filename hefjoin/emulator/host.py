"""What the host does with the chip's outputs after a script: softmax, argmax, boxes.

The rule: it is a float graph behind the quantized one, is never quantized, and gives its results in the layout of all
outputs, features on the second axis: `infer` turns boxes into (frames, classes, 5, boxes) as it turns an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from hefjoin.emulator.nms import BOX_VALUES, Boxes, add_boxes

FEATURES = 1
"""The axis of the features in the graph."""


@dataclass(frozen=True)
class Logits:
    """Softmax or argmax over the features of one output."""

    target: str
    output: int
    """Index among the network's outputs."""
    function: str
    """`softmax` or `argmax`."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """The outputs it takes."""
        return (self.output,)


HostStep = Logits | Boxes


def with_host_side(model: onnx.ModelProto, steps: Sequence[HostStep]) -> onnx.ModelProto:
    """Return a graph that ends in what the host gives; the model itself where the host does nothing.

    Args:
        model: A graph whose outputs are the chip's, float32.
        steps: Each takes outputs of its own and stands in the place of the first.
    """
    if not steps:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    chip = [*graph.output]
    for step in steps:
        if isinstance(step, Logits):
            _add_logits(graph, step, chip[step.output].name)
        else:
            add_boxes(graph, step, [info.name for info in chip])
    ends = [_end(chip, place) for place in places(len(chip), steps)]
    del graph.output[:]
    graph.output.extend(ends)
    return changed


def places(count: int, steps: Sequence[HostStep]) -> list[int | HostStep]:
    """Return what the outputs of the host are, in order: an output of the chip, by its index, or a step.

    >>> places(3, [Logits("net/x", 1, "softmax")])
    [0, Logits(target='net/x', output=1, function='softmax'), 2]
    """
    first = {min(step.outputs): step for step in steps}
    taken = {index for step in steps for index in step.outputs}
    return [first.get(index, index) for index in range(count) if index in first or index not in taken]


def shape_of(step: HostStep, shapes: Sequence[Sequence[int]]) -> list[int]:
    """Return the shape of what a step gives, NHWC with a batch of -1, from those of the outputs."""
    if isinstance(step, Boxes):
        return [-1, step.classes, BOX_VALUES, step.boxes_per_class]
    shape = [*shapes[step.output]]
    return [*shape[:-1], 1] if step.function == "argmax" else shape


def _end(chip: Sequence[onnx.ValueInfoProto], place: int | HostStep) -> onnx.ValueInfoProto:
    if isinstance(place, int):
        return chip[place]
    if isinstance(place, Boxes):
        shape: list[str | int | None] = ["batch", place.boxes_per_class, place.classes, BOX_VALUES]
        return helper.make_tensor_value_info(place.target, TensorProto.FLOAT, shape)
    info = helper.make_value_info(place.target, chip[place.output].type)
    if place.function == "argmax":
        info.type.tensor_type.shape.dim[FEATURES].dim_value = 1
    return info


def _add_logits(graph: onnx.GraphProto, step: Logits, source: str) -> None:
    name = step.target
    if step.function == "softmax":
        graph.node.append(helper.make_node("Softmax", [source], [name], f"{name}/softmax", axis=FEATURES))
        return
    graph.node.extend(
        [
            helper.make_node("ArgMax", [source], [f"{name}/index"], f"{name}/argmax", axis=FEATURES, keepdims=1),
            helper.make_node("Cast", [f"{name}/index"], [name], f"{name}/float", to=TensorProto.FLOAT),
        ]
    )
