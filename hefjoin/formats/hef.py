"""Reads what a HEF holds, without the vendor's library and without reading its microcode.

A HEF (Hailo Executable Format) is what the Dataflow Compiler writes and the chip runs. `read` answers what the
stages ask: how many contexts, which inputs and outputs, which compiler, emulated or real. Rules taken from
`hef.cpp` and `layer_info.hpp` of hailo-ai/hailort v4.23.0. The one rule kept here: any bytes at all end in a `Hef`
or in an `InputError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hefjoin.errors import InputError
from hefjoin.formats import hef_container as container_format
from hefjoin.formats.hef_emulated import EMULATOR_SUFFIX, Edge, write_emulated
from hefjoin.formats.hef_groups import (
    BOX_BYTES,
    COUNT_BYTES,
    NMS_KINDS,
    NetworkGroup,
    NmsOp,
    Rules,
    Stream,
    read_group,
)
from hefjoin.formats.hef_schema import message_class

__all__ = [
    "Edge",
    "Hef",
    "NetworkGroup",
    "NmsOp",
    "Stream",
    "like_hailortcli",
    "read",
    "resource",
    "write_emulated",
]

ARCHITECTURES = {
    **dict.fromkeys((0, 1, 2, 101, 102), "HAILO8"),
    **dict.fromkeys((103, 104, 105), "HAILO15H"),
    **{3: "HAILO8L", 4: "HAILO15M", 5: "HAILO10H", 6: "HAILO15L", 100: "HAILO8_A0", 106: "PLUTO", 108: "MARS"},
}
"""Number in the header to the name HailoRT prints."""


@dataclass(frozen=True)
class Hef:
    """The description of one HEF."""

    container_version: int
    hw_arch: str
    """As HailoRT prints it; HAILO8 for five different numbers."""
    hw_arch_number: int
    sdk_version: str
    is_emulated: bool
    """Written by the emulator: no microcode inside, no device runs it."""
    timestamp_ms: int | None
    """When it was compiled, milliseconds since 1970."""
    groups: tuple[NetworkGroup, ...]
    resources: tuple[str, ...]
    """Names of the external resources; `resource` returns their bytes."""
    actual_bytes: int
    expected_bytes: int

    @property
    def is_truncated(self) -> bool:
        """True when the file ends before its header says so; HailoRT refuses it."""
        return self.actual_bytes < self.expected_bytes


def read(path: Path | str, *, verify: bool = False) -> Hef:
    """Read the description of a HEF (container versions 0 to 3).

    Args:
        path: the file; only its header and its protobuf are read.
        verify: also compare the checksum of the whole file.

    Raises:
        InputError: it is no HEF, its description is cut off or unreadable, a group has no context, or with
            `verify` the checksum differs. A file truncated behind its description is listed all the same.
    """
    container = container_format.open_container(Path(path))
    proto = _parse(container)
    if verify:
        container_format.verify(container)
    header = proto.header
    rules = Rules.of(proto)
    return Hef(
        container_version=container.version,
        hw_arch=ARCHITECTURES.get(header.hw_arch, "UNKNOWN"),
        hw_arch_number=header.hw_arch,
        sdk_version=_sdk_version(header),
        is_emulated=header.sdk_version_str.endswith(EMULATOR_SUFFIX),
        timestamp_ms=header.timestamp or None,
        groups=tuple(read_group(container.path, group, rules) for group in proto.network_groups),
        resources=tuple(entry.name for entry in proto.external_resources),
        actual_bytes=container.actual_bytes,
        expected_bytes=container.expected_bytes,
    )


def resource(path: Path | str, name: str) -> bytes:
    """Return one external resource of a HEF.

    Raises:
        InputError: as `read`; or the HEF has no resource of that name, or the file ends before it.
    """
    container = container_format.open_container(Path(path))
    entries = {entry.name: entry for entry in _parse(container).external_resources}
    if name not in entries or container.version == 0:
        known = ", ".join(sorted(entries)) or "none"
        raise InputError(
            f"{path}: no external resource {name!r} (it has: {known}); compile with the emulator to get its own"
        )
    entry, start = entries[name], container.zero_point
    if start + entry.offset + entry.size > container.actual_bytes:
        raise InputError(
            f"{path}: resource {name!r} ends at byte {start + entry.offset + entry.size:,}, the file has "
            f"{container.actual_bytes:,}; {container_format.GET_AGAIN}"
        )
    return container_format.read_slice(container, start + entry.offset, entry.size)


def like_hailortcli(hef: Hef) -> str:
    """Return what `hailortcli parse-hef --parse-streams` of HailoRT 4.23 prints for a HEF."""
    lines = [f"Architecture HEF was compiled for: {hef.hw_arch}"]
    for group in hef.groups:
        many = f"Multi Context - Number of contexts: {group.contexts}"
        lines.append(f"Network group name: {group.name}, {many if group.contexts > 1 else 'Single Context'}")
        listings = [("Stream infos", _by_network(group.streams)), ("VStream infos", _by_network(group.vstreams))]
        for network in group.networks:
            lines.append(f"    Network name: {network}")
            for title, streams in listings:
                lines.append(f"        {title}:")
                lines += [f"            {_stream_line(stream)}" for stream in streams.get(network, ())]
            for op in group.nms_ops[-1:]:
                lines.append("            Operation:")
                lines += [f"                {line}" for line in _nms_lines(op)]
    return "\n".join(lines) + "\n"


def _by_network(streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    found: dict[str, list[Stream]] = {}
    for stream in streams:
        found.setdefault(stream.network, []).append(stream)
    return found


def _stream_line(stream: Stream) -> str:
    shape = "x".join(map(str, stream.shape))
    if stream.order == "HAILO NMS BY CLASS":
        classes, _, boxes = stream.shape
        frame_bytes = classes * (COUNT_BYTES + BOX_BYTES * boxes)
        shape = (
            f"number of classes: {classes}, maximum bounding boxes per class: {boxes}, "
            f"maximum frame size: {frame_bytes}"
        )
    return f"{stream.direction.capitalize():<6} {stream.name} {stream.dtype}, {stream.order}({shape})"


def _nms_lines(op: NmsOp) -> Iterator[str]:
    kind, name = NMS_KINDS[op.kind]
    yield f"Op {kind}"
    yield f"Name: {name}"
    yield f"Score threshold: {op.score_threshold:.3f}"
    yield f"IoU threshold: {op.iou_threshold:.2f}"
    yield f"Classes: {op.classes}"
    yield f"Max bboxes per class: {op.max_boxes_per_class}"
    if op.image_height is not None:
        yield f"Image height: {op.image_height}"
        yield f"Image width: {op.image_width}"


def _parse(container: container_format.Container) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message_class("Hef").FromString(container_format.read_proto(container))
    except DecodeError as error:
        raise InputError(
            f"{container.path}: its description ({container.proto_bytes:,} bytes) is no protobuf of a HEF, the "
            f"file is damaged: {container_format.GET_AGAIN}"
        ) from error


def _sdk_version(header: Any) -> str:
    """Return `5.4.0` for `sdk-version: 5.4.0, git-branch: …` too; DFC 3.x writes it bare."""
    version = header.sdk_version
    text: str = header.sdk_version_str or f"{version.major}.{version.minor}.{version.revision}"
    found = re.search(r"(?<!\d)\d+\.\d+[\w.+-]*", text)
    return found.group() if found else text
