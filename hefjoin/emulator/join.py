"""Join two networks into one: rename what would clash, share the input, leave every computation as it is.

The rule: nothing is guessed. Shapes, types and layouts of inputs that are to be shared must be equal; the
surviving input is the first network's (what the DFC does is not documented, so callers read it back).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import version_converter

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import JoinAction
from hefjoin.emulator.graph import constants_to_initializers, name_nodes, rename_tensors


class Network(NamedTuple):
    """A network on one side of a join."""

    model: onnx.ModelProto
    hn: hn.Hn
    merged: dict[str, str]
    """Input layers that earlier joins took away, each with the one that now serves for it."""


def renamed(network: Network, names: Mapping[str, str] | str | None) -> Network:
    """Return a copy with its scopes renamed, by a dictionary or, where there is one scope only, by a string.

    Raises:
        exceptions.InvalidArgumentsException: A scope does not exist, or the new names are none or clash.
    """
    scopes = network.hn["net_params"]["net_scopes"]
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

    def rename(name: str) -> str:
        scope, slash, rest = name.partition("/")
        return f"{mapping.get(scope, scope)}{slash}{rest}"

    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    rename_tensors(model.graph, rename)
    for node in model.graph.node:
        node.name = rename(node.name)
    merged = {rename(gone): rename(survivor) for gone, survivor in network.merged.items()}
    return Network(model, hn.rename_scopes(network.hn, mapping), merged)


def join(first: Network, second: Network, action: JoinAction) -> Network:
    """Return the joined network. The scopes of the two must already differ; their models are consumed.

    Raises:
        exceptions.InvalidArgumentsException: The inputs may not be shared, or scopes overlap.
    """
    _refuse_overlap(first.hn, second.hn)
    shared: dict[str, str] = {}
    if action is JoinAction.AUTO_JOIN_INPUTS:
        shared = _shared_input(first, second)
    wanted = max(_opset(first.model), _opset(second.model))
    model, other = (_converted(side.model, wanted, side.hn["net_params"]["net_scopes"]) for side in (first, second))
    rename_tensors(other.graph, lambda name: shared.get(name, name))
    graph = model.graph
    graph.node.extend(other.graph.node)
    graph.initializer.extend(other.graph.initializer)
    graph.value_info.extend(info for info in other.graph.value_info if info.name not in shared.values())
    graph.input.extend(info for info in other.graph.input if info.name not in shared.values())
    graph.output.extend(other.graph.output)
    _union_of_domains(model, other)
    model.ir_version = max(model.ir_version, other.ir_version)
    joined = _join_hn(first.hn, second.hn, shared)
    graph.name = joined["name"]
    moved = {gone: shared.get(survivor, survivor) for gone, survivor in second.merged.items()}
    return Network(model, joined, {**first.merged, **moved, **shared})


def _refuse_overlap(first: hn.Hn, second: hn.Hn) -> None:
    overlap = set(first["net_params"]["net_scopes"]) & set(second["net_params"]["net_scopes"])
    if overlap:
        raise exceptions.InvalidArgumentsException(
            f"scope names overlap: {', '.join(sorted(overlap))}; give scope1_name and scope2_name"
        )


def _shared_input(first: Network, second: Network) -> dict[str, str]:
    inputs = (list(first.model.graph.input), list(second.model.graph.input))
    if any(len(found) != 1 for found in inputs):
        raise exceptions.InvalidArgumentsException(
            f"auto_join_inputs joins networks with one input each, these have {len(inputs[0])} and {len(inputs[1])}"
        )
    (keep,), (drop,) = inputs
    _one_batch(keep, drop)
    if keep.type != drop.type:
        shapes = [
            hn.input_layers(view)[info.name]["input_shapes"][0] for view, info in ((first.hn, keep), (second.hn, drop))
        ]
        raise exceptions.InvalidArgumentsException(
            f"inputs differ: {keep.name} is {_type_text(keep)}, {drop.name} is {_type_text(drop)} "
            f"(as layers: {shapes[0]} and {shapes[1]})"
        )
    return {drop.name: keep.name}


def _type_text(info: onnx.ValueInfoProto) -> str:
    tensor = info.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{kind} {[dim.dim_param or dim.dim_value for dim in tensor.shape.dim]}"


def _one_batch(keep: onnx.ValueInfoProto, drop: onnx.ValueInfoProto) -> None:
    """Hold both inputs to the batch of the one network that cannot take another, in place."""
    batches = [info.type.tensor_type.shape.dim[0] for info in (keep, drop)]
    held = next((dim.dim_value for dim in batches if dim.dim_value), None)
    for dim in batches:
        if held is not None and not dim.dim_value:
            dim.dim_value = held


def _converted(model: onnx.ModelProto, opset: int, scopes: Sequence[str]) -> onnx.ModelProto:
    """Return the model at another opset, with what the converter adds named under its first scope."""
    if _opset(model) == opset:
        return model

    def scoped(name: str) -> str:
        return name if name.partition("/")[0] in scopes else f"{scopes[0]}/onnx::{name}"

    model = version_converter.convert_version(model, opset)
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


def _join_hn(first: hn.Hn, second: hn.Hn, shared: Mapping[str, str]) -> hn.Hn:
    layers: dict[str, Any] = {name: {**layer} for name, layer in first["layers"].items()}
    for name, layer in second["layers"].items():
        if name in shared:
            survivor = layers[shared[name]]
            survivor["output"] = survivor["output"] + layer["output"]
        else:
            layers[name] = {**layer, "input": [shared.get(item, item) for item in layer["input"]]}
    scopes = first["net_params"]["net_scopes"] + second["net_params"]["net_scopes"]
    order = first["net_params"]["output_layers_order"] + second["net_params"]["output_layers_order"]
    return {
        "name": "joined_" + "_".join(scopes),
        "net_params": {**first["net_params"], "net_scopes": scopes, "output_layers_order": order},
        "layers": layers,
    }
