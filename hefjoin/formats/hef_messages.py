"""The messages of a HEF's description that hefjoin reads or writes.

Field numbers are the format, stable from HailoRT 4.10 to 5.2; source: `hailort/libhailort/hef.proto` in
hailo-ai/hailort, where each message carries the prefix `ProtoHEF`. The one rule: a field nobody uses is not declared,
so the reader steps over it: `Hef.mapping` (3), `NetworkGroup.preliminary_config` (2) and `Context.operations` (2), the
bulk of every file, among them.

Enums are integers, which is the same on the wire and keeps values unknown to us. A message that is always there has an
empty one as its default; one of a `oneof`, or one whose absence means something, has None.
"""

# ruff: noqa: RUF009 - the defaults are frozen, so that all messages may share them

from __future__ import annotations

from dataclasses import dataclass

from hefjoin.formats.hef_wire import at


@dataclass(frozen=True, slots=True)
class SdkVersion:
    """Since HailoRT 5.2, beside the text."""

    major: int = at(1)
    minor: int = at(2)
    revision: int = at(3)


@dataclass(frozen=True, slots=True)
class Header:
    """Who compiled it, when and for what."""

    hw_arch: int = at(1)
    timestamp: int = at(2)
    """Milliseconds since 1970."""
    sdk_version_str: str = at(3, "")
    version: int = at(4)
    sdk_version: SdkVersion | None = at(5, None)


@dataclass(frozen=True, slots=True)
class Extension:
    """A feature that the reader must know, or may."""

    type_index: int = at(1)
    name: str = at(2, "")


@dataclass(frozen=True, slots=True)
class ExternalResource:
    """Bytes behind the microcode; `offset` counts from the container's zero point."""

    offset: int = at(1)
    size: int = at(2)
    name: str = at(3, "")


@dataclass(frozen=True, slots=True)
class NumericInfo:
    """real = (quantized - zero point) * scale."""

    qp_zp: float = at(1, 0.0, is_single=True)
    qp_scale: float = at(2, 0.0, is_single=True)
    qp_zps: tuple[float, ...] = at(5, ())
    """One for each feature; counts with extension 25 alone."""
    qp_scales: tuple[float, ...] = at(6, ())


@dataclass(frozen=True, slots=True)
class NmsInfo:
    """Non-maximum suppression on the chip."""

    number_of_classes: int = at(2)
    max_output_size: int = at(3)
    bbox_size: int = at(4)
    input_division_factor: int = at(7)
    burst_size: int = at(8)


@dataclass(frozen=True, slots=True)
class AdditionalInfo:
    """Of one kind of layer only."""

    nms_info: NmsInfo = at(1, NmsInfo())


@dataclass(frozen=True, slots=True)
class BufferIndices:
    """Nothing of it is used; HailoRT crashes where it is missing."""


@dataclass(frozen=True, slots=True)
class EdgeLayerBase:
    """Shape, layout and type of what passes an edge."""

    height: int = at(1)
    padded_height: int = at(2)
    width: int = at(3)
    padded_width: int = at(4)
    features: int = at(5)
    padded_features: int = at(6)
    format: int = at(7)
    sys_index: int = at(8)
    core_bytes_per_buffer: int = at(9)
    core_buffers_per_frame: int = at(10)
    additional_info: AdditionalInfo | None = at(11, None)
    data_bytes: int = at(12)
    buffer_indices: tuple[BufferIndices, ...] = at(13, ())


@dataclass(frozen=True, slots=True)
class EdgeLayerInfo:
    """A plain edge."""

    name: str = at(1, "")
    edge_layer_base: EdgeLayerBase = at(2, EdgeLayerBase())
    numeric_info: NumericInfo = at(3, NumericInfo())
    original_names: tuple[str, ...] = at(5, ())
    transposed: bool = at(6, False)


