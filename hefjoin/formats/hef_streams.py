"""Inputs and outputs of a network group: what passes an edge of the chip, and what an application sees of it.

Follows `layer_info.hpp` and `hef.cpp` of hailo-ai/hailort v4.23.0. Left out: on-chip suppression split over several
streams, which is listed as it is split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from hefjoin.formats import hef_messages as messages

MUX, PLANES = 1, 2

NMS_ON_CHIP, NMS_BY_CLASS, NMS_WITH_MASK = "HAILO NMS ON CHIP", "HAILO NMS BY CLASS", "HAILO NMS WITH BYTE MASK"
DEVICE_ORDERS = {
    **{0: "NHWC", 1: "NHCW", 2: "NC", 3: "FCR", 4: "BAYER RGB", 5: "NHW", 6: NMS_ON_CHIP, 7: "F8CR"},
    **{8: "RGB 888", 11: "YUY2", 13: "NHWC", 14: "YYUV", 15: "YYVU", 16: "YYYYUV"},
}
"""Number in an edge to the order HailoRT prints."""
HOST_ORDERS = {
    **{"NHCW": "NHWC", "RGB 888": "NHWC", "YYUV": "NV12", "YYVU": "NV21", "YYYYUV": "I420"},
    NMS_ON_CHIP: NMS_BY_CLASS,
}
"""Orders that HailoRT turns into another one on the host; all others stay."""
PLANE_ORDERS = {0: "NV12", 1: "NV21", 2: "I420"}
DTYPES = {1: "UINT8", 2: "UINT16"}

BOX_VALUES = 5
"""Two corners and a score."""
BOX_BYTES, COUNT_BYTES = 4 * BOX_VALUES, 4
"""On the host a detection is five float32; each class starts with a float32 count."""
CHIP_COUNT_BYTES = 2
"""On the chip each class starts with a count of 16 bits."""


@dataclass(frozen=True)
class Nms:
    """What a stream of detections holds at most."""

    classes: int
    boxes: int
    """Per class; of all classes in an order with masks."""
    frame_bytes: int


@dataclass(frozen=True)
class Stream:
    """One input or output; `real = (quantized - zero_point) * scale`.

    A hardware stream has the padded shape and the order of the device, a virtual stream what an application sees.
    """

    name: str
    direction: Literal["input", "output"]
    shape: tuple[int, ...]
    """(height, width, features); (features,) for NC; (height, width) for NHW; (classes, 5, boxes) for detections by
    class; (bytes,) for detections with masks."""
    order: str
    dtype: str
    """UINT8, UINT16 or FLOAT32; FLOAT32 needs no dequantization."""
    zero_point: float
    scale: float
    network: str
    original_names: tuple[str, ...] = ()
    """Names from before the compiler, where the HEF has them."""
    zero_points: tuple[float, ...] = ()
    """One for each feature, where the HEF says that they differ; else `zero_point` is meant."""
    scales: tuple[float, ...] = ()
    """As `zero_points`."""
    nms: Nms | None = None
    """Of a stream of detections."""


class Rules(NamedTuple):
    """What the header and the extensions of a HEF say about how to read its groups."""

    is_partial: bool
    """HAILO8L and HAILO15M: a group lies in alternatives, one for each part of the chip; one is counted."""
    is_net_flow: bool
    """Mandatory extension 13: the contexts lie in ops, with post-processing beside them."""
    has_network_names: bool
    """Optional extension 8."""
    has_hardware_padding: bool
    """Optional extension 11."""
    has_feature_scales: bool
    """Mandatory extension 25: each feature of an output may have a scale of its own."""

    @classmethod
    def of(cls, hef: messages.Hef) -> Rules:
        """Take them from a description."""
        mandatory = {extension.type_index for extension in hef.extensions}
        optional = {extension.type_index for extension in hef.optional_extensions}
        return cls(
            is_partial=hef.header.hw_arch in (3, 4),
            is_net_flow=13 in mandatory,
            has_network_names=8 in optional,
            has_hardware_padding=11 in optional,
            has_feature_scales=25 in mandatory,
        )


class BoundaryEdge(NamedTuple):
    """A boundary edge with what belongs to it outside its message."""

    message: messages.EdgeLayer
    direction: Literal["input", "output"]
    network: str


def hardware_streams(edge: BoundaryEdge, rules: Rules) -> Iterator[Stream]:
    """Yield the streams between driver and chip of one edge."""
    layers: list[messages.EdgeLayerInfo | messages.EdgeLayerMux] = [_layer(edge.message.layer_info)]
    if edge.message.edge_layer_type == MUX:
        layers = [_mux(edge)]
    elif edge.message.edge_layer_type == PLANES:
        layers = [_layer(plane.layer_info) for plane in _planes(edge).planes]
    for layer in layers:
        base, order = layer.edge_layer_base, _device_order(layer)
        shape = (base.padded_height, base.padded_width, base.padded_features)
        is_row_wise = base.core_buffers_per_frame == base.height and base.width * base.features % 8 == 0
        if order == "NHCW" and is_row_wise and not rules.has_hardware_padding:
            shape = (base.height, base.width, base.features)
        yield _stream(edge, layer, order, shape, rules)


def host_streams(edge: BoundaryEdge, is_transposed: bool, rules: Rules) -> Iterator[Stream]:
    """Yield what an application sees of one edge: a mux gives one stream for each layer under it."""
    if edge.message.edge_layer_type == PLANES:
        yield from _planar_stream(edge, rules)
        return
    is_mux = edge.message.edge_layer_type == MUX
    for layer in _demuxed(_mux(edge)) if is_mux else [_layer(edge.message.layer_info)]:
        base, order = layer.edge_layer_base, _device_order(layer)
        shape = (base.height, base.width, base.features)
        if (layer.transposed or is_transposed) and order != "NC":
            shape = (base.width, base.height, base.features)
        yield _stream(edge, layer, HOST_ORDERS.get(order, order), shape, rules)


def _planar_stream(edge: BoundaryEdge, rules: Rules) -> Iterator[Stream]:
    """Yield the one image that several planes make up."""
    image = _planes(edge)
    layers = [_layer(plane.layer_info) for plane in image.planes]
    for layer in layers[:1]:
        order = PLANE_ORDERS.get(image.planes_format, f"FORMAT {image.planes_format}")
        stream = _stream(edge, layer, order, (image.height, image.width, image.features), rules)
        names = tuple(name for layer in layers for name in layer.original_names)
        yield replace(stream, name=image.name, original_names=names)


def _demuxed(mux: messages.EdgeLayerMux) -> Iterator[messages.EdgeLayerInfo]:
    """Yield the layers under a mux; the reader limits the nesting."""
    for predecessor in mux.predecessors:
        if predecessor.layer_mux is not None:
            yield from _demuxed(predecessor.layer_mux)
        else:
            yield _layer(predecessor.layer_info)


def _layer(message: messages.EdgeLayerInfo | None) -> messages.EdgeLayerInfo:
    return message or messages.EdgeLayerInfo()


def _mux(edge: BoundaryEdge) -> messages.EdgeLayerMux:
    return edge.message.layer_mux or messages.EdgeLayerMux()


def _planes(edge: BoundaryEdge) -> messages.EdgeLayerPlanes:
    return edge.message.layer_planes or messages.EdgeLayerPlanes()


def _device_order(layer: messages.EdgeLayerInfo | messages.EdgeLayerMux) -> str:
    number = layer.edge_layer_base.format
    return DEVICE_ORDERS.get(number, f"FORMAT {number}")


def _stream(
    edge: BoundaryEdge,
    layer: messages.EdgeLayerInfo | messages.EdgeLayerMux,
    order: str,
    shape: tuple[int, int, int],
    rules: Rules,
) -> Stream:
    """Put a stream together; `shape` is (height, width, features) whatever the order."""
    base = layer.edge_layer_base
    nms = _nms(base, order) if order in (NMS_ON_CHIP, NMS_BY_CLASS) else None
    plain = Stream(
        name=layer.name,
        direction=edge.direction,
        shape=(nms.classes, BOX_VALUES, nms.boxes) if nms else shaped(order, shape),
        order=order,
        dtype="FLOAT32" if order == NMS_BY_CLASS else DTYPES.get(base.data_bytes, "UNKNOWN"),
        zero_point=0.0,
        scale=0.0,
        network=edge.network,
        nms=nms,
    )
    if isinstance(layer, messages.EdgeLayerMux):
        return plain
    numeric = layer.numeric_info
    by_feature = rules.has_feature_scales and len(numeric.qp_scales) == len(numeric.qp_zps) == base.features
    return replace(
        plain,
        zero_point=numeric.qp_zp,
        scale=numeric.qp_scale,
        original_names=layer.original_names,
        zero_points=numeric.qp_zps if by_feature else (),
        scales=numeric.qp_scales if by_feature else (),
    )


def shaped(order: str, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the axes of (height, width, features) that an order has."""
    if order == "NC":
        return shape[2:]
    return shape[:2] if order == "NHW" else shape


def _nms(base: messages.EdgeLayerBase, order: str) -> Nms:
    """Return the size of detections that the chip makes, on the chip's side or on the host's."""
    info = (base.additional_info or messages.AdditionalInfo()).nms_info
    chunks, burst = max(1, info.input_division_factor), max(1, info.burst_size)
    boxes = info.max_output_size * chunks
    if order == NMS_BY_CLASS:
        return by_class(info.number_of_classes, boxes)
    class_bytes = CHIP_COUNT_BYTES + info.bbox_size * max(burst, info.max_output_size)
    frame_bytes = chunks * info.number_of_classes * class_bytes + info.bbox_size * burst
    return Nms(info.number_of_classes, boxes, frame_bytes)


def by_class(classes: int, boxes: int) -> Nms:
    """Return the size of detections that the host holds by class."""
    return Nms(classes, boxes, classes * (COUNT_BYTES + BOX_BYTES * boxes))
