"""The network groups of a HEF: contexts, streams, virtual streams, post-processing on the host.

Follows `fill_core_ops`, `get_network_groups_infos` and `get_output_vstream_infos` of hailo-ai/hailort v4.23.0, so
that a listing equals the vendor's own. Left out: on-chip NMS split over several streams, listed as it is split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hefjoin.errors import InputError
from hefjoin.formats.hef_emulated import NAME_LIMIT_BYTES

BOUNDARY = 0
MUX, PLANES = 1, 2
SOFTMAX = 1

NMS_ON_CHIP, NMS_BY_CLASS = "HAILO NMS ON CHIP", "HAILO NMS BY CLASS"
DEVICE_ORDERS = {
    **{0: "NHWC", 1: "NHCW", 2: "NC", 3: "FCR", 4: "BAYER RGB", 5: "NHW", 6: NMS_ON_CHIP, 7: "F8CR"},
    **{8: "RGB888", 11: "YUY2", 13: "NHWC", 14: "YYUV", 15: "YYVU", 16: "YYYYUV"},
}
HOST_ORDERS = {
    **{"NHCW": "NHWC", "RGB888": "NHWC", "YYUV": "NV12", "YYVU": "NV21", "YYYYUV": "I420"},
    NMS_ON_CHIP: NMS_BY_CLASS,
}
"""Orders that HailoRT turns into another one on the host; all others stay."""
PLANE_ORDERS = {0: "NV12", 1: "NV21", 2: "I420"}
PAD_DTYPES = {1: "UINT8", 2: "UINT16", 3: "FLOAT32"}
DTYPES = {1: "UINT8", 2: "UINT16"}

NMS_KINDS = {
    "yolo": ("YOLOV5", "YOLOv5-Post-Process"),
    "yolox": ("YOLOX", "YOLOX-Post-Process"),
    "ssd": ("SSD", "SSD-Post-Process"),
    "iou": ("IOU", "IoU-Post-Process"),
    "yolo_seg": ("YOLOV5SEG", "YOLOv5Seg-Post-Process"),
    "yolov8": ("YOLOV8", "YOLOV8-Post-Process"),
}
"""Field in the HEF to the type and the name that HailoRT prints."""
BOX_BYTES, COUNT_BYTES, BOX_VALUES = 20, 4, 5
"""A detection is five float32 (box and score); each class starts with a float32 count."""


@dataclass(frozen=True)
class Stream:
    """One input or output; `real = (quantized - zero_point) * scale`.

    A hardware stream has the padded shape and the order of the device, a virtual stream what an application sees.
    """

    name: str
    direction: Literal["input", "output"]
    shape: tuple[int, ...]
    """(height, width, features); (features,) for NC; (height, width) for NHW; (classes, 5, boxes) for NMS."""
    order: str
    dtype: str
    zero_point: float
    scale: float
    network: str
    original_names: tuple[str, ...] = ()
    """Names from before the compiler, where the HEF has them."""


@dataclass(frozen=True)
class NmsOp:
    """Non-maximum suppression that HailoRT does on the host, as the compiler configured it."""

    name: str
    kind: str
    """A key of `NMS_KINDS`."""
    score_threshold: float
    iou_threshold: float
    classes: int
    max_boxes_per_class: int
    image_height: int | None
    image_width: int | None


@dataclass(frozen=True)
class NetworkGroup:
    """What is loaded on the chip at once."""

    name: str
    networks: tuple[str, ...]
    contexts: int
    """Dynamic contexts; the preliminary configuration is not counted."""
    streams: tuple[Stream, ...]
    """Hardware streams, inputs first, in file order."""
    vstreams: tuple[Stream, ...]
    """Virtual streams, inputs first, outputs in the order HailoRT sorts them."""
    nms_ops: tuple[NmsOp, ...]
    compiler_fps: float | None
    """`bottleneck_fps`, the compiler's own estimate: nothing was measured."""
    compiler_latency_ms: float | None
    """The compiler's own estimate, converted from seconds."""

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """What an application feeds."""
        return tuple(stream for stream in self.vstreams if stream.direction == "input")

    @property
    def outputs(self) -> tuple[Stream, ...]:
        """What an application gets."""
        return tuple(stream for stream in self.vstreams if stream.direction == "output")


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

    @classmethod
    def of(cls, hef: Any) -> Rules:
        """Take them from the protobuf message `Hef`."""
        mandatory = {extension.type_index for extension in hef.extensions}
        optional = {extension.type_index for extension in hef.optional_extensions}
        return cls(hef.header.hw_arch in (3, 4), 13 in mandatory, 8 in optional, 11 in optional)


class _Edge(NamedTuple):
    """A boundary edge with what belongs to it outside its message."""

    message: Any
    direction: Literal["input", "output"]
    network: str


