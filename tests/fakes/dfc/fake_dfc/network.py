"""A network: its HN (the vendor's JSON view) and the ONNX graph that computes it, tensors named after the layers.

Every tensor of a graph is named `<scope>/…`; that of a layer's result is the layer's own name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

Hn = dict[str, Any]


@dataclass
class Network:
    """One network, or several joined ones."""

    model: onnx.ModelProto
    hn: Hn

    @property
    def scopes(self) -> list[str]:
        """The models it is made of."""
        return list(self.hn["net_params"]["net_scopes"])

    def layers(self, kind: str) -> dict[str, Any]:
        """Return the layers of one type."""
        return {name: layer for name, layer in self.hn["layers"].items() if layer["type"] == kind}

    @property
    def computing(self) -> list[str]:
        """Names of the layers that have a place on the chip."""
        passive = ("input_layer", "output_layer", "const_input", "format_conversion", "postprocess")
        return [name for name, layer in self.hn["layers"].items() if layer["type"] not in passive]

    @property
    def order(self) -> list[str]:
        """The layers that feed the outputs, in the outputs' order."""
        return list(self.hn["net_params"]["output_layers_order"])

    def copy(self) -> Network:
        """Return an independent copy."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return Network(model, copy.deepcopy(self.hn))


def rename(network: Network, scopes: Mapping[str, str]) -> Network:
    """Return a copy with other scopes."""

    def new(name: str) -> str:
        scope, slash, rest = name.partition("/")
        return f"{scopes.get(scope, scope)}{slash}{rest}"

    found = network.copy()
    rename_tensors(found.model.graph, new)
    params = found.hn["net_params"]
    params["net_scopes"] = [scopes.get(scope, scope) for scope in params["net_scopes"]]
    params["output_layers_order"] = [new(name) for name in params["output_layers_order"]]
    found.hn["name"] = scopes.get(found.hn["name"], found.hn["name"])
    found.hn["layers"] = {
        new(name): {**layer, "input": [new(n) for n in layer["input"]], "output": [new(n) for n in layer["output"]]}
        for name, layer in found.hn["layers"].items()
    }
    return found


def rename_tensors(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    """Give every tensor of a graph another name, in place."""
    for node in graph.node:
        node.input[:] = [new(name) if name else "" for name in node.input]
        node.output[:] = [new(name) if name else "" for name in node.output]
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = new(item.name)
    del graph.value_info[:]


def joined(first: Network, second: Network, shared: Mapping[str, str]) -> Network:
    """Return both in one; `shared` maps input layers of the second to those of the first that take their place."""
    found, other = first.copy(), second.copy()
    rename_tensors(other.model.graph, lambda name: shared.get(name, name))
    graph = found.model.graph
    graph.node.extend(other.model.graph.node)
    graph.initializer.extend(other.model.graph.initializer)
    graph.input.extend(item for item in other.model.graph.input if item.name not in shared.values())
    graph.output.extend(other.model.graph.output)
    layers = found.hn["layers"]
    for name, layer in other.hn["layers"].items():
        if name in shared:
            layers[shared[name]]["output"] += layer["output"]
        else:
            layers[name] = {**layer, "input": [shared.get(source, source) for source in layer["input"]]}
    params = found.hn["net_params"]
    params["net_scopes"] += other.scopes
    params["output_layers_order"] += other.order
    found.hn["name"] = graph.name = "joined_" + "_".join(params["net_scopes"])
    return found


def components(network: Network) -> dict[str, str]:
    """Return the name of each scope's connected component: its scopes, sorted and joined by `_`."""
    group = {scope: {scope} for scope in network.scopes}
    for name, layer in network.hn["layers"].items():
        for reader in layer["output"]:
            merged = group[name.split("/")[0]] | group[reader.split("/")[0]]
            group.update(dict.fromkeys(merged, merged))
    return {scope: "_".join(sorted(members)) for scope, members in group.items()}
