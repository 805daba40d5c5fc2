"""Post-processing on the host, as HailoRT lists it.

Only YOLOv8 is checked against the vendor's own output (test_hef_files.py); the lines here are those of its source.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hefjoin.formats.hef import Hef, Stream
from hefjoin.formats.hef_listing import like_hailortcli
from tests.hef_protobuf import description, emulated, fill, listed

SHAPES = {1: (8, 6, 85), 2: (4, 3, 85)}


def with_op(path: Path, **settings: Any) -> tuple[Hef, Stream, list[str]]:
    """List a group of two outputs that go into one op; return it, the op's output and its lines."""
    proto = net_flow()
    op = add_op(proto, "op", pads=(1, 2))
    for name, value in settings.items():
        if isinstance(value, dict):
            fill_message(getattr(op.nms_op, name), value)
        else:
            setattr(op.nms_op, name, value)
    found = listed(proto, path)
    (output,) = found.groups[0].outputs
    return found, output, operation(found)


def net_flow() -> Any:
    proto = description(emulated(resources={}))
    proto.extensions.add(type_index=13)
    (group,) = proto.network_groups
    context = group.ops.add(name="core").core_op.contexts.add().metadata
    fill(context.edge_layers.add().layer_info, "pair/in", (64, 48, 3), order=0)
    for pad, shape in SHAPES.items():
        fill(context.edge_layers.add(direction=1, pad_index=pad).layer_info, f"pair/out{pad}", shape, order=1)
        group.pad_edges.add(src=pad, dst=pad + 20)
    del group.contexts[:]
    return proto


def add_op(proto: Any, name: str, pads: tuple[int, ...]) -> Any:
    op = proto.network_groups[0].ops.add(name=name)
    for pad in pads:
        op.input_pads.add(index=pad + 20)
    op.output_pads.add(name=f"pair/{name}")
    return op


def fill_message(message: Any, values: dict[str, Any]) -> None:
    message.SetInParent()
    for name, value in values.items():
        if isinstance(value, list):
            for item in value:
                fill_message(getattr(message, name).add(), item)
        elif isinstance(value, tuple):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def operation(found: Hef) -> list[str]:
    """Return the lines under `Operation:`."""
    lines = [line.strip() for line in like_hailortcli(found).splitlines()]
    return lines[lines.index("Operation:") + 1 :]


IMAGE = {"image_height": 64.0, "image_width": 48.0}
NMS = {"nms_score_th": 0.2, "nms_iou_th": 0.7, "classes": 80, "max_proposals_per_class": 100}
COMMON = ["Score threshold: 0.200", "IoU threshold: 0.70", "Classes: 80"]
PER_CLASS = [*COMMON, "Max bboxes per class: 100"]
SIZE = ["Image height: 64", "Image width: 48"]


@pytest.mark.parametrize(
    ("kind", "own", "lines"),
    [
        ("yolo", IMAGE, ["Op YOLOV5", "Name: YOLOv5-Post-Process", *PER_CLASS, *SIZE]),
        ("yolox", IMAGE, ["Op YOLOX", "Name: YOLOX-Post-Process", *PER_CLASS, *SIZE]),
        ("yolov8", IMAGE, ["Op YOLOV8", "Name: YOLOV8-Post-Process", *PER_CLASS, *SIZE]),
        ("iou", {}, ["Op IOU", "Name: IoU-Post-Process", *PER_CLASS]),
        (
            "ssd",
            {**IMAGE, "centers_scale_factor": 10, "bbox_dimensions_scale_factor": 5},
            [
                *["Op SSD", "Name: SSD-Post-Process", *PER_CLASS, "Image height: 64.00", "Image width: 48.00"],
                *["Centers scales factor: 10", "Bbox dimension scale factor: 5", "Normalize boxes: false"],
            ],
        ),
    ],
)
def test_boxes_by_class(kind: str, own: dict[str, Any], lines: list[str], tmp_path: Path) -> None:
    found, output, told = with_op(tmp_path / "a.hef", **NMS, **{kind: own})
    assert told == lines
    assert (output.name, output.shape, output.order, output.dtype) == (
        "pair/op",
        (80, 5, 100),
        "HAILO NMS BY CLASS",
        "FLOAT32",
    )
    assert (output.zero_point, output.scale, output.original_names) == (0, 1, ())
    frame = "number of classes: 80, maximum bounding boxes per class: 100, maximum frame size: 160320"
    assert f"Output pair/op FLOAT32, HAILO NMS BY CLASS({frame})" in like_hailortcli(found)