def read_group(path: Path, group: Any, rules: Rules) -> NetworkGroup:
    """Read one message `NetworkGroup`.

    Raises:
        InputError: the group has no context or a name that is too long, or a post-processing op nothing to work on.
    """
    core = _core(group, rules)
    first = group.partials[0].network_group if group.partials else group
    name: str = first.metadata.network_group_name or core.metadata.network_group_name
    if len(name.encode()) > NAME_LIMIT_BYTES:
        raise InputError(
            f"{path}: network group {name[:40]!r}… has a name of {len(name.encode()):,} bytes, HailoRT takes "
            f"{NAME_LIMIT_BYTES}; the file is damaged: compile the network again"
        )
    if not core.contexts:
        raise InputError(
            f"{path}: network group {name!r} has no context, HailoRT would crash on it; compile the network again"
        )
    network_names = core.networks_names or group.networks_names
    if not (rules.has_network_names and network_names):
        network_names = [name]
    networks = tuple(f"{name}/{network}" for network in network_names)
    edges = list(_boundary_edges(core, networks))
    ops = [op for op in group.ops if rules.is_net_flow and (op.HasField("nms_op") or op.HasField("logits_op"))]
    estimates = core.metadata if core.metadata.bottleneck_fps else group.metadata
    return NetworkGroup(
        name=name,
        networks=networks,
        contexts=len(core.contexts),
        streams=tuple(stream for edge in edges for stream in _hardware_streams(edge, rules)),
        vstreams=tuple(_virtual_streams(path, edges, ops, core, group, rules)),
        nms_ops=tuple(_nms_op(op) for op in ops if op.HasField("nms_op")),
        compiler_fps=_estimate(estimates.bottleneck_fps),
        compiler_latency_ms=_estimate(estimates.latency * 1000),
    )


def _core(group: Any, rules: Rules) -> Any:
    """Return the message that holds the contexts, as HailoRT chooses it, else whichever has any."""
    ops = [op.core_op for op in group.ops if op.HasField("core_op")]
    wholes = [*ops, group] if rules.is_net_flow else [group, *ops]
    partials = [whole.partials[0].network_group for whole in wholes if whole.partials]
    candidates = [*partials, *wholes] if rules.is_partial else [*wholes, *partials]
    return next((candidate for candidate in candidates if candidate.contexts), candidates[0])


def _boundary_edges(core: Any, networks: Sequence[str]) -> Iterator[_Edge]:
    """Yield the edges between host and chip over all contexts, inputs first."""
    edges = [edge for context in core.contexts for edge in context.metadata.edge_layers]
    boundary = [edge for edge in edges if edge.context_switch_info.edge_connection_type == BOUNDARY]
    for edge in sorted(boundary, key=lambda edge: bool(edge.direction)):
        network = networks[edge.network_index if edge.network_index < len(networks) else 0]
        yield _Edge(edge, "output" if edge.direction else "input", network)


def _hardware_streams(edge: _Edge, rules: Rules) -> Iterator[Stream]:
    layers = [edge.message.layer_info]
    if edge.message.edge_layer_type == MUX:
        layers = [edge.message.layer_mux]
    elif edge.message.edge_layer_type == PLANES:
        layers = [plane.layer_info for plane in edge.message.layer_planes.planes]
    for layer in layers:
        base, order = layer.edge_layer_base, _device_order(layer)
        shape = (base.padded_height, base.padded_width, base.padded_features)
        is_row_wise = base.core_buffers_per_frame == base.height and base.width * base.features % 8 == 0
        if order == "NHCW" and is_row_wise and not rules.has_hardware_padding:
            shape = (base.height, base.width, base.features)
        yield _stream(edge, layer, order, shape)


def _host_streams(edge: _Edge, is_transposed: bool) -> Iterator[Stream]:
    """Yield what an application sees of one edge: a mux gives one stream for each layer under it."""
    if edge.message.edge_layer_type == PLANES:
        yield from _planar_stream(edge)
        return
    is_mux = edge.message.edge_layer_type == MUX
    for layer in _demuxed(edge.message.layer_mux) if is_mux else [edge.message.layer_info]:
        base, order = layer.edge_layer_base, _device_order(layer)
        shape = (base.height, base.width, base.features)
        if (layer.transposed or is_transposed) and order != "NC":
            shape = (base.width, base.height, base.features)
        yield _stream(edge, layer, HOST_ORDERS.get(order, order), shape)


def _planar_stream(edge: _Edge) -> Iterator[Stream]:
    """Yield the one image that several planes make up."""
    image = edge.message.layer_planes
    for plane in image.planes[:1]:
        order = PLANE_ORDERS.get(image.planes_format, f"FORMAT {image.planes_format}")
        stream = _stream(edge, plane.layer_info, order, (image.height, image.width, image.features))
        names = tuple(name for plane in image.planes for name in plane.layer_info.original_names)
        yield replace(stream, name=image.name, original_names=names)


def _demuxed(mux: Any) -> Iterator[Any]:
    """Yield the layers under a mux; protobuf limits the nesting to 100."""
    for predecessor in mux.predecessors:
        if predecessor.HasField("layer_mux"):
            yield from _demuxed(predecessor.layer_mux)
        else:
            yield predecessor.layer_info


