"""The container of a HEF and the protobuf in it, read with the library of protobuf after `hef.proto` beside this file.

Container versions and their checksums from `hef_internal.hpp` and `hef.cpp` of hailo-ai/hailort v4.23.0. What the
package refuses is refused here with the same status.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from hailo_platform.pyhailort import chip
from hailo_platform.pyhailort.errors import error_of

COMMON = ">III"
MAGIC = 0x01484546
CORRUPTED, NOT_SUPPORTED = 91, 92
KNOWN_EXTENSIONS = set(range(33))
PERIPH_CALCULATION_IN_HAILORT = 26


class Layout(NamedTuple):
    """One version of the container."""

    since: tuple[int, int]
    """The first HailoRT that reads it; all later ones do."""
    header: str
    """The fields after magic, version and size of the protobuf: the checksum, then sizes."""
    sizes: tuple[int, ...]
    """Which of these fields make up, with the protobuf, all that follows the header."""
    checksum: Callable[[bytes], Any]
    """Of all that follows the header."""
    place: int
    """Of the checksum among these fields."""


LAYOUTS = {
    0: Layout((0, 0), ">I16s", (), lambda body: hashlib.md5(body, usedforsecurity=False).digest(), 1),
    1: Layout((4, 18), ">IQI", (1,), zlib.crc32, 0),
    2: Layout((4, 20), ">QQQQ", (1,), xxhash.xxh3_64_intdigest, 0),
    3: Layout((4, 21), ">QQIQQQ", (1, 3), xxhash.xxh3_64_intdigest, 0),
}


def read(content: bytes) -> Any:
    """Return the ProtoHEFHef in a HEF.

    Raises:
        HailoRTException: 92 for what is no HEF, one of a newer container, one with an extension that is not known or
            without the one that is asked for; 91 for a wrong length or checksum, or a protobuf that cannot be read.
    """
    common = struct.calcsize(COMMON)
    if len(content) < common:
        raise error_of(CORRUPTED if content.startswith(struct.pack(">I", MAGIC)) else NOT_SUPPORTED)
    magic, version, proto_bytes = struct.unpack_from(COMMON, content)
    layout = LAYOUTS.get(version)
    if layout is None or magic != MAGIC or _release() < layout.since:
        raise error_of(NOT_SUPPORTED)
    start = common + struct.calcsize(layout.header)
    if len(content) < start:
        raise error_of(CORRUPTED)
    fields = struct.unpack_from(layout.header, content, common)
    body = content[start:]
    is_whole = len(body) == proto_bytes + sum(fields[place] for place in layout.sizes)
    if not is_whole or layout.checksum(body) != fields[layout.place]:
        raise error_of(CORRUPTED)
    try:
        proto = message_class("ProtoHEFHef").FromString(body[:proto_bytes])
    except DecodeError as error:
        raise error_of(CORRUPTED) from error
    extensions = {each.type_index for each in proto.extensions}
    if extensions - KNOWN_EXTENSIONS or PERIPH_CALCULATION_IN_HAILORT not in extensions or not proto.header.version:
        raise error_of(NOT_SUPPORTED)
    return proto


def message_class(name: str) -> Any:
    """Return the class that the library of protobuf makes of a message of `hef.proto`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def _release() -> tuple[int, ...]:
    return tuple(map(int, chip.settings().version.split(".")[:2]))


@cache
def _pool() -> Any:
    """Return the messages of `hef.proto`, which keeps to one field a line, without nesting."""
    text = Path(__file__).with_name("hef.proto").read_text(encoding="utf-8")
    file = descriptor_pb2.FileDescriptorProto(name="hef.proto", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto.Type
    labels = descriptor_pb2.FieldDescriptorProto.Label
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        message = file.message_type.add(name=name)
        for label, kind, field_name, number in re.findall(r"^  (\w+ )?(\w+) (\w+) = (\d+);$", body, re.MULTILINE):
            field = message.field.add(name=field_name, number=int(number))
            field.label = labels.Value("LABEL_REPEATED" if label == "repeated " else "LABEL_OPTIONAL")
            if kind.startswith("Proto"):
                field.type, field.type_name = types.Value("TYPE_MESSAGE"), f".{kind}"
            else:
                field.type = types.Value(f"TYPE_{kind.upper()}")
            if label == "optional ":
                field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field_name}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool
