"""Post-processing that HailoRT does on the host: what it gives, and what `hailortcli parse-hef` says of it.

Follows `create_*_op_metadata` in `hef.cpp` and `get_op_description` in `net_flow/ops/*.cpp` of hailo-ai/hailort 4.x.
Checked on a file with YOLOv8; of the other kinds no file with the vendor's listing was at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_float
from dataclasses import dataclass, replace
from typing import NamedTuple

from hefjoin.formats import hef_messages as messages
from hefjoin.formats.hef_streams import BOX_VALUES, NMS_BY_CLASS, NMS_WITH_MASK, Nms, Stream, by_class, shaped

NMS_KINDS = {
    "yolo": ("YOLOV5", "YOLOv5-Post-Process"),
    "yolox": ("YOLOX", "YOLOX-Post-Process"),
    "ssd": ("SSD", "SSD-Post-Process"),
    "iou": ("IOU", "IoU-Post-Process"),
    "yolo_seg": ("YOLOV5SEG", "YOLOv5Seg-Post-Process"),
    "yolov8": ("YOLOV8", "YOLOV8-Post-Process"),
}
"""Field in the HEF to the type and the name that HailoRT prints."""
BOX_ONLY_NAMES = {"yolo": "YOLOv5Bbox-Only-Post-Process", "yolov8": "YOLOv8Bbox-Only-Post-Process"}
"""Kinds that may decode boxes and leave the suppression to the application."""
BOX_ONLY_VALUES = {"yolo": 5, "yolov8": 4}
"""What precedes the scores of the classes: a box, and YOLOv5's objectness."""
LOGITS = ("ARGMAX", "Argmax-Post-Process"), ("SOFTMAX", "Softmax-Post-Process")
SOFTMAX = 1
PAD_DTYPES = {1: "UINT8", 2: "UINT16", 3: "FLOAT32"}
PAD_ORDERS = {1: "NHWC", 2: "NHCW", 3: "FCR", 4: "F8CR", 5: "NHW", 6: "NC"}
MASKED_BOX_BYTES, MASKED_COUNT_BYTES = 38, 2
"""Of `hailo_detection_with_byte_mask_t`, packed, on a machine of 64 bits; and the count before them."""
MASK_FRAMES = 2
"""HailoRT leaves room for masks of twice the image."""


class Setting(NamedTuple):
    """One line of an op."""

    label: str
    value: float | bool
    form: str = ""
    """How HailoRT prints the value."""

    def __str__(self) -> str:
        text = format(self.value, self.form) if not isinstance(self.value, bool) else str(self.value).lower()
        return f"{self.label}: {text}"


@dataclass(frozen=True)
class HostOp:
    """One post-processing op as the compiler configured it."""

    name: str
    """In the HEF."""
    kind: str
    """As HailoRT prints it: YOLOV8, ARGMAX."""
    title: str
    """As HailoRT prints it: YOLOV8-Post-Process."""
    settings: tuple[Setting, ...] = ()

    @property
    def is_nms(self) -> bool:
        """Whether it makes boxes; else it is an argmax or a softmax."""
        return (self.kind, self.title) not in LOGITS

    @property
    def lines(self) -> list[str]:
        """What `hailortcli parse-hef` prints."""
        return [
            f"Op {self.kind}" if self.is_nms else f"{self.kind} Op",
            f"Name: {self.title}",
            *map(str, self.settings),
        ]


def is_host_op(op: messages.Op) -> bool:
    """Whether an op of a group runs on the host."""
    return op.nms_op is not None or op.logits_op is not None


def host_op(op: messages.Op) -> HostOp:
    """Return what an op is told to do."""
    nms = op.nms_op
    if nms is None:
        return HostOp(op.name, *LOGITS[_is_softmax(op)])
    kind = _kind(nms)
    type_name, title = NMS_KINDS[kind]
    if _is_box_only(nms):
        title = BOX_ONLY_NAMES[kind]
    return HostOp(op.name, type_name, title, tuple(_settings(nms)))


