"""Join two networks into one: rename what would clash, wire them, leave every computation as it is.

The rule: nothing is guessed. The surviving input of a shared one is the first network's (what the DFC does is not
documented, so callers read it back). Networks that are quantized already stand side by side only: each has its own
scale for its input, and one input has one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import JoinAction
from hefjoin.emulator.graph import constants_to_initializers, name_nodes, rename_tensors
from hefjoin.emulator.joined_script import as_part
from hefjoin.emulator.quantize import Encoding
from hefjoin.emulator.weights import INLINE_LIMIT_BYTES, Weight, Weights, converted, inline_bytes, take_large
from hefjoin.emulator.wiring import Side, Wiring, wiring
from hefjoin.formats.model_script import Script

Rename = Callable[[str], str]


class Network(NamedTuple):
    """A network on one side of a join, as far as it has come."""

    model: onnx.ModelProto
    hn: hn.Hn
    merged: dict[str, str]
    """Input layers that earlier joins took away, each with the one that now serves for it."""
    optimized_by: Script
    quantized: onnx.ModelProto | None
    encodings: dict[str, Encoding]
    statistics: dict[str, list[float]]
    weights: dict[str, Weight]
    """The large constants of `model` that are not in it."""


def renamed(network: Network, names: Mapping[str, str] | str | None) -> Network:
    """Return a copy with its scopes renamed, by a dictionary or, where there is one scope only, by a string.

    Raises:
        exceptions.InvalidArgumentsException: A scope does not exist, or the new names are none or clash.
    """
    mapping = _new_scopes(network.hn["net_params"]["net_scopes"], names)

    def rename(name: str) -> str:
        scope, slash, rest = name.partition("/")
        return f"{mapping.get(scope, scope)}{slash}{rest}"

    return Network(
        model=_renamed_model(network.model, rename),
        hn=hn.rename_scopes(network.hn, mapping),
        merged={rename(gone): rename(survivor) for gone, survivor in network.merged.items()},
        optimized_by=as_part(network.optimized_by, network.hn, rename),
        quantized=_renamed_model(network.quantized, rename) if network.quantized is not None else None,
        encodings={rename(name): code for name, code in network.encodings.items()},
        statistics={rename(name): values for name, values in network.statistics.items()},
        weights={rename(name): weight for name, weight in network.weights.items()},
    )


def _new_scopes(scopes: Sequence[str], names: Mapping[str, str] | str | None) -> dict[str, str]:
    if isinstance(names, str):
        if len(scopes) != 1:
            raise exceptions.InvalidArgumentsException(
                f"a single scope name for {len(scopes)} scopes; give a dictionary of {', '.join(scopes)}"
            )
        names = {scopes[0]: names}
    mapping = dict(names or {})
    new = [mapping.get(name, name) for name in scopes]
    if unknown := [name for name in mapping if name not in scopes]:
        raise exceptions.InvalidArgumentsException(
            f"scope {unknown[0]} does not exist; the scopes are {', '.join(scopes)}"
        )
    if odd := [name for name in new if not name or "/" in name]:
        raise exceptions.InvalidArgumentsException(f"scope name {odd[0]!r} must be a name without `/`")
    if len(set(new)) != len(new):
        raise exceptions.InvalidArgumentsException(f"scope names overlap: {', '.join(new)}")
    return mapping


def _renamed_model(source: onnx.ModelProto, rename: Rename) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(source)
    rename_tensors(model.graph, rename)
    for node in model.graph.node:
        node.name = rename(node.name)
    return model


def join(first: Network, second: Network, action: JoinAction, details: Mapping[str, Any]) -> Network:
    """Return the joined network. The scopes of the two must already differ; their models are consumed.

    Args:
        first: The network on the left.
        second: The one on the right.
        action: How they are wired.
        details: `join_action_info`, see `wiring`.

    Raises:
        exceptions.InvalidArgumentsException: Scopes overlap, layers do not fit together, or the network is too large.
    """
    _refuse_overlap(first.hn, second.hn)
    weights = {**first.weights, **second.weights, **_taken_out(first.model, second.model)}
    wired = wiring(Side(first.model, first.hn), Side(second.model, second.hn), action, details)
    joined = _join_hn(first.hn, second.hn, wired)
    quantized = None
    if first.quantized is not None and second.quantized is not None:
        _refuse_too_large(first.quantized, second.quantized)
        quantized = _merged((first.quantized, first.hn), (second.quantized, second.hn), wired, joined["name"], {})
    shared = {gone: source.layer for gone, source in wired.sources.items() if not source.output_layer}
    moved = {gone: shared.get(survivor, survivor) for gone, survivor in second.merged.items()}
    return Network(
        model=_merged((first.model, first.hn), (second.model, second.hn), wired, joined["name"], weights),
        hn=joined,
        merged={**first.merged, **moved, **shared},
        optimized_by=Script((*first.optimized_by.commands, *second.optimized_by.commands)),
        quantized=quantized,
        encodings={**first.encodings, **second.encodings},
        statistics={**first.statistics, **second.statistics},
        weights=weights,
    )


def input_scales(*networks: Network) -> str:
    """Return what the inputs of quantized networks are bound to, as the middle of a sentence; nothing for others."""
    texts = [
        f"{name} has the scale {code.scale:.6g} and zero point {code.zero_point}"
        for network in networks
        for name in hn.input_layers(network.hn)
        if (code := network.encodings.get(name)) is not None
    ]
    return f" ({', '.join(texts)})" if texts else ""


def _refuse_overlap(first: hn.Hn, second: hn.Hn) -> None:
    overlap = set(first["net_params"]["net_scopes"]) & set(second["net_params"]["net_scopes"])
    if overlap:
        raise exceptions.InvalidArgumentsException(
            f"scope names overlap: {', '.join(sorted(overlap))}; give scope1_name and scope2_name"
        )


def _taken_out(*models: onnx.ModelProto) -> dict[str, Weight]:
    """Take the large constants out of graphs that are too large to be one, in place, and return them."""
    if sum(map(inline_bytes, models)) <= INLINE_LIMIT_BYTES:
        return {}
    return {name: weight for model in models for name, weight in take_large(model).items()}


def _refuse_too_large(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    sizes = inline_bytes(first), inline_bytes(second)
    if sum(sizes) > INLINE_LIMIT_BYTES:
        raise exceptions.InvalidArgumentsException(
            f"the quantized networks have {sizes[0]:,} and {sizes[1]:,} bytes of weights; a joined one may have "
            f"{INLINE_LIMIT_BYTES:,}, the most that one ONNX graph holds"
        )


Part = tuple[onnx.ModelProto, hn.Hn]


def _merged(left: Part, right: Part, wired: Wiring, name: str, weights: Weights) -> onnx.ModelProto:
    """Return one graph of two. What it computes is what both did."""
    wanted = max(_opset(model) for model, _ in (left, right))
    model, other = (_converted(part, wanted, view["net_params"]["net_scopes"], weights) for part, view in (left, right))
    outputs = {
        layer: _copy(info)
        for part, view in ((model, left[1]), (other, right[1]))
        for layer, info in zip(hn.output_layers(view), part.graph.output, strict=True)
    }
    if wired.sources:
        _one_batch(model, other)
        tensors = {name: source.tensor for name, source in wired.sources.items()}
        rename_tensors(other.graph, lambda name: tensors.get(name, name))
    graph = model.graph
    fed = {info.name for info in graph.input} | {source.tensor for source in wired.sources.values()}
    graph.node.extend(other.graph.node)
    graph.initializer.extend(other.graph.initializer)
    graph.value_info.extend(info for info in other.graph.value_info if info.name not in fed)
    graph.value_info.extend(info for layer, info in outputs.items() if layer not in wired.output_layers)
    graph.input.extend(info for info in other.graph.input if info.name not in fed)
    del graph.output[:]
    graph.output.extend(outputs[layer] for layer in wired.output_layers)
    _union_of_domains(model, other)
    model.ir_version = max(model.ir_version, other.ir_version)
    graph.name = name
    return model


def _one_batch(model: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Hold all inputs to the batch of the one network that cannot take another, in place."""
    batches = [info.type.tensor_type.shape.dim[0] for part in (model, other) for info in part.graph.input]
    held = next((dim.dim_value for dim in batches if dim.dim_value), None)
    for dim in batches:
        if held is not None:
            dim.dim_value = held


