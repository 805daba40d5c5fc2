"""HEFs built and judged with the library of protobuf, which reads and writes by other code than `hefjoin.formats`."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from hefjoin.formats import hef, hef_container, hef_messages
from hefjoin.formats.hef import Edge
from hefjoin.formats.hef_wire import Field, layout

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hef"
"""Files of the vendor's compiler, with what the vendor's command lists of them."""
LISTINGS = DATA / "hailortcli_parse_hef.txt"

LABELS = descriptor_pb2.FieldDescriptorProto.Label
TYPES = descriptor_pb2.FieldDescriptorProto.Type


def emulated(**changes: Any) -> bytes:
    """Return an emulated HEF of two outputs with two resources."""
    arguments: dict[str, Any] = {
        "group": "pair",
        "networks": ["pair"],
        "inputs": [Edge("pair/input_layer1", (224, 224, 3), original_names=("image",))],
        "outputs": [
            Edge("pair/a/fc1", (1000,), 1, 12.0, 0.5),
            Edge("pair/b/conv9", (20, 24, 351), 2, 31000.0, 0.001),
        ],
        "contexts": 1,
        "sdk_version": "0.1.0-emulator",
        "resources": {"joined.onnx": b"graph" * 1000, "alls": b"normalization()"},
    }
    return hef.write_emulated(**{**arguments, **changes})


def description(content: bytes) -> Any:
    """Return the description of a version 3 container, read by the library of protobuf."""
    return message_class("Hef").FromString(content[56 : 56 + struct.unpack_from(">I", content, 8)[0]])


def listed(proto: Any, path: Path) -> hef.Hef:
    """Write a description into a container and read it."""
    path.write_bytes(hef_container.pack(proto.SerializeToString(), {}))
    return hef.read(path)


def rich() -> Any:
    """Return a net-flow group: NMS on two outputs, argmax on a third, a mux of two layers, an NV12 image as input."""
    proto = description(emulated(resources={}))
    proto.extensions.add(type_index=13)
    (group,) = proto.network_groups
    op = group.ops.add(name="core").core_op
    op.metadata.network_group_name = "pair"
    context = op.contexts.add().metadata
    planes = context.edge_layers.add(edge_layer_type=2).layer_planes
    planes.name, planes.height, planes.width, planes.features = "pair/image", 64, 48, 3
    for name, features in (("pair/y", 1), ("pair/uv", 2)):
        fill(planes.planes.add().layer_info, name, (64, 48, features), order=0, original=name)
    for pad, name in enumerate(("pair/boxes", "pair/scores", "pair/mask"), start=1):
        edge = context.edge_layers.add(direction=1, pad_index=pad)
        fill(edge.layer_info, name, (8, 6, 10 * pad), order=1)
    mux = context.edge_layers.add(direction=1, edge_layer_type=1, pad_index=9).layer_mux
    mux.name = "pair/mux"
    mux.edge_layer_base.data_bytes, mux.edge_layer_base.format = 1, 1
    fill(mux.predecessors.add().layer_info, "pair/left", (4, 3, 2), order=1, is_transposed=True)
    fill(mux.predecessors.add().layer_mux.predecessors.add().layer_info, "pair/right", (1, 1, 7), order=2)
    nms = group.ops.add(name="nms")
    nms.input_pads.add(index=21)
    nms.input_pads.add(index=22)
    nms.output_pads.add(name="pair/nms")
    nms.nms_op.classes, nms.nms_op.max_proposals_per_class, nms.nms_op.background_removal = 81, 50, True
    nms.nms_op.nms_score_th, nms.nms_op.nms_iou_th = 0.3, 0.6
    nms.nms_op.ssd.image_height, nms.nms_op.ssd.image_width = 64, 48
    argmax = group.ops.add(name="argmax")
    argmax.input_pads.add(index=23)
    argmax.output_pads.add(name="pair/labels", format_type=2)
    argmax.logits_op.SetInParent()
    for source, target in ((1, 21), (2, 22), (3, 23)):
        group.pad_edges.add(src=source, dst=target)
    del group.contexts[:]
    del group.sorted_outputs_order[:]
    group.sorted_outputs_order.extend(["pair/labels", "pair/right", "pair/nms", "pair/left"])
    return proto


def fill(
    info: Any, name: str, shape: tuple[int, int, int], order: int, original: str = "", is_transposed: bool = False
) -> None:
    """Set name, shape and order of an edge."""
    base = info.edge_layer_base
    info.name, info.transposed, base.format, base.data_bytes = name, is_transposed, order, 1
    base.height, base.width, base.features = shape
    base.padded_height, base.padded_width, base.padded_features = shape
    info.original_names.extend([original] if original else [])


@cache
def message_class(name: str) -> Any:
    """Return the class that the library of protobuf makes of a message in `hef_messages`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"hefjoin.{name}"))


@cache
def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="hefjoin/hef.proto", package="hefjoin", syntax="proto3")
    kinds = [kind for kind in vars(hef_messages).values() if getattr(kind, "__module__", "") == hef_messages.__name__]
    for kind in kinds:
        message = file.message_type.add(name=kind.__name__)
        for number, declared in layout(kind).items():
            field = message.field.add(name=declared.name, number=number)
            field.label = LABELS.Value("LABEL_REPEATED" if declared.is_repeated else "LABEL_OPTIONAL")
            if declared.kind in kinds:
                field.type, field.type_name = TYPES.Value("TYPE_MESSAGE"), f".hefjoin.{declared.kind.__name__}"
            else:
                field.type = TYPES.Value(_scalar(declared))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _scalar(declared: Field) -> str:
    if declared.kind is float:
        return "TYPE_FLOAT" if declared.is_single else "TYPE_DOUBLE"
    return {int: "TYPE_UINT64", bool: "TYPE_BOOL", str: "TYPE_STRING"}[declared.kind]
