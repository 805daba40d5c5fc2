"""Join two networks into one: rename what would clash, share the input, leave every computation as it is.

The rule: nothing is guessed. Shapes, types and layouts of inputs that are to be shared must be equal; the
surviving input is the first network's (what the DFC does is not documented, so callers read it back).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import version_converter

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import JoinAction
from hefjoin.emulator.graph import rename_tensors


def join(
    first: onnx.ModelProto, first_hn: hn.Hn, second: onnx.ModelProto, second_hn: hn.Hn, action: JoinAction
) -> tuple[onnx.ModelProto, hn.Hn]:
    """Return the joined graph and HN. The scopes of the two must already differ; the models are consumed.

    Raises:
        exceptions.InvalidArgumentsException: The inputs may not be shared, or scopes overlap.
    """
    _refuse_overlap(first_hn, second_hn)
    shared: dict[str, str] = {}
    if action is JoinAction.AUTO_JOIN_INPUTS:
        shared = _shared_input(first, first_hn, second, second_hn)
    first, second = _one_opset(first, second)
    rename_tensors(second.graph, lambda name: shared.get(name, name))
    graph = first.graph
    graph.node.extend(second.graph.node)
    graph.initializer.extend(second.graph.initializer)
    graph.value_info.extend(info for info in second.graph.value_info if info.name not in shared.values())
    graph.input.extend(info for info in second.graph.input if info.name not in shared.values())
    graph.output.extend(second.graph.output)
    _union_of_domains(first, second)
    first.ir_version = max(first.ir_version, second.ir_version)
    joined = _join_hn(first_hn, second_hn, shared)
    graph.name = joined["name"]
    return first, joined


def _refuse_overlap(first: hn.Hn, second: hn.Hn) -> None:
    overlap = set(first["net_params"]["net_scopes"]) & set(second["net_params"]["net_scopes"])
    if overlap:
        raise exceptions.InvalidArgumentsException(
            f"scope names overlap: {', '.join(sorted(overlap))}; give scope1_name and scope2_name"
        )


def _shared_input(first: onnx.ModelProto, first_hn: hn.Hn, second: onnx.ModelProto, second_hn: hn.Hn) -> dict[str, str]:
    inputs = (list(first.graph.input), list(second.graph.input))
    if any(len(found) != 1 for found in inputs):
        raise exceptions.InvalidArgumentsException(
            f"auto_join_inputs joins networks with one input each, these have {len(inputs[0])} and {len(inputs[1])}"
        )
    (keep,), (drop,) = inputs
    if keep.type != drop.type:
        shapes = [
            hn.input_layers(view)[info.name]["input_shapes"][0] for view, info in ((first_hn, keep), (second_hn, drop))
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


def _one_opset(first: onnx.ModelProto, second: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    wanted = max(_opset(first), _opset(second))
    return tuple(  # type: ignore[return-value]
        model if _opset(model) == wanted else version_converter.convert_version(model, wanted)
        for model in (first, second)
    )


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
