"""Changes to an input that keep its shell whole, so that the fuzzer gets behind lengths and checksums.

Without them nearly every change to a tar header or a protobuf ends at the first check of the reader.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from hefjoin.formats import hef_container
from hefjoin.formats.har_guard import GZIP_MAGIC
from tests.fuzz import seeds
from tests.hef_protobuf import message_class

Change = Callable[[bytes, int], bytes]
"""Bytes and the most there may be, to other bytes: libFuzzer's own mutator."""

SIZE, CHECKSUM = slice(124, 136), slice(148, 156)
"""Fields of a tar header."""
INTEGERS = (0, 1, 2, 13, 255, 2**31 - 1, 2**32 - 1)
TEXTS = ("", "a", "1" * 40, "1.2.3-emulator", "é", "n" * 300)


def mutate_hef(content: bytes, limit: int, random: Random, change: Change) -> bytes:
    """Change the whole file, its bytes behind the header, or one field of its description."""
    if random.random() < 0.2 or len(content) < hef_container.COMMON.size:
        return change(content, limit)
    _, version, size = hef_container.COMMON.unpack_from(content)
    version = version if version in hef_container.SPECIFIC else 3
    start = hef_container.COMMON.size + hef_container.SPECIFIC[version].size
    description = content[start : start + size]
    if random.random() < 0.5:
        return seeds.container(version, change(description, limit - start))[:limit]
    return seeds.container(version, mutate_message(message_class("Hef"), description, random))[:limit]


def mutate_onnx(content: bytes, limit: int, random: Random, change: Change) -> bytes:
    """Change bytes, or one field of the model."""
    import onnx

    if random.random() < 0.5:
        return change(content, limit)
    return mutate_message(onnx.ModelProto, content, random)[:limit]


def mutate_har(content: bytes, limit: int, random: Random, change: Change) -> bytes:
    """Change bytes before compression and mostly mend the checksums of the tar headers."""
    is_gzip = content.startswith(GZIP_MAGIC)
    if random.random() < 0.1:
        return change(content, limit)
    if is_gzip:
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, limit)
        except zlib.error:
            return change(content, limit)
    content = change(content, limit)
    if random.random() < 0.9:
        content = _with_checksums(content)
    return gzip.compress(content, 1, mtime=0)[:limit] if is_gzip != (random.random() < 0.02) else content


def mutate_text(content: bytes, limit: int, random: Random, change: Change) -> bytes:
    """Change bytes, or repeat a piece of the text."""
    if random.random() < 0.8 or not content:
        return change(content, limit)
    start = random.randrange(len(content))
    piece = content[start : start + random.randint(1, 80)]
    return (content[:start] + piece * random.choice((2, 10, 1000)) + content[start:])[:limit]


def mutate_message(kind: Any, content: bytes, random: Random) -> bytes:
    """Set, clear, repeat or add one field somewhere in a protobuf; unreadable bytes stay as they are."""
    from google.protobuf.message import DecodeError

    try:
        message = kind.FromString(content)
    except DecodeError:
        return content
    for _ in range(random.choice((1, 1, 2, 8))):
        target = random.choice(list(_messages(message)))
        field = random.choice(target.DESCRIPTOR.fields or message.DESCRIPTOR.fields)
        _change_field(target if field.containing_type == target.DESCRIPTOR else message, field, random)
    encoded: bytes = message.SerializeToString()
    return encoded


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if _is_repeated(field) else [value]:
                yield from _messages(inner)


def _change_field(message: Any, field: Any, random: Random) -> None:
    if random.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None and _is_repeated(field):
        items = getattr(message, field.name)
        added = items.add()
        if len(items) > 1 and random.random() < 0.7:
            added.CopyFrom(random.choice(items[:-1]))
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
    elif _is_repeated(field):
        getattr(message, field.name).extend([_value(field, random)] * random.choice((1, 2, 500)))
    else:
        setattr(message, field.name, _value(field, random))


def _is_repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _value(field: Any, random: Random) -> Any:
    """Return some value that the field can hold."""
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            text = random.choice(TEXTS)
            return text.encode() if field.type == field.TYPE_BYTES else text
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return random.choice((0.0, -1.5, 1e308, float("nan"), float("inf")))
        case field.CPPTYPE_BOOL:
            return random.random() < 0.5
        case field.CPPTYPE_UINT64:
            return random.choice((*INTEGERS, 2**64 - 1))
        case field.CPPTYPE_INT64:
            return random.choice((*INTEGERS, 2**63 - 1, -1))
        case field.CPPTYPE_INT32:
            return random.choice((*INTEGERS[:-1], -1))
    return random.choice(INTEGERS)


def _with_checksums(content: bytes) -> bytes:
    """Mend the checksum of every tar header that a reader would come to."""
    mended = bytearray(content)
    place = 0
    while place + tarfile.BLOCKSIZE <= len(mended):
        header = mended[place : place + tarfile.BLOCKSIZE]
        if any(header):
            header[CHECKSUM] = b" " * 8
            header[CHECKSUM] = b"%06o\0 " % sum(header)
            mended[place : place + tarfile.BLOCKSIZE] = header
        try:
            size = max(0, int(header[SIZE].strip(b"\0 ") or b"0", 8))
        except ValueError:
            size = 0
        place += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))
    return bytes(mended)
