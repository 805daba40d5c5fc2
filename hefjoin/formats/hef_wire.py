"""Reads and writes protobuf messages declared as dataclasses, and steps over all that is not declared.

A HEF's description takes megabytes, of which a listing needs one or two kilobytes. Here what nobody declared is passed
by its length and never read, so neither time nor memory grow with it. The one rule: work is bounded whatever the bytes
say (`FIELDS_LIMIT`, `CONTENT_LIMIT_BYTES`, `NESTING_LIMIT`).

Wire format: https://protobuf.dev/programming-guides/encoding. Where a field that is not repeated comes twice, the last
one counts; protobuf would merge messages, which no writer of one file relies on. Groups (deprecated) are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import field as dataclass_field
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, BinaryIO, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
DOUBLE, SINGLE = struct.Struct("<d"), struct.Struct("<f")

FIELDS_LIMIT = 300_000
"""Of one file, stepped over or not, and packed integers; real descriptions of one context have some hundreds."""
CONTENT_LIMIT_BYTES = 8 << 20
"""Of all texts and packed floats together; real descriptions have 1 to 20 kB."""
NESTING_LIMIT = 100

Message = TypeVar("Message")


class Malformed(ValueError):
    """These bytes are no such message."""


class CutOff(Malformed):
    """The file ends inside the message."""


def at(number: int, default: Any = 0, *, is_single: bool = False) -> Any:
    """Declare a field of a message; its type is the annotation.

    Args:
        number: its number in the protobuf.
        default: what it holds where the wire has nothing.
        is_single: a float of 32 bits rather than 64.
    """
    return dataclass_field(default=default, metadata={"number": number, "is_single": is_single})


class Field(NamedTuple):
    """One declared field."""

    name: str
    kind: Any
    """int, bool, float, str or a dataclass."""
    is_repeated: bool
    is_single: bool
    default: Any

    @property
    def wire(self) -> int:
        """How one value of it is written."""
        if self.kind is float:
            return FIXED32 if self.is_single else FIXED64
        return VARINT if self.kind in (int, bool) else LENGTH


@cache
def layout(kind: Any) -> dict[int, Field]:
    """Return the fields of a declared message by number, in the order of their numbers."""
    hints = get_type_hints(kind)
    found = {}
    for declared in sorted(fields(kind), key=lambda declared: int(declared.metadata["number"])):
        hint = hints[declared.name]
        inner = get_args(hint)  # (X, ...) of tuple[X, ...], (X, None) of X | None
        found[declared.metadata["number"]] = Field(
            name=declared.name,
            kind=inner[0] if inner else hint,
            is_repeated=get_origin(hint) is tuple,
            is_single=declared.metadata["is_single"],
            default=declared.default,
        )
    return found


def decode(kind: type[Message], stream: BinaryIO, start: int, end: int, *, is_cut: bool = False) -> Message:
    """Read the message that fills the bytes from `start` to `end` of a file.

    Args:
        kind: what it is declared as.
        stream: the file.
        start: its first byte.
        end: the byte behind its last one.
        is_cut: the file ends before `end`; those of the outermost fields that are whole are read.

    Raises:
        Malformed: the bytes are no such message, or one larger than the limits.
        OSError: the file cannot be read.
    """
    found: Message = _Reader(stream, start, is_cut).message(kind, end)
    return found


def encode(message: Any) -> bytes:
    """Return the wire form: fields by number, defaults left out, numbers of a repeated field packed."""
    kind: Any = type(message)
    fields_by_number = layout(kind).items()
    return b"".join(_encoded(number, field, getattr(message, field.name)) for number, field in fields_by_number)


class _Reader:
    """Goes through a file forwards."""

    def __init__(self, stream: BinaryIO, start: int, is_cut: bool) -> None:
        self._stream, self._at, self._is_cut = stream, start, is_cut
        self._fields_left, self._content_left = FIELDS_LIMIT, CONTENT_LIMIT_BYTES
        stream.seek(start)

    def message(self, kind: Any, end: int, depth: int = 0) -> Any:
        """Read the fields up to `end`."""
        if depth > NESTING_LIMIT:
            raise Malformed(f"byte {self._at:,}: more than {NESTING_LIMIT} messages inside each other")
        declared_fields = layout(kind)
        values: dict[str, Any] = {}
        try:
            while self._at < end:
                self._field(declared_fields, values, end, depth)
        except CutOff:
            if depth or not self._is_cut:
                raise
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def _field(self, declared_fields: dict[int, Field], values: dict[str, Any], end: int, depth: int) -> None:
        """Read one field into `values`, or pass it."""
        number, wire = self._key(end)
        declared = declared_fields.get(number)
        if declared is not None and wire == declared.wire:
            value = self._value(declared, end, depth)
            if declared.is_repeated:
                values.setdefault(declared.name, []).append(value)
            else:
                values[declared.name] = value
        elif declared is not None and declared.is_repeated and wire == LENGTH:
            values.setdefault(declared.name, []).extend(self._packed(declared, self._stop(end)))
        else:
            self._skip(wire, end)

    def _key(self, end: int) -> tuple[int, int]:
        self._count_field()
        key = self._varint(end)
        if not 0 < key >> 3 < 1 << 29:
            raise Malformed(f"byte {self._at:,}: field number {key >> 3}")
        return key >> 3, key & 7

    def _value(self, declared: Field, end: int, depth: int) -> Any:
        if declared.wire == VARINT:
            return declared.kind(self._varint(end))
        if declared.wire != LENGTH:
            number = SINGLE if declared.is_single else DOUBLE
            return number.unpack(self._bytes(number.size, end))[0]
        stop = self._stop(end)
        return self.message(declared.kind, stop, depth + 1) if is_dataclass(declared.kind) else self._text(stop)

    def _packed(self, declared: Field, stop: int) -> Iterator[Any]:
        """Yield the numbers of a repeated field that come as one piece."""
        if declared.kind is float:
            number = SINGLE if declared.is_single else DOUBLE
            if (stop - self._at) % number.size:
                raise Malformed(f"byte {self._at:,}: {stop - self._at} bytes of numbers of {number.size} bytes")
            yield from (value for (value,) in number.iter_unpack(self._content(stop)))
        while self._at < stop:
            self._count_field()
            yield self._value(declared, stop, 0)

    def _skip(self, wire: int, end: int) -> None:
        if wire == VARINT:
            self._varint(end)
        elif wire == LENGTH:
            self._at = self._stop(end)
            self._stream.seek(self._at)
        elif wire in (FIXED32, FIXED64):
            self._bytes(4 if wire == FIXED32 else 8, end)
        else:
            raise Malformed(f"byte {self._at:,}: wire type {wire}")

    def _stop(self, end: int) -> int:
        """Read a length; return where what has it ends."""
        stop = self._varint(end) + self._at
        if stop > end:
            raise Malformed(f"byte {self._at:,}: something that ends at byte {stop:,} inside what ends at {end:,}")
        return stop

    def _varint(self, end: int) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._bytes(1, end)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (1 << 64) - 1
        raise Malformed(f"byte {self._at:,}: a number of more than 64 bits")

    def _text(self, stop: int) -> str:
        try:
            return self._content(stop).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"byte {self._at:,}: {error}") from error

    def _content(self, stop: int) -> bytes:
        self._content_left -= stop - self._at
        if self._content_left < 0:
            raise Malformed(f"byte {self._at:,}: more than {CONTENT_LIMIT_BYTES:,} bytes of texts and packed numbers")
        return self._bytes(stop - self._at, stop)

    def _count_field(self) -> None:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise Malformed(f"byte {self._at:,}: more than {FIELDS_LIMIT:,} fields")

    def _bytes(self, count: int, end: int) -> bytes:
        if self._at + count > end:
            raise Malformed(f"byte {self._at:,}: {count} bytes are wanted of what ends at {end:,}")
        content = self._stream.read(count)
        if len(content) < count:
            raise CutOff(f"byte {self._at:,}: {count} bytes are wanted, the file has {len(content)}")
        self._at += count
        return content


def _encoded(number: int, declared: Field, value: Any) -> bytes:
    """Return one field with all its values; nothing where it holds what an absent one means."""
    if not declared.is_repeated:
        is_absent = value is None or (not is_dataclass(declared.kind) and value == declared.default)
        return b"" if is_absent else _key_bytes(number, declared.wire) + _payload(declared, value)
    if declared.wire == LENGTH:
        return b"".join(_key_bytes(number, LENGTH) + _payload(declared, item) for item in value)
    packed = b"".join(_payload(declared, item) for item in value)
    return _key_bytes(number, LENGTH) + varint(len(packed)) + packed if packed else b""


def _payload(declared: Field, value: Any) -> bytes:
    if declared.wire == VARINT:
        return varint(int(value))
    if declared.wire != LENGTH:
        return (SINGLE if declared.is_single else DOUBLE).pack(value)
    content = encode(value) if is_dataclass(declared.kind) else value.encode()
    return varint(len(content)) + content


def _key_bytes(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """Return an integer of 0 to 2**64 - 1 in groups of seven bits, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