def op_stream(op: messages.Op, feeds: Mapping[int, Stream]) -> Stream:
    """Return the output of an op.

    Args:
        op: post-processing on the host.
        feeds: the outputs of the chip that it takes, by pad; at least one.
    """
    first = next(iter(feeds.values()))
    pad = op.output_pads[0] if op.output_pads else messages.Pad(name=op.name)
    plain = replace(first, name=pad.name, original_names=(), zero_points=(), scales=(), zero_point=0.0, scale=1.0)
    nms = op.nms_op
    if nms is None:
        return _logits_stream(op, first, plain, pad)
    if _is_box_only(nms):
        values = BOX_ONLY_VALUES[_kind(nms)] + nms.classes
        return replace(plain, shape=(1, _proposals(nms, feeds), values), order="NHWC", dtype="FLOAT32", nms=None)
    classes = nms.classes - (1 if nms.background_removal and nms.classes else 0)
    if nms.yolo_seg is not None:
        boxes = nms.max_proposals_per_class * nms.classes
        pixels = _whole(nms.yolo_seg.image_height * nms.yolo_seg.image_width)
        size = Nms(classes, boxes, MASKED_COUNT_BYTES + MASKED_BOX_BYTES * boxes + MASK_FRAMES * pixels)
        return replace(plain, shape=(size.frame_bytes,), order=NMS_WITH_MASK, dtype="UINT8", nms=size)
    size = by_class(classes, nms.max_proposals_per_class)
    return replace(plain, shape=(classes, BOX_VALUES, size.boxes), order=NMS_BY_CLASS, dtype="FLOAT32", nms=size)


def _logits_stream(op: messages.Op, feed: Stream, plain: Stream, pad: messages.Pad) -> Stream:
    height, width, features = feed.shape if len(feed.shape) == 3 else (1, 1, feed.shape[-1])
    is_softmax = _is_softmax(op)
    order = PAD_ORDERS.get(pad.format_order) or ("NC" if feed.order == "NC" else "NHWC" if is_softmax else "NHW")
    dtype = PAD_DTYPES.get(pad.format_type, "FLOAT32" if is_softmax else feed.dtype)
    shape = shaped(order, (height, width, features if is_softmax else 1))
    stream = replace(plain, shape=shape, order=order, dtype=dtype)
    if dtype == "FLOAT32" or not pad.numeric_info.qp_scale:
        return stream
    return replace(stream, zero_point=pad.numeric_info.qp_zp, scale=pad.numeric_info.qp_scale)


def _is_softmax(op: messages.Op) -> bool:
    return op.logits_op is not None and op.logits_op.type == SOFTMAX


def _kind(nms: messages.NmsOp) -> str:
    return next((kind for kind in NMS_KINDS if getattr(nms, kind) is not None), "iou")


def _is_box_only(nms: messages.NmsOp) -> bool:
    return nms.bbox_decoding_only and _kind(nms) in BOX_ONLY_NAMES


def _proposals(nms: messages.NmsOp, feeds: Mapping[int, Stream]) -> int:
    """Count the boxes: one for each pixel and anchor (YOLOv5), or for each pixel of a pair of outputs (YOLOv8)."""
    pixels = {pad: math.prod(stream.shape[:2]) for pad, stream in feeds.items()}
    if nms.yolo is not None:
        return sum(len(decoder.h) * pixels.get(decoder.pad_index, 0) for decoder in nms.yolo.bbox_decoders)
    return sum(pixels.values()) // 2


def _settings(nms: messages.NmsOp) -> Iterator[Setting]:
    if _is_box_only(nms):
        yield Setting("Classes", nms.classes)
    else:
        yield Setting("Score threshold", _single(nms.nms_score_th), ".3f")
        yield Setting("IoU threshold", _single(nms.nms_iou_th), ".2f")
        yield Setting("Classes", nms.classes)
        if nms.yolo_seg is None:
            yield Setting("Max bboxes per class", nms.max_proposals_per_class)
        else:
            yield Setting("Max bboxes total", nms.max_proposals_per_class * nms.classes)
        if nms.background_removal:
            yield Setting("Background removal index", nms.background_removal_index)
    yield from _image_settings(nms)


def _image_settings(nms: messages.NmsOp) -> Sequence[Setting]:
    if nms.ssd is not None:
        return (
            Setting("Image height", _single(nms.ssd.image_height), ".2f"),
            Setting("Image width", _single(nms.ssd.image_width), ".2f"),
            Setting("Centers scales factor", nms.ssd.centers_scale_factor),
            Setting("Bbox dimension scale factor", nms.ssd.bbox_dimensions_scale_factor),
            Setting("Normalize boxes", False),  # HailoRT never sets it from a HEF
        )
    image = nms.yolo or nms.yolox or nms.yolo_seg or nms.yolov8
    if image is None:
        return ()
    size = (Setting("Image height", _whole(image.image_height)), Setting("Image width", _whole(image.image_width)))
    if nms.yolo_seg is None:
        return size
    return (*size, Setting("Mask threshold", _single(nms.yolo_seg.mask_threshold), ".2f"))


def _single(value: float) -> float:
    """Round to 32 bits, as HailoRT does before it prints."""
    return c_float(value).value


def _whole(value: float) -> int:
    """Cut to an integer; 0 for what is no number."""
    return int(value) if math.isfinite(value) else 0
