"""Make the emulated HEF: an ahead-of-time graph in a real container, without microcode.

The rule: nothing in it claims to be a measurement. Its context count is a forecast, no device takes it, and its
SDK version ends in "-emulator".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.graph import Graph, remove_unused
from hefjoin.emulator.host import HostStep, Logits, with_host_side
from hefjoin.emulator.quantize import Encoding
from hefjoin.forecast.count import count
from hefjoin.forecast.fit import Fit, forecast_fit
from hefjoin.forecast.limits import limits_of
from hefjoin.formats import hef, hef_emulated
from hefjoin.formats import hef_messages as messages
from hefjoin.formats.har_layers import HarLayer
from hefjoin.formats.model_script import Script

GRAPH_RESOURCE = "emulator.onnx"
FORECAST_RESOURCE = "forecast.json"


def forecast(view: hn.Hn, hw_arch: str, script: Script) -> Fit:
    """Return the fit forecast of a network from its HN, for what the script lets it take of the chip."""
    layers = [HarLayer.model_validate({**layer, "name": name}) for name, layer in view["layers"].items()]
    return forecast_fit(hw_arch, len(count(layers)), sum(layer.parameters for layer in layers), limits_of(script))


def refuse_unless_it_fits(fit: Fit) -> None:
    """Raise as the DFC does when a single context is demanded and the network does not fit.

    Raises:
        exceptions.BackendAllocatorException: With used/available pairs; weights in cuts of 32 KiB.
    """
    if fit.fits_one_context:
        return
    cut = 32 * 1024
    raise exceptions.BackendAllocatorException(
        "Mapping Failed (allocation time: 0s)\n"
        "Context switch is disabled, but model could not fit in single context. Detailed error is: "
        "Failed to save enough resources: "
        f"L3 weights: {-(-fit.parameters // cut)}/{fit.parameter_limit // cut}, LCUs: {fit.layers}/{fit.layer_limit}"
    )


def build_hef(
    view: hn.Hn,
    quantized: onnx.ModelProto,
    encodings: Mapping[str, Encoding],
    fit: Fit,
    sdk_version: str,
    host_steps: Sequence[HostStep] = (),
) -> bytes:
    """Return the bytes of an emulated HEF.

    Args:
        view: HN of the network.
        quantized: The quantized graph.
        encodings: Encoding of every tensor at a layer's border.
        fit: Its forecast, for the number of contexts.
        sdk_version: Ends in "-emulator".
        host_steps: What the host does behind the chip.
    """
    networks = _network_of_each_scope(view)
    outputs = [info.name for info in quantized.graph.output]

    def edge(name: str, layer: Mapping[str, Any]) -> hef.Edge:
        return _edge(name, layer, encodings[name], networks[name.split("/")[0]])

    return hef.write_emulated(
        group=view["name"],
        networks=list(dict.fromkeys(networks.values())),
        inputs=[edge(name, layer) for name, layer in hn.input_layers(view).items()],
        outputs=[edge(name, layer) for name, layer in zip(outputs, hn.output_layers(view).values(), strict=True)],
        contexts=fit.contexts,
        sdk_version=sdk_version,
        resources={
            GRAPH_RESOURCE: ahead_of_time(quantized, encodings, host_steps).SerializeToString(),
            FORECAST_RESOURCE: json.dumps(fit.model_dump(mode="json"), sort_keys=True).encode(),
        },
        host_steps=[_host_step(step) for step in host_steps],
    )


def _host_step(step: HostStep) -> hef.HostStep:
    if isinstance(step, Logits):
        logits = messages.LogitsOp(type=hef_emulated.SOFTMAX if step.function == "softmax" else 0)
        return hef.HostStep(step.target, step.outputs, logits)
    decoders = [messages.Yolov8BboxDecoder(round(d.stride), d.regression + 1, d.scores + 1) for d in step.decoders]
    detector = messages.Yolov8NmsOp(step.image_height, step.image_width, tuple(decoders), step.bins)
    boxes = messages.NmsOp(
        nms_score_th=step.score_threshold,
        nms_iou_th=step.iou_threshold,
        max_proposals_per_class=step.boxes_per_class,
        classes=step.classes,
        yolov8=detector,
    )
    return hef.HostStep(step.target, step.outputs, boxes)


def ahead_of_time(
    quantized: onnx.ModelProto, encodings: Mapping[str, Encoding], host_steps: Sequence[HostStep] = ()
) -> onnx.ModelProto:
    """Return the graph as a device takes it: quantized frames in, quantized outputs or the host's floats out (NHWC)."""
    model = onnx.ModelProto()
    model.CopyFrom(with_host_side(quantized, host_steps))
    shapes = Graph(model).shapes
    graph = model.graph
    inputs, outputs = [info.name for info in graph.input], [info.name for info in graph.output]
    consumed = {name: node for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    front: list[onnx.NodeProto] = []
    for info, name in zip(graph.input, inputs, strict=True):
        shape = shapes[name]
        quantize = consumed[name]
        graph.node.remove(quantize)
        turned = len(shape) == 4
        front.append(_to_layout(name, quantize.output[0], (0, 3, 1, 2) if turned else None))
        info.CopyFrom(_device_info(name, shape, turned, encodings[name]))
    for position, node in enumerate(front):
        graph.node.insert(position, node)
    for info, name in zip(graph.output, outputs, strict=True):
        shape, source = shapes[name], f"{name}/q" if name in encodings else name
        if len(shape) == 3:
            axes = numpy_helper.from_array(np.array([2]), f"{name}/rows_axis")
            graph.initializer.append(axes)
            graph.node.append(helper.make_node("Unsqueeze", [source, axes.name], [f"{name}/rows"], f"{name}/rows"))
            shape, source = (*shape[:2], 1, shape[2]), f"{name}/rows"
        turned, end = len(shape) == 4, f"{name}/u8" if name in encodings else f"{name}/f32"
        graph.node.append(_to_layout(source, end, (0, 2, 3, 1) if turned else None))
        info.CopyFrom(_device_info(end, shape, turned, encodings.get(name)))
    remove_unused(model)
    return model


def _to_layout(source: str, result: str, order: tuple[int, ...] | None) -> onnx.NodeProto:
    if order is None:
        return helper.make_node("Identity", [source], [result], f"{result}/layout")
    return helper.make_node("Transpose", [source], [result], f"{result}/layout", perm=list(order))


def _device_info(name: str, shape: tuple[int, ...], turned: bool, code: Encoding | None) -> onnx.ValueInfoProto:
    kind = TensorProto.FLOAT
    if code is not None:
        kind = TensorProto.UINT8 if code.bits == 8 else TensorProto.UINT16
    sizes: list[Any] = ["batch" if size < 0 else size for size in shape]
    if turned:
        sizes = [sizes[0], *sizes[2:], sizes[1]]
    return helper.make_tensor_value_info(name, kind, sizes)


def _edge(name: str, layer: Mapping[str, Any], code: Encoding, network: str) -> hef.Edge:
    _, *shape = layer["output_shapes"][0]
    if len(shape) == 2:
        shape = [1, *shape]
    return hef.Edge(
        name=name,
        shape=tuple(shape),
        data_bytes=code.bits // 8,
        **_numbers(code),
        original_names=tuple(layer["original_names"]),
        network=network,
    )


def _numbers(code: Encoding) -> dict[str, Any]:
    """Return scale and zero point as an edge has them: those of the first feature beside a list of all."""
    if isinstance(code.scale, tuple) and isinstance(code.zero_point, tuple):
        first = {"scale": code.scale[0], "zero_point": code.zero_point[0]}
        return {**first, "scales": code.scale, "zero_points": code.zero_point}
    return {"scale": code.scale, "zero_point": code.zero_point}


def _network_of_each_scope(view: hn.Hn) -> dict[str, str]:
    """Return each scope's network: a connected component, named by its scopes, sorted and joined by `_`.

    Source: the names in the vendor's published multi-network HEFs (TAPPAS v3.26).
    """
    component = {scope: {scope} for scope in view["net_params"]["net_scopes"]}
    for name, layer in view["layers"].items():
        for reader in layer["output"]:
            merged = component[name.split("/")[0]] | component[reader.split("/")[0]]
            for scope in merged:
                component[scope] = merged
    return {scope: "_".join(sorted(scopes)) for scope, scopes in component.items()}