@dataclass(frozen=True, slots=True)
class EdgeLayerMux:
    """Several layers in one stream."""

    name: str = at(1, "")
    edge_layer_base: EdgeLayerBase = at(2, EdgeLayerBase())
    predecessors: tuple[Predecessor, ...] = at(5, ())


@dataclass(frozen=True, slots=True)
class EdgeLayerPlanes:
    """One image in several streams."""

    name: str = at(1, "")
    planes_format: int = at(2)
    planes: tuple[Predecessor, ...] = at(3, ())
    height: int = at(4)
    width: int = at(5)
    features: int = at(6)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """One of what a mux or an image is made of."""

    layer_info: EdgeLayerInfo | None = at(1, None)
    layer_mux: EdgeLayerMux | None = at(2, None)


@dataclass(frozen=True, slots=True)
class ContextSwitchInformation:
    """What is on the other side of an edge."""

    edge_connection_type: int = at(3)


@dataclass(frozen=True, slots=True)
class EdgeLayer:
    """Where data comes into a context or leaves it."""

    direction: int = at(1)
    edge_layer_type: int = at(2)
    layer_info: EdgeLayerInfo | None = at(3, None)
    layer_mux: EdgeLayerMux | None = at(4, None)
    context_switch_info: ContextSwitchInformation = at(5, ContextSwitchInformation())
    network_index: int = at(6)
    pad_index: int | None = at(7, None)
    layer_planes: EdgeLayerPlanes | None = at(8, None)


@dataclass(frozen=True, slots=True)
class ContextMetadata:
    """What of a context is not microcode."""

    name: str = at(1, "")
    edge_layers: tuple[EdgeLayer, ...] = at(2, ())
    sorted_outputs_order: tuple[str, ...] = at(5, ())


@dataclass(frozen=True, slots=True)
class Context:
    """One configuration of the chip."""

    context_index: int = at(1)
    metadata: ContextMetadata = at(3, ContextMetadata())


@dataclass(frozen=True, slots=True)
class YoloBboxDecoder:
    """The anchors of one output."""

    h: tuple[int, ...] = at(2, ())
    pad_index: int = at(5)


@dataclass(frozen=True, slots=True)
class YoloNmsOp:
    """YOLOv5."""

    image_height: float = at(1, 0.0)
    image_width: float = at(2, 0.0)
    bbox_decoders: tuple[YoloBboxDecoder, ...] = at(4, ())


@dataclass(frozen=True, slots=True)
class ImageNmsOp:
    """YOLOX."""

    image_height: float = at(1, 0.0)
    image_width: float = at(2, 0.0)


@dataclass(frozen=True, slots=True)
class Yolov8BboxDecoder:
    """The pads are those of the chip's outputs."""

    stride: int = at(1)
    reg_pad_index: int = at(2)
    cls_pad_index: int = at(3)


@dataclass(frozen=True, slots=True)
class Yolov8NmsOp:
    """YOLOv8. The fields of its decoders are read off a HEF of DFC 3.33."""

    image_height: float = at(1, 0.0)
    image_width: float = at(2, 0.0)
    bbox_decoders: tuple[Yolov8BboxDecoder, ...] = at(4, ())
    regression_length: int = at(5)


@dataclass(frozen=True, slots=True)
class SsdNmsOp:
    """SSD."""

    image_height: float = at(1, 0.0)
    image_width: float = at(2, 0.0)
    centers_scale_factor: int = at(3)
    bbox_dimensions_scale_factor: int = at(4)


@dataclass(frozen=True, slots=True)
class IouNmsOp:
    """Plain suppression, without a decoder."""


@dataclass(frozen=True, slots=True)
class YoloSegNmsOp:
    """YOLOv5 with masks."""

    image_height: float = at(1, 0.0)
    image_width: float = at(2, 0.0)
    mask_threshold: float = at(5, 0.0)


