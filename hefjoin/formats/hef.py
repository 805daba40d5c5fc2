"""Reads what a HEF holds, without the vendor's library and without reading its microcode.

A HEF (Hailo Executable Format) is what the Dataflow Compiler writes and the chip runs. `read` answers what the
stages ask: how many contexts, which inputs and outputs, which compiler, emulated or real. Rules taken from
`hef.cpp` and `layer_info.hpp` of hailo-ai/hailort v4.23.0. The one rule kept here: any bytes at all end in a `Hef`
or in an `InputError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hefjoin.errors import InputError
from hefjoin.formats import hef_container, hef_wire
from hefjoin.formats import hef_messages as messages
from hefjoin.formats.hef_container import Container, Parts
from hefjoin.formats.hef_emulated import EMULATOR_SUFFIX, Edge, HostStep, write_emulated
from hefjoin.formats.hef_groups import NetworkGroup, read_group
from hefjoin.formats.hef_ops import HostOp
from hefjoin.formats.hef_streams import Rules, Stream

__all__ = [
    "Edge",
    "Hef",
    "HostOp",
    "HostStep",
    "NetworkGroup",
    "Parts",
    "Stream",
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
    parts: Parts
    """What its bytes are, as the header says."""
    actual_bytes: int

    @property
    def expected_bytes(self) -> int:
        """The size that the header asks for."""
        return self.parts.total_bytes

    @property
    def is_truncated(self) -> bool:
        """True when the file ends before its header says so; HailoRT refuses it."""
        return self.actual_bytes < self.expected_bytes

    @property
    def is_description_cut(self) -> bool:
        """True when the file ends inside its description.

        Extensions and resources are unknown then, and with them the rules for names and padding of streams.
        """
        return self.actual_bytes < self.parts.header_bytes + self.parts.description_bytes


def read(path: Path | str, *, verify: bool = False) -> Hef:
    """Read the description of a HEF (container versions 0 to 3).

    Args:
        path: the file; only its header and what of its description is needed are read.
        verify: also compare the checksum of the whole file.

    Raises:
        InputError: it is no HEF, its description is unreadable or cut off before its first network group, a group
            has no context, or with `verify` the checksum differs. What is left of a truncated file is listed all the
            same: ask `is_truncated`.
    """
    container = hef_container.open_container(Path(path))
    if verify:
        hef_container.verify(container)
    proto = _parse(container)
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
        parts=container.parts,
        actual_bytes=container.actual_bytes,
    )


def resource(path: Path | str, name: str) -> bytes:
    """Return one external resource of a HEF.

    Raises:
        InputError: as `read`; or the HEF has no resource of that name, or the file ends before it.
    """
    container = hef_container.open_container(Path(path))
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
            f"{container.actual_bytes:,}; {hef_container.GET_AGAIN}"
        )
    return hef_container.read_slice(container, start + entry.offset, entry.size)


def _parse(container: Container) -> messages.Hef:
    is_cut = container.actual_bytes < container.description_end
    try:
        with container.path.open("rb") as stream:
            found = hef_wire.decode(
                messages.Hef, stream, container.header_bytes, container.description_end, is_cut=is_cut
            )
    except hef_wire.Malformed as error:
        raise InputError(
            f"{container.path}: its description ({container.parts.description_bytes:,} bytes) is no protobuf of a HEF "
            f"({error}), the file is damaged: {hef_container.GET_AGAIN}"
        ) from error
    except OSError as error:
        raise InputError(f"{container.path}: cannot be read: {error.strerror}") from error
    if is_cut and not found.network_groups:
        raise InputError(
            f"{container.path}: cut off inside its description before the first network group, "
            f"{container.actual_bytes:,} of {container.expected_bytes:,} bytes; {hef_container.GET_AGAIN}"
        )
    return found


def _sdk_version(header: messages.Header) -> str:
    """Return `5.4.0` for `sdk-version: 5.4.0, git-branch: …` too; DFC 3.x writes it bare."""
    version = header.sdk_version or messages.SdkVersion()
    text = header.sdk_version_str or f"{version.major}.{version.minor}.{version.revision}"
    found = re.search(r"(?<!\d)\d+\.\d+[\w.+-]*", text)
    return found.group() if found else text
