"""The HN: the vendor's JSON view of a network, layer by layer.

Shapes are NHWC with a batch of -1; names are `<scope>/<layer>`; a layer's `params` say what its kernel is and what it
took with it. Layers stand behind those that feed them, else in the order of their names; `output` names the readers
in that order, and `output_shapes` has one shape for each. Source of the keys and of these orders: a HAR made by
DFC 3.33; of the parameters of types that do not occur in it, the public readers of such files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hefjoin.emulator.graph import Graph, attributes
from hefjoin.emulator.layer_names import in_order
from hefjoin.emulator.layers import ACTIVATED, WEIGHTED, Layer
from hefjoin.emulator.translate import Translated

Hn = dict[str, Any]

BORDER = {"transposed": False, "engine": "nn_core", "io_type": "standard"}
"""What input and output layers have instead of `params`."""


def build(translated: Translated, scope: str) -> Hn:
    """Return the HN of one translated network."""
    graph = Graph(translated.model)
    makers = {output: f"{scope}/{layer.name}" for layer in translated.layers for output in layer.outputs}
    makers |= {info.name: info.name for info in translated.model.graph.input}
    entries: dict[str, dict[str, Any]] = {}
    for info in translated.model.graph.input:
        shape = nhwc(graph.shapes[info.name])
        entries[info.name] = _entry("input_layer", [], [shape], [translated.original_names[info.name]]) | BORDER
    for layer in translated.layers:
        entries[f"{scope}/{layer.name}"] = _layer_entry(graph, layer, scope, makers)
    for index, name in enumerate(graph.outputs, 1):
        shape, original = nhwc(graph.shapes[name]), [translated.original_names[name]]
        entries[f"{scope}/output_layer{index}"] = _entry("output_layer", [makers[name]], [shape], original) | BORDER
    return {
        "name": scope,
        "net_params": {
            "version": "1.0",
            "stage": "HN",
            "clusters_placement": [[]],
            "clusters_to_skip": [],
            "output_layers_order": [makers[name] for name in graph.outputs],
            "is_transformer": False,
            "transposed_net": False,
            "net_scopes": [scope],
            "lora_adapters": [],
        },
        "layers": _connected(entries),
    }


def _connected(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the layers in their order, each with its readers and the shape that each of them reads."""
    order = in_order({name: entry["input"] for name, entry in entries.items()}, lambda name, _: name)
    for name in order:
        for source, shape in zip(entries[name]["input"], entries[name]["input_shapes"], strict=False):
            entries[source]["output"].append(name)
            entries[source]["output_shapes"].append(shape)
    for entry in entries.values():  # what nobody reads: output layers, idle inputs
        entry["output_shapes"] = entry["output_shapes"] or entry["input_shapes"]
    return {name: entries[name] for name in order}


def input_layers(hn: Hn) -> dict[str, dict[str, Any]]:
    """Return the input layers by name."""
    return {name: layer for name, layer in hn["layers"].items() if layer["type"] == "input_layer"}


def output_layers(hn: Hn) -> dict[str, dict[str, Any]]:
    """Return the output layers by name, in the order in which `infer` returns them."""
    ends = [name for name, layer in hn["layers"].items() if layer["type"] == "output_layer"]
    ends.sort(key=lambda name: int(name.rpartition("output_layer")[2]))  # one layer may feed several
    found: dict[str, dict[str, Any]] = {}
    for feeding in hn["net_params"]["output_layers_order"]:
        name = next(end for end in ends if end not in found and hn["layers"][end]["input"] == [feeding])
        found[name] = hn["layers"][name]
    return found


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


def nhwc(shape: Sequence[int]) -> list[int]:
    """Return an ONNX shape as the HN writes it: batch -1, then height, width, features."""
    _, *rest = shape
    if len(rest) < 2:
        return [-1, *rest]
    channels, *space = rest
    return [-1, *([1] * (2 - len(space))), *space, channels]


def _layer_entry(graph: Graph, layer: Layer, scope: str, makers: Mapping[str, str]) -> dict[str, Any]:
    entry = _entry(
        layer.type,
        [makers[name] for name in layer.inputs],
        [nhwc(graph.shapes[name]) for name in layer.inputs],
        [node.name.removeprefix(f"{scope}/") for node in layer.nodes],
    )
    return entry | {"params": _params(graph, layer)}


def _entry(kind: str, inputs: list[str], input_shapes: list[Any], original: list[str]) -> dict[str, Any]:
    return {
        "type": kind,
        "input": inputs,
        "output": [],
        "input_shapes": input_shapes,
        "output_shapes": [],
        "original_names": original,
        "compilation_params": {},
        "quantization_params": {},
    }


def _params(graph: Graph, layer: Layer) -> dict[str, Any]:
    params: dict[str, Any] = {"activation": layer.activation} if layer.type in ACTIVATED else {}
    given: dict[str, Any] = attributes(layer.main)
    if layer.type in ("maxpool", "avgpool") and "kernel_shape" in given:
        params |= {"kernel_shape": [1, *given["kernel_shape"], 1], "strides": _nhwc_pair(given, "strides")}
    if layer.type not in WEIGHTED:
        return params | ({"elementwise_add": False} if layer.type == "normalization" else {})
    params |= {
        "kernel_shape": _kernel_shape(layer, list(graph.shapes[layer.main.input[1]]), given),
        "batch_norm": any(node.op_type == "BatchNormalization" for node in layer.nodes),
    }
    if layer.type == "dense":
        return params
    return params | {
        "elementwise_add": False,
        "strides": _nhwc_pair(given, "strides"),
        "dilations": _nhwc_pair(given, "dilations"),
        "groups": given.get("group", 1),
    }


def _kernel_shape(layer: Layer, kernel: list[int], given: Mapping[str, Any]) -> list[int]:
    """Return (height, width, input features, output features); a dense layer's is (inputs, outputs)."""
    if layer.type == "dense":
        outputs_first = layer.main.op_type == "Conv" or given.get("transB")
        return kernel[1::-1] if outputs_first else kernel
    first, second, *space = kernel
    space = [1] * (2 - len(space)) + space
    if layer.type == "deconv":
        group = int(given.get("group", 1))
        return [*space, first // group, second * group]
    return [*space, second, first]


def _nhwc_pair(given: Mapping[str, Any], name: str) -> list[int]:
    pair = list(given.get(name, [1, 1]))
    return [1, *([1] * (2 - len(pair))), *pair, 1]