@dataclass(frozen=True, slots=True)
class NmsOp:
    """Non-maximum suppression on the host."""

    nms_score_th: float = at(1, 0.0)
    nms_iou_th: float = at(2, 0.0)
    max_proposals_per_class: int = at(3)
    classes: int = at(4)
    background_removal: bool = at(5, False)
    background_removal_index: int = at(6)
    yolo: YoloNmsOp | None = at(7, None)
    yolox: ImageNmsOp | None = at(8, None)
    ssd: SsdNmsOp | None = at(9, None)
    iou: IouNmsOp | None = at(10, None)
    yolo_seg: YoloSegNmsOp | None = at(11, None)
    yolov8: Yolov8NmsOp | None = at(12, None)
    bbox_decoding_only: bool = at(13, False)


@dataclass(frozen=True, slots=True)
class LogitsOp:
    """Argmax or softmax on the host."""

    type: int = at(1)


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What a pad holds."""

    height: int = at(1)
    padded_height: int = at(2)
    width: int = at(3)
    padded_width: int = at(4)
    features: int = at(5)
    padded_features: int = at(6)


@dataclass(frozen=True, slots=True)
class NmsShape:
    """What a pad of detections holds."""

    number_of_classes: int = at(1)
    max_bboxes_per_class: int = at(2)
    bbox_size: int = at(3)
    division_factor: int = at(4)


@dataclass(frozen=True, slots=True)
class Pad:
    """An end of an op."""

    index: int = at(1)
    name: str = at(2, "")
    format_order: int = at(3)
    numeric_info: NumericInfo = at(5, NumericInfo())
    tensor_shape: TensorShape | None = at(6, None)
    nms_shape: NmsShape | None = at(7, None)
    format_type: int = at(8)


@dataclass(frozen=True, slots=True)
class PadEdge:
    """Which pad feeds which."""

    src: int = at(1)
    dst: int = at(2)


@dataclass(frozen=True, slots=True)
class Op:
    """A piece of a net-flow group: what runs on the chip, or post-processing on the host."""

    name: str = at(1, "")
    input_pads: tuple[Pad, ...] = at(2, ())
    output_pads: tuple[Pad, ...] = at(3, ())
    core_op: NetworkGroup | None = at(4, None)
    nms_op: NmsOp | None = at(5, None)
    logits_op: LogitsOp | None = at(6, None)


@dataclass(frozen=True, slots=True)
class NetworkGroupMetadata:
    """Name and the compiler's estimates."""

    network_group_name: str = at(1, "")
    transposed_net: bool = at(3, False)
    bottleneck_fps: float = at(4, 0.0)
    latency: float = at(6, 0.0)
    """Seconds."""


@dataclass(frozen=True, slots=True)
class FusedLayers:
    """Outputs that were made one and are split by the host."""

    network_has_fused_layers: bool = at(1, False)
    updated_sorted_output_names: tuple[str, ...] = at(2, ())


@dataclass(frozen=True, slots=True)
class Partial:
    """The group on one part of the chip."""

    network_group: NetworkGroup | None = at(1, None)


@dataclass(frozen=True, slots=True)
class NetworkGroup:
    """A network group; a core op too, which has its numbers 1 to 7."""

    metadata: NetworkGroupMetadata = at(1, NetworkGroupMetadata())
    contexts: tuple[Context, ...] = at(3, ())
    sorted_outputs_order: tuple[str, ...] = at(4, ())
    fused_layers: FusedLayers | None = at(5, None)
    networks_names: tuple[str, ...] = at(6, ())
    partials: tuple[Partial, ...] = at(7, ())
    ops: tuple[Op, ...] = at(8, ())
    pad_edges: tuple[PadEdge, ...] = at(9, ())


@dataclass(frozen=True, slots=True)
class Hef:
    """The description."""

    header: Header = at(1, Header())
    network_groups: tuple[NetworkGroup, ...] = at(2, ())
    extensions: tuple[Extension, ...] = at(5, ())
    optional_extensions: tuple[Extension, ...] = at(6, ())
    external_resources: tuple[ExternalResource, ...] = at(7, ())
