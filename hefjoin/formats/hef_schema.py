"""The part of the HEF's protobuf that hefjoin reads or writes, built in code.

Why not protoc: the vendor's `hef.proto` is several thousand lines of microcode messages nobody here looks at,
and generated files tie a package to one protobuf release. The table below holds field numbers only (they are
the format, stable from HailoRT 4.10 to 5.2; source: `hailort/libhailort/hef.proto` in hailo-ai/hailort, where
each message carries the prefix `ProtoHEF`). The one rule: a field nobody uses is not declared, so the parser
steps over it: `Hef.mapping` (3) and `Context.operations` (2), the bulk of every file, among them.

Enums are declared as `uint32`, which is the same on the wire and keeps values unknown to us.
"""

from __future__ import annotations

from functools import cache
from typing import Any

Field = tuple[int, str] | tuple[int, str, bool]
"""(number, type, repeated); a type that is no scalar of protobuf is the name of a message in the table."""

MESSAGES: dict[str, dict[str, Field]] = {
    "Hef": {
        "header": (1, "Header"),
        "network_groups": (2, "NetworkGroup", True),
        "extensions": (5, "Extension", True),
        "optional_extensions": (6, "Extension", True),
        "external_resources": (7, "ExternalResource", True),
    },
    "Header": {
        "hw_arch": (1, "uint32"),
        "timestamp": (2, "uint64"),
        "sdk_version_str": (3, "string"),
        "version": (4, "uint64"),
        "sdk_version": (5, "SdkVersion"),
    },
    "SdkVersion": {"major": (1, "uint32"), "minor": (2, "uint32"), "revision": (3, "uint32")},
    "Extension": {"type_index": (1, "uint32"), "name": (2, "string")},
    "ExternalResource": {"offset": (1, "uint64"), "size": (2, "uint64"), "name": (3, "string")},
    # A core op has the numbers 1 to 7 of a network group, so one message reads both.
    "NetworkGroup": {
        "metadata": (1, "NetworkGroupMetadata"),
        "contexts": (3, "Context", True),
        "sorted_outputs_order": (4, "string", True),
        "fused_layers": (5, "FusedLayers"),
        "networks_names": (6, "string", True),
        "partials": (7, "Partial", True),
        "ops": (8, "Op", True),
        "pad_edges": (9, "PadEdge", True),
    },
    "NetworkGroupMetadata": {
        "network_group_name": (1, "string"),
        "transposed_net": (3, "bool"),
        "bottleneck_fps": (4, "double"),
        "latency": (6, "double"),
    },
    "FusedLayers": {
        "network_has_fused_layers": (1, "bool"),
        "updated_sorted_output_names": (2, "string", True),
    },
    "Partial": {"network_group": (1, "NetworkGroup")},
    "PadEdge": {"src": (1, "uint32"), "dst": (2, "uint32")},
    "Op": {
        "name": (1, "string"),
        "input_pads": (2, "Pad", True),
        "output_pads": (3, "Pad", True),
        "core_op": (4, "NetworkGroup"),
        "nms_op": (5, "NmsOp"),
        "logits_op": (6, "LogitsOp"),
    },
    "Pad": {
        "index": (1, "uint32"),
        "name": (2, "string"),
        "format_order": (3, "uint32"),
        "format_type": (8, "uint32"),
    },
    "LogitsOp": {"type": (1, "uint32")},
    "NmsOp": {
        "score_threshold": (1, "double"),
        "iou_threshold": (2, "double"),
        "max_proposals_per_class": (3, "uint32"),
        "classes": (4, "uint32"),
        "background_removal": (5, "bool"),
        "background_removal_index": (6, "uint32"),
        "yolo": (7, "YoloNmsOp"),
        "yolox": (8, "YoloNmsOp"),
        "ssd": (9, "YoloNmsOp"),
        "iou": (10, "IouNmsOp"),
        "yolo_seg": (11, "YoloNmsOp"),
        "yolov8": (12, "YoloNmsOp"),
    },
    "YoloNmsOp": {"image_height": (1, "double"), "image_width": (2, "double")},
    "IouNmsOp": {},
    "Context": {"context_index": (1, "uint32"), "metadata": (3, "ContextMetadata")},
    "ContextMetadata": {
        "name": (1, "string"),
        "edge_layers": (2, "EdgeLayer", True),
        "sorted_outputs_order": (5, "string", True),
    },
    "EdgeLayer": {
        "direction": (1, "uint32"),
        "edge_layer_type": (2, "uint32"),
        "layer_info": (3, "EdgeLayerInfo"),
        "layer_mux": (4, "EdgeLayerMux"),
        "context_switch_info": (5, "ContextSwitchInformation"),
        "network_index": (6, "uint32"),
        "pad_index": (7, "uint32"),
        "layer_planes": (8, "EdgeLayerPlanes"),
    },
    "ContextSwitchInformation": {"edge_connection_type": (3, "uint32")},
    "EdgeLayerInfo": {
        "name": (1, "string"),
        "edge_layer_base": (2, "EdgeLayerBase"),
        "numeric_info": (3, "NumericInfo"),
        "original_names": (5, "string", True),
        "transposed": (6, "bool"),
    },
    "EdgeLayerMux": {
        "name": (1, "string"),
        "edge_layer_base": (2, "EdgeLayerBase"),
        "predecessors": (5, "EdgeLayerPredecessor", True),
    },
    "EdgeLayerPredecessor": {
        "layer_info": (1, "EdgeLayerInfo"),
        "layer_mux": (2, "EdgeLayerMux"),
        "layer_planes": (3, "EdgeLayerPlanes"),
    },
    "EdgeLayerPlanes": {
        "name": (1, "string"),
        "planes_format": (2, "uint32"),
        "planes": (3, "EdgeLayerPredecessor", True),
        "height": (4, "uint32"),
        "width": (5, "uint32"),
        "features": (6, "uint32"),
    },
    "EdgeLayerBase": {
        "height": (1, "uint32"),
        "padded_height": (2, "uint32"),
        "width": (3, "uint32"),
        "padded_width": (4, "uint32"),
        "features": (5, "uint32"),
        "padded_features": (6, "uint32"),
        "format": (7, "uint32"),
        "sys_index": (8, "uint32"),
        "core_bytes_per_buffer": (9, "uint32"),
        "core_buffers_per_frame": (10, "uint32"),
        "additional_info": (11, "EdgeLayerAdditionalInfo"),
        "data_bytes": (12, "uint32"),
        "buffer_indices": (13, "BufferIndices", True),
    },
    "BufferIndices": {},
    "EdgeLayerAdditionalInfo": {"nms_info": (1, "OnChipNms")},
    "OnChipNms": {
        "number_of_classes": (2, "uint64"),
        "max_output_size": (3, "uint64"),
        "input_division_factor": (7, "uint64"),
    },
    "NumericInfo": {"qp_zp": (1, "float"), "qp_scale": (2, "float")},
}


@cache
def message_class(name: str) -> Any:
    """Return the protobuf class of a message in `MESSAGES`.

    The descriptors live in a pool of our own: they cannot clash with the vendor's package, should it be loaded.
    """
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"hefjoin.{name}"))


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    scalars = descriptor_pb2.FieldDescriptorProto.Type
    label = descriptor_pb2.FieldDescriptorProto.Label
    file = descriptor_pb2.FileDescriptorProto(name="hefjoin/hef.proto", package="hefjoin", syntax="proto3")
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind, *repeated) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = label.Value("LABEL_REPEATED" if repeated else "LABEL_OPTIONAL")
            if kind in MESSAGES:
                field.type, field.type_name = scalars.Value("TYPE_MESSAGE"), f".hefjoin.{kind}"
            else:
                field.type = scalars.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool
