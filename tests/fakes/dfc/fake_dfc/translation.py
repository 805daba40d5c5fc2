"""Translate an ONNX file into a network: one layer for each operator that computes.

Activations, batch normalizations and views go into the layer before them when nothing else reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from hailo_sdk_client.model_translator.exceptions import MisspellNodeError, ParsingWithRecommendationException
from hailo_sdk_common.hailo_nn.exceptions import UnsupportedModelError
from onnx import numpy_helper, shape_inference, version_converter
from onnx.utils import Extractor

from fake_dfc.network import Hn, Network, rename_tensors

OPSET = 17
KINDS = {
    **{"Conv": "conv", "ConvTranspose": "deconv", "Gemm": "dense", "MatMul": "dense", "MaxPool": "maxpool"},
    **{"AveragePool": "avgpool", "GlobalAveragePool": "avgpool", "GlobalMaxPool": "maxpool", "Concat": "concat"},
    **{"Add": "ew_add", "Sub": "ew_sub", "Mul": "ew_mult", "Div": "ew_div", "Resize": "resize", "Softmax": "softmax"},
}
ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Clip": "relu6",
    "Elu": "elu",
}
VIEWS = ("Flatten", "Reshape", "Identity", "Dropout", "Squeeze", "Unsqueeze", "Transpose")


@dataclass
class _Layer:
    kind: str
    name: str
    inputs: list[str]
    output: str
    nodes: list[onnx.NodeProto]
    activation: str = "linear"
    is_normalized: bool = False


@dataclass
class _Graph:
    model: onnx.ModelProto
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.constants = {item.name: tuple(item.dims) for item in graph.initializer}
        for info in (*graph.input, *graph.value_info, *graph.output):
            self.shapes[info.name] = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.readers.update(item.name for item in graph.output)

    def data(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in node.input if name and name not in self.constants]


def translate(
    model: onnx.ModelProto,
    scope: str,
    start_nodes: Sequence[str],
    end_nodes: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
) -> Network:
    """Return a model as a network of one scope.

    Raises:
        MisspellNodeError: A start or end node does not exist.
        ParsingWithRecommendationException: Operators are unsupported.
        UnsupportedModelError: An input's shape is open or no image's.
    """
    model = _prepared(model, shapes)
    model = _cut(model, start_nodes, end_nodes)
    graph = _Graph(shape_inference.infer_shapes(model, data_prop=True))
    _refuse_unsupported(graph)
    _refuse_open_inputs(graph)
    layers = _layers(graph)
    names = {info.name: f"{scope}/input_layer{index}" for index, info in enumerate(model.graph.input, 1)}
    names.update({layer.output: f"{scope}/{layer.name}" for layer in layers})
    hn = _hn(graph, layers, names, scope)
    rename_tensors(model.graph, lambda name: names.get(name, f"{scope}/{name}::"))
    model.graph.name = scope
    return Network(model, hn)


def _prepared(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Return the model at one opset, nodes named, constants as initializers, inputs shaped."""
    if model.opset_import[0].version != OPSET:
        model = version_converter.convert_version(model, OPSET)
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    weights = {item.name for item in graph.initializer}
    inputs = [info for info in graph.input if info.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    if unknown := set(shapes) - {info.name for info in inputs}:
        raise UnsupportedModelError(f"net_input_shapes: {', '.join(unknown)} is not among the model's inputs")
    for info in inputs:
        if info.name in shapes:
            info.type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, list(shapes[info.name])))
        elif info.type.tensor_type.shape.dim and not info.type.tensor_type.shape.dim[0].dim_value:
            info.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def _cut(model: onnx.ModelProto, start_nodes: Sequence[str], end_nodes: Sequence[str]) -> onnx.ModelProto:
    nodes = {node.name: node for node in model.graph.node}
    if missing := [name for name in (*start_nodes, *end_nodes) if name not in nodes]:
        raise MisspellNodeError(f"Unable to find node names: {missing}, check the spelling and try again")
    if not start_nodes and not end_nodes:
        return model
    inferred = shape_inference.infer_shapes(model)
    constants = {item.name for item in model.graph.initializer}
    starts = [name for node in start_nodes for name in nodes[node].input if name not in constants]
    ends = [name for node in end_nodes for name in nodes[node].output]
    return Extractor(inferred).extract_model(
        starts or [info.name for info in model.graph.input], ends or [info.name for info in model.graph.output]
    )


def _refuse_unsupported(graph: _Graph) -> None:
    known = {*KINDS, *ACTIVATIONS, *VIEWS, "BatchNormalization"}
    bad = [node for node in graph.model.graph.node if node.op_type not in known or node.domain or not graph.data(node)]
    if not bad:
        return
    makers = {name: node.name for node in graph.model.graph.node for name in node.output}
    ends = dict.fromkeys(makers[name] for node in bad for name in graph.data(node) if name in makers)
    text = "Parsing failed. The errors found in the graph are:\n"
    text += "\n".join(f" UnsupportedOperationError in op {n.name}: {n.op_type} operation is unsupported" for n in bad)
    if ends:
        text += f"\nPlease try to parse the model again, using these end node names: {', '.join(ends)}"
    raise ParsingWithRecommendationException(text)


def _refuse_open_inputs(graph: _Graph) -> None:
    for info in graph.model.graph.input:
        shape = graph.shapes[info.name]
        if len(shape) not in (2, 3, 4) or not all(shape):
            raise UnsupportedModelError(f"input {info.name} has shape {shape}; give net_input_shapes")