def _device_order(layer: Any) -> str:
    number = layer.edge_layer_base.format
    return DEVICE_ORDERS.get(number, f"FORMAT {number}")


def _stream(edge: _Edge, layer: Any, order: str, shape: tuple[int, int, int]) -> Stream:
    """Put a stream together; `shape` is (height, width, features) whatever the order."""
    base = layer.edge_layer_base
    dims: tuple[int, ...] = shape
    if order == "NC":
        dims = shape[2:]
    elif order == "NHW":
        dims = shape[:2]
    elif order in (NMS_ON_CHIP, NMS_BY_CLASS):
        nms = base.additional_info.nms_info
        dims = (nms.number_of_classes, BOX_VALUES, nms.max_output_size * max(1, nms.input_division_factor))
    numeric = getattr(layer, "numeric_info", None)  # a mux has none
    return Stream(
        name=layer.name,
        direction=edge.direction,
        shape=dims,
        order=order,
        dtype="FLOAT32" if order == NMS_BY_CLASS else DTYPES.get(base.data_bytes, "UNKNOWN"),
        zero_point=numeric.qp_zp if numeric else 0.0,
        scale=numeric.qp_scale if numeric else 0.0,
        network=edge.network,
        original_names=tuple(layer.original_names) if numeric else (),
    )


def _virtual_streams(
    path: Path, edges: Sequence[_Edge], ops: Sequence[Any], core: Any, group: Any, rules: Rules
) -> list[Stream]:
    """Return the inputs, then the sorted outputs with post-processing ops in place of the edges they take."""
    sources = {pad_edge.dst: pad_edge.src for pad_edge in group.pad_edges}
    taken_by = {sources.get(pad.index): place for place, op in enumerate(ops) for pad in op.input_pads}
    is_transposed = core.metadata.transposed_net
    inputs: list[Stream] = []
    outputs: list[Stream] = []
    feeds: dict[int, Stream] = {}
    for edge in edges:
        seen = list(_host_streams(edge, is_transposed))
        if edge.direction == "input":
            inputs += seen
        elif (place := taken_by.get(edge.message.pad_index)) is None:
            outputs += seen
        elif seen:
            feeds.setdefault(place, seen[0])
    for place, op in enumerate(ops):
        if place not in feeds:
            raise InputError(f"{path}: nothing feeds the post-processing op {op.name!r}; compile the network again")
        outputs.append(_op_stream(op, feeds[place]))
    ranks = {name: rank for rank, name in enumerate(_sorted_outputs(core, group, rules))}
    outputs.sort(key=lambda stream: ranks.get(stream.name, len(ranks)))
    return inputs + outputs


def _op_stream(op: Any, feed: Stream) -> Stream:
    """Return the output of a post-processing op that takes the stream `feed`."""
    name = op.output_pads[0].name if op.output_pads else op.name
    stream = replace(feed, name=name, original_names=())
    if op.HasField("nms_op"):
        shape = (_classes(op.nms_op), BOX_VALUES, op.nms_op.max_proposals_per_class)
        return replace(stream, shape=shape, order=NMS_BY_CLASS, dtype="FLOAT32", zero_point=0.0, scale=1.0)
    if op.logits_op.type == SOFTMAX:
        return replace(stream, dtype="FLOAT32")
    dtype = PAD_DTYPES.get(op.output_pads[0].format_type, "UINT8") if op.output_pads else "UINT8"
    if feed.order == "NC":
        return replace(stream, shape=(1,), dtype=dtype)
    return replace(stream, shape=feed.shape[:2], order="NHW", dtype=dtype)


def _sorted_outputs(core: Any, group: Any, rules: Rules) -> Sequence[str]:
    fused = core.fused_layers if core.HasField("fused_layers") else group.fused_layers
    if fused.network_has_fused_layers:
        return list(fused.updated_sorted_output_names)
    if not rules.is_net_flow and group.partials and group.partials[0].network_group.sorted_outputs_order:
        return list(group.partials[0].network_group.sorted_outputs_order)
    return list(group.sorted_outputs_order or core.contexts[-1].metadata.sorted_outputs_order)


def _classes(nms: Any) -> int:
    """Count the classes that come out: all but the background, where the op removes it."""
    return int(nms.classes) - (1 if nms.background_removal and nms.classes else 0)


def _nms_op(op: Any) -> NmsOp:
    nms = op.nms_op
    kind = next((kind for kind in NMS_KINDS if nms.HasField(kind)), "iou")
    image = getattr(nms, kind)
    return NmsOp(
        name=op.name,
        kind=kind,
        score_threshold=nms.score_threshold,
        iou_threshold=nms.iou_threshold,
        classes=nms.classes,
        max_boxes_per_class=nms.max_proposals_per_class,
        image_height=_pixels(getattr(image, "image_height", None)),
        image_width=_pixels(getattr(image, "image_width", None)),
    )


def _pixels(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else int(value)


def _estimate(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
