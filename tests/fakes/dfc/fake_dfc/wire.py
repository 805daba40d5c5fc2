"""The wire format of protobuf, written by hand: the writer shares nothing with the reader that it checks."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    """Return a base-128 number, least significant group first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def number(field: int, value: int) -> bytes:
    """Return an integer, enum or bool field; zero is absent, as proto3 has it."""
    return varint(field << 3) + varint(value) if value else b""


def chunk(field: int, content: bytes | str) -> bytes:
    """Return a submessage, string or bytes field."""
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def float32(field: int, value: float) -> bytes:
    """Return a float field."""
    return varint(field << 3 | 5) + struct.pack("<f", value)


def float64(field: int, value: float) -> bytes:
    """Return a double field."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def float64s(field: int, values: list[float]) -> bytes:
    """Return a packed repeated double field."""
    return chunk(field, struct.pack(f"<{len(values)}d", *values))
