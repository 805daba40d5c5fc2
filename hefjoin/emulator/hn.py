"""The HN: the vendor's JSON view of a network, layer by layer.

Shapes are NHWC with a batch of -1; names are `<scope>/<layer>`; a layer's `params` say what its kernel is and
what it took with it. Source of the keys: a HAR made by DFC 3.33 and the public readers of such files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hefjoin.emulator.graph import Graph, attributes
from hefjoin.emulator.layers import WEIGHTED, Layer
from hefjoin.emulator.translate import Translated

Hn = dict[str, Any]


def build(translated: Translated, scope: str) -> Hn:
    """Return the HN of one translated network."""
    graph = Graph(translated.model)
    makers = {output: f"{scope}/{layer.name}" for layer in translated.layers for output in layer.outputs}
    makers |= {info.name: info.name for info in translated.model.graph.input}
    entries: dict[str, dict[str, Any]] = {}
    for info in translated.model.graph.input:
        shape = _nhwc_of(graph, info.name)
        entries[info.name] = _entry("input_layer", [], [shape], [shape], [translated.original_names[info.name]])
    for layer in translated.layers:
        entries[f"{scope}/{layer.name}"] = _layer_entry(graph, layer, scope, makers)
    order = []
    for index, name in enumerate(graph.outputs, 1):
        maker, shape = makers[name], nhwc(graph.shapes[name])
        original = [translated.original_names[name]]
        entries[f"{scope}/output_layer{index}"] = _entry("output_layer", [maker], [shape], [shape], original)
        order.append(maker)
    for name, entry in entries.items():
        for source in entry["input"]:
            entries[source]["output"].append(name)
    return {
        "name": scope,
        "net_params": {
            "version": "1.0",
            "stage": "HN",
            "clusters_placement": [[]],
            "clusters_to_skip": [],
            "output_layers_order": order,
            "transposed_net": False,
            "net_scopes": [scope],
        },
        "layers": entries,
    }


def input_layers(hn: Hn) -> dict[str, dict[str, Any]]:
    """Return the input layers by name."""
    return {name: layer for name, layer in hn["layers"].items() if layer["type"] == "input_layer"}


def output_layers(hn: Hn) -> dict[str, dict[str, Any]]:
    """Return the output layers by name, in the order in which `infer` returns them."""
    return {name: layer for name, layer in hn["layers"].items() if layer["type"] == "output_layer"}


def computing_layers(hn: Hn) -> dict[str, dict[str, Any]]:
    """Return the layers that occupy the chip: all but inputs, outputs, constants and mere views."""
    passive = ("input_layer", "output_layer", "const_input", "format_conversion")
    return {name: layer for name, layer in hn["layers"].items() if layer["type"] not in passive}


def rename_scopes(hn: Hn, scopes: Mapping[str, str]) -> Hn:
    """Return the HN with its scopes renamed; a scope that the mapping leaves out keeps its name."""

    def rename(name: str) -> str:
        scope, slash, rest = name.partition("/")
        return f"{scopes.get(scope, scope)}{slash}{rest}"

    layers = {
        rename(name): {
            **layer,
            "input": [rename(item) for item in layer["input"]],
            "output": [rename(item) for item in layer["output"]],
        }
        for name, layer in hn["layers"].items()
    }
    params = {
        **hn["net_params"],
        "output_layers_order": [rename(item) for item in hn["net_params"]["output_layers_order"]],
        "net_scopes": [scopes.get(item, item) for item in hn["net_params"]["net_scopes"]],
    }
    return {"name": scopes.get(hn["name"], hn["name"]), "net_params": params, "layers": layers}


def nhwc(shape: Sequence[int], channels_last: bool = False) -> list[int]:
    """Return an ONNX shape as the HN writes it: batch -1, then height, width, features."""
    _, *rest = shape
    if channels_last or len(rest) < 2:
        return [-1, *rest]
    channels, *space = rest
    return [-1, *([1] * (2 - len(space))), *space, channels]


def is_channels_last(shape: Sequence[int]) -> bool:
    """Return whether a rank-4 ONNX input is laid out NHWC: few channels last, and not second."""
    return len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)


def _nhwc_of(graph: Graph, name: str) -> list[int]:
    shape = graph.shapes[name]
    return nhwc(shape, name not in graph.producer and is_channels_last(shape))


def _layer_entry(graph: Graph, layer: Layer, scope: str, makers: Mapping[str, str]) -> dict[str, Any]:
    prefix = f"{scope}/"
    entry = _entry(
        layer.type,
        [makers[name] for name in layer.inputs],
        [_nhwc_of(graph, name) for name in layer.inputs],
        [nhwc(graph.shapes[name]) for name in layer.outputs],
        [node.name.removeprefix(prefix) for node in layer.nodes],
    )
    entry["params"] = _params(graph, layer)
    return entry


def _entry(
    kind: str, inputs: list[str], input_shapes: list[Any], output_shapes: list[Any], original: list[str]
) -> dict[str, Any]:
    return {
        "type": kind,
        "input": inputs,
        "output": [],
        "input_shapes": input_shapes,
        "output_shapes": output_shapes,
        "original_names": original,
        "compilation_params": {},
        "quantization_params": {},
    }


def _params(graph: Graph, layer: Layer) -> dict[str, Any]:
    params: dict[str, Any] = {"activation": layer.activation}
    given: dict[str, Any] = attributes(layer.main)
    if layer.type not in WEIGHTED:
        if "kernel_shape" in given:
            params |= {"kernel_shape": [1, *given["kernel_shape"], 1], "strides": _nhwc_pair(given, "strides")}
        return params
    kernel = list(graph.shapes[layer.main.input[1]])
    params |= {
        "kernel_shape": _kernel_shape(layer, kernel, given),
        "batch_norm": any(node.op_type == "BatchNormalization" for node in layer.nodes),
        "elementwise_add": layer.elementwise_add,
    }
    if layer.type != "dense":
        params |= {
            "strides": _nhwc_pair(given, "strides"),
            "dilations": _nhwc_pair(given, "dilations"),
            "groups": given.get("group", 1),
        }
    return params


def _kernel_shape(layer: Layer, kernel: list[int], given: Mapping[str, Any]) -> list[int]:
    """Return (height, width, input features, output features); a dense layer's is (inputs, outputs)."""
    if layer.type == "dense":
        return kernel[::-1] if given.get("transB") else kernel
    first, second, *space = kernel
    space = [1] * (2 - len(space)) + space
    if layer.type == "deconv":
        group = int(given.get("group", 1))
        return [*space, first // group, second * group]
    return [*space, second, first]


def _nhwc_pair(given: Mapping[str, Any], name: str) -> list[int]:
    pair = list(given.get(name, [1, 1]))
    return [1, *([1] * (2 - len(pair))), *pair, 1]