def _layers(graph: _Graph) -> list[_Layer]:
    found: list[_Layer] = []
    owner: dict[str, _Layer] = {}
    count: Counter[str] = Counter()
    for node in graph.model.graph.node:
        data = graph.data(node)
        host = owner.get(data[0])
        passes = node.op_type in (*VIEWS, *ACTIVATIONS, "BatchNormalization")
        if passes and host is not None and graph.readers[data[0]] == 1:
            host.nodes.append(node)
            host.output = node.output[0]
            host.activation = ACTIVATIONS.get(node.op_type, host.activation)
            host.is_normalized |= node.op_type == "BatchNormalization"
        else:
            kind = _kind(graph, node)
            word = "fc" if kind == "dense" else kind
            count[word] += 1
            host = _Layer(
                kind, f"{word}{count[word]}", data, node.output[0], [node], ACTIVATIONS.get(node.op_type, "linear")
            )
            found.append(host)
        owner[node.output[0]] = host
    return found


def _kind(graph: _Graph, node: onnx.NodeProto) -> str:
    if node.op_type in VIEWS:
        return "format_conversion"
    if node.op_type in ACTIVATIONS:
        return "activation"
    if node.op_type == "BatchNormalization":
        return "normalization"
    groups = next((item.i for item in node.attribute if item.name == "group"), 1)
    is_depthwise = node.op_type == "Conv" and groups > 1 and groups == graph.shapes[node.input[0]][1]
    return "dw" if is_depthwise else KINDS[node.op_type]


def _hn(graph: _Graph, layers: list[_Layer], names: Mapping[str, str], scope: str) -> Hn:
    entries: dict[str, Any] = {}
    for info in graph.model.graph.input:
        shape = nhwc(graph.shapes[info.name])
        entries[names[info.name]] = {**_entry("input_layer", [], [shape], [shape], [info.name]), **_BORDER}
    for layer in layers:
        entries[f"{scope}/{layer.name}"] = {
            **_entry(
                layer.kind,
                [names[name] for name in layer.inputs],
                [nhwc(graph.shapes[name]) for name in layer.inputs],
                [nhwc(graph.shapes[layer.output])],
                [node.name for node in layer.nodes],
            ),
            "params": _params(graph, layer),
        }
    for index, info in enumerate(graph.model.graph.output, 1):
        shape = nhwc(graph.shapes[info.name])
        entry = _entry("output_layer", [names[info.name]], [shape], [shape], [info.name])
        entries[f"{scope}/output_layer{index}"] = {**entry, **_BORDER}
    for name, entry in entries.items():
        for source in entry["input"]:
            entries[source]["output"].append(name)
    params = {
        **{"version": "1.0", "stage": "HN", "clusters_placement": [[]], "clusters_to_skip": []},
        "output_layers_order": [names[info.name] for info in graph.model.graph.output],
        **{"is_transformer": False, "transposed_net": False, "net_scopes": [scope], "lora_adapters": []},
    }
    return {"name": scope, "net_params": params, "layers": entries}


_BORDER = {"transposed": False, "engine": "nn_core", "io_type": "standard"}


def _entry(kind: str, inputs: list[str], before: list[Any], after: list[Any], original: list[str]) -> dict[str, Any]:
    return {
        **{"type": kind, "input": inputs, "output": [], "input_shapes": before, "output_shapes": after},
        **{"original_names": original, "compilation_params": {}, "quantization_params": {}},
    }


def _params(graph: _Graph, layer: _Layer) -> dict[str, Any]:
    params: dict[str, Any] = {"activation": layer.activation}
    given = {item.name: onnx.helper.get_attribute_value(item) for item in layer.nodes[0].attribute}
    if layer.kind in ("maxpool", "avgpool") and "kernel_shape" in given:
        return {**params, "kernel_shape": [1, *given["kernel_shape"], 1]}
    if layer.kind not in ("conv", "dw", "deconv", "dense"):
        return params
    kernel = list(graph.constants[layer.nodes[0].input[1]])
    if layer.kind == "dense":
        kernel = kernel[::-1] if given.get("transB") else kernel
    else:
        features, depth, *space = kernel
        kernel = [*space, features, depth] if layer.kind == "deconv" else [*space, depth, features]
        params |= {"strides": [1, *given.get("strides", (1, 1)), 1], "groups": given.get("group", 1)}
    return {**params, "kernel_shape": kernel, "batch_norm": layer.is_normalized, "elementwise_add": False}


def nhwc(shape: Sequence[int]) -> list[int]:
    """Return an ONNX shape as the HN has it: (-1, height, width, features) or (-1, features)."""
    if len(shape) == 2:
        return [-1, shape[1]]
    _, features, *space = shape
    return [-1, *([1] * (2 - len(space))), *space, features]


def weights(network: Network) -> dict[str, Any]:
    """Return the parameters as a HAR's npz has them: `<scope>/<layer>/kernel:0`, float32."""
    found = {item.name: numpy_helper.to_array(item) for item in network.model.graph.initializer}
    makers = {name: node for node in network.model.graph.node for name in node.output}
    result = {}
    for name in network.computing:
        node = makers[name]
        while node.op_type in (*VIEWS, *ACTIVATIONS, "BatchNormalization") and node.input[0] in makers:
            node = makers[node.input[0]]
        for word, source in zip(("kernel", "bias"), node.input[1:], strict=False):
            if source in found:
                result[f"{name}/{word}:0"] = found[source]
    return result
