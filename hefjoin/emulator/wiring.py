"""Which inputs of the second network of a join are fed by what of the first, and in which order the outputs are.

The rule: nothing is guessed. What feeds an input must have its shape and type; all that does not is told at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import onnx

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import JoinAction, JoinOutputLayersOrder
from hefjoin.emulator.graph import Graph

OUTPUT_LAYERS_ORDER = "output_layers_order"
"""The key of `join_action_info` that names no layer."""


class Source(NamedTuple):
    """What feeds an input of the second network."""

    layer: str
    """An input layer of the first network, or the layer in front of one of its output layers."""
    tensor: str
    output_layer: str = ""
    """The output layer that is consumed; empty where an input is shared."""


class Wiring(NamedTuple):
    """How two networks hang together."""

    sources: dict[str, Source]
    """By input layer of the second network."""
    output_layers: list[str]
    """Of the joined network, in order."""


class Side:
    """The ends of one of the two networks."""

    def __init__(self, model: onnx.ModelProto, view: hn.Hn) -> None:
        """Take a graph and its HN."""
        self.inputs = hn.input_layers(view)
        self.outputs = list(hn.output_layers(view))
        self._ends = hn.output_layers(view)
        self._tensors = {name: name for name in self.inputs}
        self._tensors |= {name: info.name for name, info in zip(self.outputs, model.graph.output, strict=True)}
        self._shapes = Graph(model).shapes

    def described(self, layer: str) -> str:
        """Return the shape of an input or output layer (NHWC), and the axes of the graph where they are others."""
        shape = (self.inputs.get(layer) or self._ends[layer])["input_shapes"][0]
        axes = len(self._shapes[self._tensors[layer]])
        return f"{shape}" + (f" ({axes} axes)" if axes != len(shape) else "")

    def source(self, layer: str) -> Source:
        """Return what an input or output layer offers to another network."""
        if layer in self.inputs:
            return Source(layer, layer)
        return Source(self._ends[layer]["input"][0], self._tensors[layer], layer)


def wiring(first: Side, second: Side, action: JoinAction, details: Mapping[str, Any]) -> Wiring:
    """Return how two networks are to be joined.

    Args:
        first: The network on the left, its scopes renamed.
        second: The one on the right.
        action: What was asked for.
        details: `join_action_info`: for CUSTOM, input or output layers of the first network to input layers of the
            second and, under `OUTPUT_LAYERS_ORDER`, a JoinOutputLayersOrder.

    Raises:
        exceptions.InvalidArgumentsException: Layers that do not exist, or that do not fit together; all are listed.
    """
    if odd := [item for item in details.items() if item[0] != OUTPUT_LAYERS_ORDER and not all(map(_is_text, item))]:
        raise exceptions.InvalidArgumentsException(f"join_action_info maps layers to layers, has {odd[0]!r}")
    pairs = {key: value for key, value in details.items() if key != OUTPUT_LAYERS_ORDER}
    order = details.get(OUTPUT_LAYERS_ORDER)
    if details and action is not JoinAction.CUSTOM:
        raise exceptions.InvalidArgumentsException(f"join_action_info has no use with {action}")
    if order is not None and not isinstance(order, JoinOutputLayersOrder):
        raise exceptions.InvalidArgumentsException(
            f"{OUTPUT_LAYERS_ORDER} must be a JoinOutputLayersOrder, is {order!r}"
        )
    if action is JoinAction.CUSTOM and not pairs:
        raise exceptions.InvalidArgumentsException(
            "custom joins what join_action_info says, {'<scope1>/<layer>': '<scope2>/<layer>'}, and it says nothing"
        )
    if action is JoinAction.AUTO_JOIN_INPUTS:
        pairs = _only_inputs(first, second)
    _refuse_unknown(pairs, first, second)
    _refuse_unlike(pairs, first, second)
    sources = {value: first.source(key) for key, value in pairs.items()}
    return Wiring(sources, _output_layers(first, second, sources, is_in_place=order is not None))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _only_inputs(first: Side, second: Side) -> dict[str, str]:
    left, right = list(first.inputs), list(second.inputs)
    if len(left) != 1 or len(right) != 1:
        raise exceptions.InvalidArgumentsException(
            f"auto_join_inputs joins networks with one input each, these have {len(left)} and {len(right)} "
            f"({', '.join(left)}; {', '.join(right)})"
        )
    return {left[0]: right[0]}


def _refuse_unknown(pairs: Mapping[str, str], first: Side, second: Side) -> None:
    ends, inputs = [*first.inputs, *first.outputs], list(second.inputs)
    problems = [
        f"{key} is no input or output layer of the first network, which has {', '.join(ends)}"
        for key in pairs
        if key not in ends
    ]
    for value, times in Counter(pairs.values()).items():
        if value not in inputs:
            problems.append(f"{value} is no input layer of the second network, which has {', '.join(inputs)}")
        elif times > 1:
            problems.append(f"{value} is fed by {times} layers")
    if problems:
        raise exceptions.InvalidArgumentsException("\n".join(problems))


def _refuse_unlike(pairs: Mapping[str, str], first: Side, second: Side) -> None:
    problems = []
    for key, value in pairs.items():
        left, right = first.described(key), second.described(value)
        if left != right:
            problems.append(f"{key} is {left}, {value} is {right}")
    if problems:
        raise exceptions.InvalidArgumentsException(f"inputs differ: {'; '.join(problems)}")


def _output_layers(first: Side, second: Side, sources: Mapping[str, Source], *, is_in_place: bool) -> list[str]:
    consumed = {source.output_layer for source in sources.values()}
    kept = [name for name in first.outputs if name not in consumed]
    if not is_in_place:
        return [*kept, *second.outputs]
    place = next((index for index, name in enumerate(first.outputs) if name in consumed), len(first.outputs))
    return [*first.outputs[:place], *second.outputs, *(name for name in first.outputs[place:] if name in kept)]
