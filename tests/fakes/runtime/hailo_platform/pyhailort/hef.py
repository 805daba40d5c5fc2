"""The HEF as the package shows it, read with hefjoin's own reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import FormatOrder, FormatType
from hailo_platform.pyhailort.errors import error_of
from hefjoin.errors import InputError
from hefjoin.formats import hef as hef_file


class HEF:
    def __init__(self, hef_source: str | bytes) -> None:
        if not isinstance(hef_source, str | bytes):
            raise ValueError("HEF can only be created from a file path or a buffer")
        self.path = hef_source if isinstance(hef_source, str) else None
        self._hef = _read(hef_source)

    def get_network_group_names(self) -> list[str]:
        return [group.name for group in self._hef.groups]

    def get_input_vstream_infos(self, name: str | None = None) -> list[SimpleNamespace]:
        return [_info(stream) for stream in self._group(name).inputs]

    def get_output_vstream_infos(self, name: str | None = None) -> list[SimpleNamespace]:
        return [_info(stream) for stream in self._group(name).outputs]

    def get_sorted_output_names(self, network_group_name: str | None = None) -> list[str]:
        return [stream.name for stream in self._group(network_group_name).outputs]

    def _group(self, name: str | None) -> hef_file.NetworkGroup:
        found = [group for group in self._hef.groups if name in (None, group.name)]
        if not found:
            raise _pyhailort.HailoRTStatusException("61")
        return found[0]


def _read(source: str | bytes) -> hef_file.Hef:
    content = b""
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "x.hef").write_bytes(content)
            return hef_file.read(Path(folder) / "x.hef", verify=True)
    except OSError as error:
        raise error_of(13) from error
    except InputError as error:
        raise error_of(91 if content.startswith(b"\x01HEF") else 92) from error


def _info(stream: hef_file.Stream) -> SimpleNamespace:
    return SimpleNamespace(
        name=stream.name,
        shape=stream.shape,
        quant_info=SimpleNamespace(qp_zp=stream.zero_point, qp_scale=stream.scale),
        format=format_of(stream, FormatType[stream.dtype]),
    )


def format_of(stream: hef_file.Stream, kind: FormatType) -> SimpleNamespace:
    return SimpleNamespace(type=kind, order=FormatOrder[stream.order.replace(" ", "_")])