def test_the_background_class_does_not_come_out(tmp_path: Path) -> None:
    _, output, lines = with_op(tmp_path / "a.hef", **NMS, background_removal=True, background_removal_index=3, ssd={})
    assert output.shape == (79, 5, 100)
    assert lines[4:7] == ["Classes: 80", "Max bboxes per class: 100", "Background removal index: 3"]


def test_boxes_with_masks(tmp_path: Path) -> None:
    found, output, lines = with_op(tmp_path / "a.hef", **NMS, yolo_seg={**IMAGE, "mask_threshold": 0.5})
    assert lines == [
        *["Op YOLOV5SEG", "Name: YOLOv5Seg-Post-Process", *COMMON, "Max bboxes total: 8000", *SIZE],
        "Mask threshold: 0.50",
    ]
    frame_bytes = 2 + 38 * 8000 + 2 * 64 * 48
    assert (output.shape, output.dtype) == ((frame_bytes,), "UINT8")
    frame = f"number of classes: 80, maximum bounding boxes total: 8000, maximum frame size: {frame_bytes}"
    assert f"Output pair/op UINT8, HAILO NMS WITH BYTE MASK({frame})" in like_hailortcli(found)


@pytest.mark.parametrize(
    ("kind", "own", "name", "shape"),
    [
        # YOLOv8: pixels of both outputs, which are a pair (boxes, classes); YOLOv5: pixels times anchors of each.
        ("yolov8", IMAGE, "Name: YOLOv8Bbox-Only-Post-Process", (1, (48 + 12) // 2, 84)),
        (
            "yolo",
            {**IMAGE, "bbox_decoders": [{"h": (1, 2, 3), "pad_index": 1}, {"h": (1, 2), "pad_index": 2}]},
            "Name: YOLOv5Bbox-Only-Post-Process",
            (1, 48 * 3 + 12 * 2, 85),
        ),
    ],
)
def test_boxes_that_the_application_has_to_sort_out(
    kind: str, own: dict[str, Any], name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    _, output, lines = with_op(tmp_path / "a.hef", **NMS, bbox_decoding_only=True, **{kind: own})
    assert lines[1:] == [name, "Classes: 80", *SIZE]
    assert (output.shape, output.order, output.dtype, output.nms) == (shape, "NHWC", "FLOAT32", None)


def test_argmax_and_softmax_take_their_order_and_type_from_the_pad_or_the_input(tmp_path: Path) -> None:
    proto = net_flow()
    add_op(proto, "labels", pads=(1,)).logits_op.SetInParent()
    softmax = add_op(proto, "odds", pads=(2,))
    softmax.logits_op.type = 1
    found = listed(proto, tmp_path / "a.hef")
    told = [(stream.name, stream.order, stream.shape, stream.dtype) for stream in found.groups[0].outputs]
    assert told == [
        ("pair/labels", "NHW", (8, 6), "UINT8"),
        ("pair/odds", "NHWC", (4, 3, 85), "FLOAT32"),
    ]
    assert not any(op.is_nms for op in found.groups[0].host_ops)
    pad = proto.network_groups[0].ops[-2].output_pads[0]
    pad.format_order, pad.format_type, pad.numeric_info.qp_scale, pad.numeric_info.qp_zp = 1, 2, 0.5, 3
    labels = listed(proto, tmp_path / "a.hef").groups[0].outputs[0]
    assert (labels.order, labels.shape, labels.dtype) == ("NHWC", (8, 6, 1), "UINT16")
    assert (labels.scale, labels.zero_point) == (0.5, 3)


def test_of_several_ops_the_last_is_described(tmp_path: Path) -> None:
    proto = net_flow()
    nms = add_op(proto, "boxes", pads=(1,))
    nms.nms_op.yolov8.SetInParent()
    add_op(proto, "odds", pads=(2,)).logits_op.type = 1
    found = listed(proto, tmp_path / "a.hef")
    assert [op.title for op in found.groups[0].host_ops] == ["YOLOV8-Post-Process", "Softmax-Post-Process"]
    assert operation(found) == ["SOFTMAX Op", "Name: Softmax-Post-Process"]


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "inf"), (math.nan, "nan"), (1e300, "inf")])
def test_thresholds_that_are_no_numbers_are_listed_as_c_prints_them(value: float, shown: str, tmp_path: Path) -> None:
    _, _, lines = with_op(tmp_path / "a.hef", **{**NMS, "nms_iou_th": value}, yolov8={"image_height": value})
    assert f"IoU threshold: {shown}" in lines
