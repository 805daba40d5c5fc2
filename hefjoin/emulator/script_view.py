"""The HN of a network after its model script acted: new layers behind inputs, activations, the host's layers.

Sources: `normalization` and `resize` are layer types of the vendor's HN; the name `<scope>/yolov8_nms_postprocess` and
its shape are those in the vendor's HEFs. That the type of such a layer is `postprocess`, and what the types of color
and layout conversions are, is not public.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hefjoin.emulator import hn
from hefjoin.emulator.host import HostStep, Logits, places, shape_of
from hefjoin.emulator.modify import Activation, Color, Modification, Normalization, Resize, input_shape


def modified(view: hn.Hn, steps: Sequence[Modification]) -> hn.Hn:
    """Return the HN of the network that a script's modifications leave; the one given is not touched."""
    view = copy.deepcopy(view)
    for step in steps:
        if isinstance(step, Activation):
            feeding = view["net_params"]["output_layers_order"][step.output]
            view["layers"][feeding].setdefault("params", {})["activation"] = step.function
        else:
            _insert(view, step.input, step.target, _layer(step), input_shape(step, _image(view, step.input)))
    return view


def with_host_steps(view: hn.Hn, steps: Sequence[HostStep]) -> hn.Hn:
    """Return the HN with what the host does behind the chip; the one given is not touched."""
    view = copy.deepcopy(view)
    layers, order = view["layers"], view["net_params"]["output_layers_order"]
    ends = list(hn.output_layers(view))
    shapes = [layers[end]["output_shapes"][0] for end in ends]
    kept = {}
    for place in places(len(ends), steps):
        if isinstance(place, int):
            kept[ends[place]] = order[place]
            continue
        first = ends[min(place.outputs)]
        kept[first] = place.target
        kind = place.function if isinstance(place, Logits) else "postprocess"
        shape = shape_of(place, shapes)
        sources = [order[index] for index in place.outputs]
        for index in place.outputs:
            readers = layers[order[index]]["output"]
            readers[:] = [place.target if name == ends[index] else name for name in readers]
        entry = _entry(kind, sources, [first], [shapes[index] for index in place.outputs], shape)
        layers[place.target] = entry | {"params": {"engine": "cpu"}}
        layers[first] |= {"input": [place.target], "input_shapes": [shape], "output_shapes": [shape]}
    view["layers"] = {name: layer for name, layer in layers.items() if name not in ends}
    view["layers"] |= {name: layers[name] for name in kept}
    view["net_params"]["output_layers_order"] = list(kept.values())
    return view


def _layer(step: Normalization | Color | Resize | Any) -> str:
    return {Normalization: "normalization", Resize: "resize", Color: "conv"}.get(type(step), "format_conversion")


def _image(view: hn.Hn, name: str) -> list[int]:
    shape: list[int] = view["layers"][name]["output_shapes"][0]
    return shape[1:]


def _insert(view: hn.Hn, source: str, target: str, kind: str, taken: Sequence[int]) -> None:
    """Put a layer between an input layer and its readers; `taken` is the shape of the frames from now on."""
    layers = view["layers"]
    given = layers[source]["output_shapes"][0]
    readers = layers[source]["output"]
    for reader in readers:
        layers[reader]["input"] = [target if name == source else name for name in layers[reader]["input"]]
    frames = [-1, *taken]
    entry = _entry(kind, [source], readers, [frames], given)
    layers[source] |= {"output": [target], "input_shapes": [frames], "output_shapes": [frames]}
    ordered: dict[str, Any] = {}
    for name, layer in layers.items():
        ordered[name] = layer
        if name == source:
            ordered[target] = entry
    view["layers"] = ordered


def _entry(
    kind: str, inputs: list[str], outputs: list[str], taken: list[list[int]], given: list[int]
) -> dict[str, Any]:
    return {
        "type": kind,
        "input": inputs,
        "output": outputs,
        "input_shapes": taken,
        "output_shapes": [given] * len(outputs),
        "original_names": [],
        "compilation_params": {},
        "quantization_params": {},
        "params": {},
    }
