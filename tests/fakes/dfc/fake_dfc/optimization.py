"""What the script's modifications and the quantization make of a network's graph.

Every layer's result is rounded to its own scale and zero point, weights to one scale each: crude, and enough for
outputs that differ from the float ones and resemble them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import AllocatorScriptParserException
from onnx import TensorProto, helper, numpy_helper

from fake_dfc import host
from fake_dfc.engine import Array, run
from fake_dfc.network import Network
from fake_dfc.script import Command, Glob

ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh"}
WEIGHT_STEPS = 127
FLOOR = 1e-6

Encoding = dict[str, float]
"""bits, zero_point, scale, low, high: real = (quantized - zero_point) * scale."""


def scoped(network: Network, name: str) -> str:
    """Return a layer's full name; where there is one scope, it may be left out.

    Raises:
        AllocatorScriptParserException: There is no such layer.
    """
    full = name if "/" in name or len(network.scopes) != 1 else f"{network.scopes[0]}/{name}"
    if full not in network.hn["layers"]:
        raise AllocatorScriptParserException(f"Given layer {name} does not exist in the HN")
    return full


def selected(network: Network, selector: Any) -> list[str]:
    """Return the layers that a name, a glob or a list of these means."""
    if isinstance(selector, list):
        return [name for item in selector for name in selected(network, item)]
    if not isinstance(selector, Glob):
        return [scoped(network, str(selector))]
    found = [
        name
        for name in network.hn["layers"]
        if fnmatchcase(name, selector) or fnmatchcase(name.split("/")[-1], selector)
    ]
    if not found:
        raise AllocatorScriptParserException(f"No layer matches {{{selector}}}")
    return found


def modified(network: Network, script: Sequence[Command], configs: Mapping[str, Any]) -> Network:
    """Return the network with the script's modifications.

    Args:
        network: As it was translated and joined.
        script: Its commands.
        configs: What the files hold that the commands name.

    Raises:
        AllocatorScriptParserException: A command does not fit the network.
        NMSConfigPostprocessException: A configuration does not.
        NotImplementedError: The stand-in does not compute this command.
    """
    found = network.copy()
    for command in script:
        if command.name == "normalization":
            _normalize(found, command)
        elif command.name == "change_output_activation":
            *layers, activation = command.args
            for layer in selected(found, layers) if layers else found.order:
                _activate(found, layer, activation)
        elif command.name == "nms_postprocess":
            host.add_boxes(found, command, configs)
        elif command.name == "logits_layer":
            host.add_logits(found, command, scoped(found, str(command.args[0])))
        elif command.stage == "modification":
            raise NotImplementedError(f"the stand-in for the DFC does not compute {command.name}")
    return found


def _normalize(network: Network, command: Command) -> None:
    mean, std, *layers = command.args
    inputs = selected(network, layers) if layers else list(network.layers("input_layer"))
    for name in inputs:
        if network.hn["layers"][name]["type"] != "input_layer":
            raise AllocatorScriptParserException(f"normalization: {name} is not an input layer")
    if len(inputs) != len(command.targets):
        raise AllocatorScriptParserException(
            f"normalization: {len(command.targets)} names given for {len(inputs)} inputs"
        )
    for target, source in zip(command.targets, inputs, strict=True):
        layer = network.hn["layers"][source]
        features = layer["output_shapes"][0][-1]
        if len(mean) != features or len(std) != features:
            raise AllocatorScriptParserException(f"normalization: {len(mean)} values for {features} features")
        full = target if "/" in target else f"{source.split('/')[0]}/{target}"
        _insert_normalization(network, source, full, mean, std)


def _insert_normalization(network: Network, source: str, target: str, mean: Any, std: Any) -> None:
    graph, layers = network.model.graph, network.hn["layers"]
    for node in graph.node:
        node.input[:] = [target if name == source else name for name in node.input]
    for word, values in (("mean", mean), ("std", std)):
        array = np.array(values, np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, f"{target}/{word}"))
    graph.node.insert(0, helper.make_node("Sub", [source, f"{target}/mean"], [f"{target}/centred"]))
    graph.node.insert(1, helper.make_node("Div", [f"{target}/centred", f"{target}/std"], [target]))
    readers = layers[source]["output"]
    for reader in readers:
        layers[reader]["input"] = [target if name == source else name for name in layers[reader]["input"]]
    shapes = layers[source]["output_shapes"]
    layers[source]["output"] = [target]
    layers[target] = {
        **{"type": "normalization", "input": [source], "output": readers, "input_shapes": shapes},
        **{"output_shapes": shapes, "original_names": [], "compilation_params": {}, "quantization_params": {}},
        "params": {"activation": "linear"},
    }


def _activate(network: Network, layer: str, activation: str) -> None:
    for node in network.model.graph.node:
        node.output[:] = [f"{name}/linear" if name == layer else name for name in node.output]
    network.model.graph.node.append(helper.make_node(ACTIVATIONS[activation], [f"{layer}/linear"], [layer]))
    network.hn["layers"][layer]["params"]["activation"] = activation


def quantized(
    network: Network, frames: Mapping[str, Array], bits: Mapping[str, int]
) -> tuple[Network, dict[str, Encoding]]:
    """Return the network in integers, and each layer's encoding.

    Args:
        network: In full precision.
        frames: The calibration set by input layer.
        bits: Of a layer's result, 8 where it is left out.
    """
    layers = network.computing
    ranges = {
        name: (array.min(), array.max()) for name, array in zip(layers, run(network, frames, layers), strict=True)
    }
    ranges.update({name: (array.min(), array.max()) for name, array in frames.items()})
    codes = {name: _encoding(low, high, bits.get(name, 8)) for name, (low, high) in ranges.items()}
    found = network.copy()
    graph = found.model.graph
    nodes = []
    for name in frames:
        for node in graph.node:
            node.input[:] = [f"{name}/rounded" if item == name else item for item in node.input]
        nodes += _rounding(name, f"{name}/rounded")
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in codes:
                node.output[index] = f"{name}/exact"
                nodes += _rounding(f"{name}/exact", name)
    nodes = [helper.make_node(n.op_type, n.input, n.output, domain=n.domain, **_attributes(n)) for n in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    for name, code in codes.items():
        _constants(graph, name, code)
    for item in graph.initializer:
        _round_weights(item)
    return found, codes


def _attributes(node: Any) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _encoding(low: float, high: float, bits: int) -> Encoding:
    low, high = min(float(low), 0.0), max(float(high), FLOOR)
    steps = 2**bits - 1
    scale = (high - low) / steps
    zero_point = float(round(-low / scale))
    return {"bits": bits, "zero_point": zero_point, "scale": scale, "low": low, "high": high}


def _rounding(source: str, target: str) -> list[Any]:
    """Return the nodes that take a tensor to integers and back."""
    name = target.removesuffix("/rounded")
    parts = [f"{name}/q{index}" for index in range(5)]
    scale, zero, top, bottom = (f"{name}/{word}" for word in ("scale", "zero", "top", "bottom"))
    return [
        helper.make_node("Div", [source, scale], [parts[0]]),
        helper.make_node("Round", [parts[0]], [parts[1]]),
        helper.make_node("Add", [parts[1], zero], [parts[2]]),
        helper.make_node("Clip", [parts[2], bottom, top], [parts[3]]),
        helper.make_node("Sub", [parts[3], zero], [parts[4]]),
        helper.make_node("Mul", [parts[4], scale], [target]),
    ]


def _constants(graph: Any, name: str, code: Encoding) -> None:
    values = {"scale": code["scale"], "zero": code["zero_point"], "top": 2 ** code["bits"] - 1, "bottom": 0}
    for word, value in values.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{name}/{word}"))


def _round_weights(item: TensorProto) -> None:
    array = numpy_helper.to_array(item)
    if array.dtype != np.float32 or array.ndim < 2 or item.name.endswith(("/mean", "/std")):
        return
    step = max(float(np.abs(array).max()) / WEIGHT_STEPS, FLOOR)
    item.CopyFrom(numpy_helper.from_array((np.round(array / step) * step).astype(np.float32), item.name))


def layer_snr_db(exact: Array, rounded: Array) -> float:
    """Return 10·log10 of signal energy over noise energy."""
    signal, noise = np.sum(np.square(exact, dtype=np.float64)), np.sum(np.square(np.subtract(exact, rounded)))
    return float(10 * np.log10(max(signal, FLOOR) / max(noise, FLOOR)))
