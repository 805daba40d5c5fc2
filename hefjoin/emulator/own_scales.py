"""Which tensors may have a scale and zero point for each channel, where others have one for all.

The rule: what makes the tensor has a kernel, and so a factor for each of its features by which it is brought to its
scale; and what reads it needs no common one.

1. *Into depthwise layers*: each feature is made of one channel, whose scale goes into that feature's kernel. It is
   equalization carried to its end, and it reaches over activations for which `equalize` may not divide. Whether the
   DFC goes so far is not public.
2. *Outputs*, where the script says `model_optimization_config(globals, output_encoding_vector=enabled)`: the host
   reads them. A HEF has room for such scales: `OUTPUT_SCALE_PER_FEATURE`, extension 25 of HailoRT's hef.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from hefjoin.emulator.graph import Graph
from hefjoin.emulator.layers import WEIGHTED, find_layers


def into_depthwise(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that layers with a kernel make for depthwise layers alone."""
    graph = Graph(model)
    readers: dict[str, set[str]] = {}
    for layer in find_layers(model):
        for name in layer.inputs:
            # A view in front of the convolution may move the channels.
            is_read_as_it_is = layer.main.input[0] == name
            readers.setdefault(name, set()).add(layer.type if is_read_as_it_is else "")
    return [name for name in _made_by_feature(graph) if readers.get(name) == {"dw"} and name not in graph.outputs]


def of_outputs(model: onnx.ModelProto) -> list[str]:
    """Return the network's outputs that layers with a kernel make for the host alone."""
    graph = Graph(model)
    return [name for name in _made_by_feature(graph) if name in graph.outputs and graph.readers(name) == 1]


def _made_by_feature(graph: Graph) -> Iterator[str]:
    """Yield the tensors whose axis 1 is the features of the kernel that makes them."""
    for layer in find_layers(graph.model):
        name, shape = layer.outputs[0], graph.shapes.get(layer.main.output[0], ())
        is_turned = any(node.op_type == "Transpose" for node in layer.nodes)
        if layer.type in WEIGHTED and not is_turned and len(shape) in (2, 4):
            final = graph.shapes.get(name, ())
            if len(final) in (2, 4) and final[1] == shape[1]:
                yield name
