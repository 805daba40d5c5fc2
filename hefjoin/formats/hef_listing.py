"""A HEF as the vendor's command lists it: `hailortcli parse-hef --parse-streams` of HailoRT 4.23, line by line.

Follows `Hef::Impl::get_description` in `hef.cpp` of hailo-ai/hailort v4.23.0. Two things of it look odd and are meant:
of several post-processing ops of a group only the last is described, and every network of the group repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hefjoin.formats.hef import Hef
from hefjoin.formats.hef_groups import NetworkGroup
from hefjoin.formats.hef_streams import NMS_BY_CLASS, NMS_ON_CHIP, Stream

TAB = "    "


def like_hailortcli(hef: Hef) -> str:
    """Return what `hailortcli parse-hef --parse-streams` prints for a HEF."""
    lines = [f"Architecture HEF was compiled for: {hef.hw_arch}"]
    for group in hef.groups:
        many = f"Multi Context - Number of contexts: {group.contexts}"
        lines.append(f"Network group name: {group.name}, {many if group.contexts > 1 else 'Single Context'}")
        lines += _network_lines(group)
    return "\n".join(lines) + "\n"


def _network_lines(group: NetworkGroup) -> Iterator[str]:
    listings = [("Stream infos", _by_network(group.streams)), ("VStream infos", _by_network(group.vstreams))]
    for network in group.networks:
        yield f"{TAB}Network name: {network}"
        for title, streams in listings:
            yield f"{2 * TAB}{title}:"
            yield from (f"{3 * TAB}{_stream_line(stream)}" for stream in streams.get(network, ()))
        for op in group.host_ops[-1:]:
            yield f"{3 * TAB}Operation:"
            yield from (f"{4 * TAB}{line}" for line in op.lines)


def _by_network(streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    found: dict[str, list[Stream]] = {}
    for stream in streams:
        found.setdefault(stream.network, []).append(stream)
    return found


def _stream_line(stream: Stream) -> str:
    return f"{stream.direction.capitalize():<6} {stream.name} {stream.dtype}, {stream.order}({_shape(stream)})"


def _shape(stream: Stream) -> str:
    nms = stream.nms
    if nms is None:
        return "x".join(map(str, stream.shape))
    frame = f"maximum frame size: {nms.frame_bytes}"
    if stream.order == NMS_ON_CHIP:
        return frame
    boxes = "per class" if stream.order == NMS_BY_CLASS else "total"
    return f"number of classes: {nms.classes}, maximum bounding boxes {boxes}: {nms.boxes}, {frame}"
