"""The HEF as the package shows it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from hailo_platform.pyhailort import _pyhailort, hef_file, streams
from hailo_platform.pyhailort._pyhailort import FormatOrder, FormatType
from hailo_platform.pyhailort.errors import error_of
from hailo_platform.pyhailort.streams import Group, Stream


class HEF:
    def __init__(self, hef_source: str | bytes) -> None:
        if not isinstance(hef_source, str | bytes):
            raise ValueError("HEF can only be created from a file path or a buffer")
        self.path = hef_source if isinstance(hef_source, str) else None
        try:
            content = hef_source if isinstance(hef_source, bytes) else Path(hef_source).read_bytes()
        except OSError as error:
            raise error_of(13) from error
        proto = hef_file.read(content)
        self._hw_arch = proto.header.hw_arch
        self._groups = streams.groups(proto)

    def get_network_group_names(self) -> list[str]:
        return [group.name for group in self._groups]

    def get_network_groups_infos(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=each.name, is_multi_context=each.contexts > 1) for each in self._groups]

    def get_networks_names(self, network_group_name: str | None = None) -> list[str]:
        try:
            return list(self._group(network_group_name).networks)
        except _pyhailort.HailoRTStatusException as error:
            raise error_of(61) from error

    def get_input_vstream_infos(self, name: str | None = None) -> list[SimpleNamespace]:
        return [_info(stream) for stream in self._group(name).inputs]

    def get_output_vstream_infos(self, name: str | None = None) -> list[SimpleNamespace]:
        return [_info(stream) for stream in self._group(name).outputs]

    def get_sorted_output_names(self, network_group_name: str | None = None) -> list[str]:
        return [stream.name for stream in self._group(network_group_name).outputs]

    def _group(self, name: str | None) -> Group:
        found = [group for group in self._groups if name in (None, group.name)]
        if not found:
            raise _pyhailort.HailoRTStatusException("61")
        return found[0]


def _info(stream: Stream) -> SimpleNamespace:
    info = SimpleNamespace(
        name=stream.name,
        network_name=stream.network,
        shape=stream.shape,
        quant_info=quant_infos(stream)[0],
        format=format_of(stream, FormatType[stream.dtype]),
    )
    if info.format.order is FormatOrder.HAILO_NMS_BY_CLASS:
        classes, _, boxes = stream.shape
        info.nms_shape = SimpleNamespace(number_of_classes=classes, max_bboxes_per_class=boxes)
    return info


def quant_infos(stream: Stream) -> list[SimpleNamespace]:
    low, high = stream.limits
    return [
        SimpleNamespace(qp_zp=zero_point, qp_scale=scale, limvals_min=low, limvals_max=high)
        for zero_point, scale in zip(stream.zero_points, stream.scales, strict=True)
    ]


def format_of(stream: Stream, kind: FormatType) -> SimpleNamespace:
    return SimpleNamespace(type=kind, order=FormatOrder[stream.order])
