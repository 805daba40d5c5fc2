"""Post-processing on the host, behind the chip: `nms_postprocess` and `logits_layer` put outputs of their own in the
place of those they take.

Names and shapes are those of public HEFs and scripts. The boxes themselves are made up: numbers from 0 to 1, moved by
the network's outputs, so that they are there and differ between forms of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    AllocatorScriptParserException,
    NMSConfigPostprocessException,
)
from onnx import helper, numpy_helper

from fake_dfc.network import Network
from fake_dfc.script import Command

BOX_VALUES = 5
DEFAULTS = {"nms_scores_th": 0.3, "nms_iou_th": 0.6, "max_proposals_per_class": 100, "regression_length": 16}
INLINE = ("nms_scores_th", "nms_iou_th", "classes")
LOGITS = ("softmax", "argmax")


def add_boxes(network: Network, command: Command, configs: Mapping[str, Any]) -> None:
    """Replace the outputs of the scope that a configuration names with `<scope>/yolov8_nms_postprocess`.

    Raises:
        NMSConfigPostprocessException: The configuration names no layer, a layer that is not, or two scopes.
        NotImplementedError: Another architecture than YOLOv8, or another engine than the host's processor.
    """
    path = str(command.args[0]) if command.args else ""
    if command.kwargs.get("meta_arch") != "yolov8" or command.kwargs.get("engine", "cpu") != "cpu" or not path:
        raise NotImplementedError("the stand-in for the DFC has boxes of YOLOv8 with a configuration, on the CPU only")
    config = {**DEFAULTS, **configs[path], **{key: command.kwargs[key] for key in INLINE if key in command.kwargs}}
    scope = _scope(network, config.get("bbox_decoders", []))
    shape = [-1, int(config["classes"]), BOX_VALUES, int(config["max_proposals_per_class"])]
    sources = [name for name in network.order if name.startswith(f"{scope}/")]
    target = f"{scope}/yolov8_nms_postprocess"
    height, width, _ = next(iter(network.layers("input_layer").values()))["output_shapes"][0][1:]
    params = {"op": "nms", "image_dims": [height, width], **{k: v for k, v in config.items() if k != "bbox_decoders"}}
    _take(network, sources, target, shape, params)
    graph = network.model.graph
    axes = list(range(1, len(network.hn["layers"][sources[0]]["output_shapes"][0])))
    ones = np.ones((1, shape[3], shape[1], shape[2]), np.float32)  # features first, as the graph has it
    graph.initializer.append(numpy_helper.from_array(ones, f"{target}/ones"))
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 1, 1]), f"{target}/shape"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [sources[0]], [f"{target}/mean"], axes=axes),
            helper.make_node("Sigmoid", [f"{target}/mean"], [f"{target}/share"]),
            helper.make_node("Reshape", [f"{target}/share", f"{target}/shape"], [f"{target}/scalar"]),
            helper.make_node("Mul", [f"{target}/scalar", f"{target}/ones"], [target]),
        ]
    )


def add_logits(network: Network, command: Command, source: str) -> None:
    """Replace one output with its softmax or argmax over the features, under the command's own name.

    Raises:
        AllocatorScriptParserException: The layer feeds no output, or the function is unknown.
        NotImplementedError: Along another axis than the features, or not on the host's processor.
    """
    _, function, *rest = [*command.args, -1, "cpu"][:4]
    if source not in network.order or function not in LOGITS:
        raise AllocatorScriptParserException(f"logits_layer: {source} is no output, or {function} is unknown")
    if rest != [-1, "cpu"]:
        raise NotImplementedError("the stand-in for the DFC has logits over the features (-1), on the CPU only")
    (name,) = command.targets
    target = name if "/" in name else f"{source.split('/')[0]}/{name}"
    shape = list(network.hn["layers"][source]["output_shapes"][0])
    _take(network, [source], target, shape if function == "softmax" else [*shape[:-1], 1], {"op": function})
    if function == "softmax":
        network.model.graph.node.append(helper.make_node("Softmax", [source], [target], axis=1))
    else:
        network.model.graph.node.append(helper.make_node("ArgMax", [source], [target], axis=1))


def _scope(network: Network, decoders: Sequence[Mapping[str, Any]]) -> str:
    names = [value for row in decoders for key, value in row.items() if key in ("reg_layer", "cls_layer")]
    (only, *more) = network.scopes
    full = [name if "/" in name or more else f"{only}/{name}" for name in names]
    if missing := [name for name in full if name not in network.hn["layers"]]:
        raise NMSConfigPostprocessException(f"The layers {missing} in the config do not exist")
    scopes = {name.split("/")[0] for name in full}
    if len(scopes) != 1:
        raise NMSConfigPostprocessException(f"The config must name the layers of one scope, not of {sorted(scopes)}")
    return scopes.pop()


def _take(network: Network, sources: Sequence[str], target: str, shape: list[int], params: dict[str, Any]) -> None:
    """Put a layer of the host and its output in the place of the outputs of some layers."""
    layers = network.hn["layers"]
    ends = [name for name, layer in network.layers("output_layer").items() if layer["input"][0] in sources]
    end, before = {**layers[ends[0]]}, [layers[source]["output_shapes"][0] for source in sources]
    for source in sources:
        layers[source]["output"] = [*(name for name in layers[source]["output"] if name not in ends), target]
    for name in ends:
        del layers[name]
    layers[target] = {
        **{"type": "postprocess", "input": list(sources), "output": [ends[0]], "input_shapes": before},
        **{"output_shapes": [shape], "original_names": [], "compilation_params": {}, "quantization_params": {}},
        "params": params,
    }
    layers[ends[0]] = {**end, "input": [target], "input_shapes": [shape], "output_shapes": [shape]}
    order = [target if name == sources[0] else name for name in network.order if name not in sources[1:]]
    network.hn["net_params"]["output_layers_order"] = order
    del network.model.graph.output[:]
    network.model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in order)