def _copy(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copied = onnx.ValueInfoProto()
    copied.CopyFrom(info)
    return copied


def _converted(model: onnx.ModelProto, opset: int, scopes: Sequence[str], weights: Weights) -> onnx.ModelProto:
    """Return the model at another opset, with what the converter adds named under its first scope."""
    if _opset(model) == opset:
        return model

    def scoped(name: str) -> str:
        return name if name.partition("/")[0] in scopes else f"{scopes[0]}/onnx::{name}"

    model = converted(model, opset, weights)
    constants_to_initializers(model)
    name_nodes(model.graph)
    rename_tensors(model.graph, scoped)
    for node in model.graph.node:
        node.name = scoped(node.name)
    return model


def _opset(model: onnx.ModelProto) -> int:
    return int(next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")))


def _union_of_domains(first: onnx.ModelProto, second: onnx.ModelProto) -> None:
    known = {item.domain for item in first.opset_import}
    first.opset_import.extend(item for item in second.opset_import if item.domain not in known)


def _join_hn(first: hn.Hn, second: hn.Hn, wired: Wiring) -> hn.Hn:
    layers: dict[str, Any] = {name: {**layer} for name, layer in first["layers"].items()}
    makers = {gone: source.layer for gone, source in wired.sources.items()}
    for name, layer in second["layers"].items():
        if name in makers:
            source = wired.sources[name]
            maker = layers[source.layer]
            maker["output"] = [item for item in maker["output"] if item != source.output_layer] + layer["output"]
        else:
            layers[name] = {**layer, "input": [makers.get(item, item) for item in layer["input"]]}
    for source in wired.sources.values():
        layers.pop(source.output_layer, None)
    layers = _with_outputs_in_order(layers, wired.output_layers)
    scopes = first["net_params"]["net_scopes"] + second["net_params"]["net_scopes"]
    order = [layers[name]["input"][0] for name in wired.output_layers]
    return {
        "name": "joined_" + "_".join(scopes),
        "net_params": {**first["net_params"], "net_scopes": scopes, "output_layers_order": order},
        "layers": layers,
    }


def _with_outputs_in_order(layers: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Return the layers with each output layer in a place where one stood: readers take their order from there."""
    names = iter(order)
    places = [next(names) if layer["type"] == "output_layer" else name for name, layer in layers.items()]
    return {name: layers[name] for name in places}
