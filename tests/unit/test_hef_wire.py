"""The wire reader and writer against the library of protobuf, and within their limits."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hefjoin.formats import hef_messages as messages
from hefjoin.formats import hef_wire
from hefjoin.formats.hef_wire import Field, Malformed, at, decode, encode, layout
from tests.hef_protobuf import description, emulated, message_class, rich


def read(kind: type, content: bytes, **options: Any) -> Any:
    return decode(kind, io.BytesIO(content), 0, options.pop("end", len(content)), **options)


def same(ours: Any, theirs: Any) -> bool:
    """Whether both libraries found the same, to any depth."""
    for declared in layout(type(ours)).values():
        mine, other = getattr(ours, declared.name), getattr(theirs, declared.name)
        if declared.is_repeated:
            pairs = list(zip(mine, other, strict=True))
        elif is_dataclass(declared.kind) and mine is None:
            assert not theirs.HasField(declared.name)
            pairs = []
        else:
            pairs = [(mine or declared.kind(), other)]
        for one, two in pairs:
            assert same(one, two) if is_dataclass(declared.kind) else one == two, declared.name
    return True


def values(declared: Field, depth: int) -> st.SearchStrategy[Any]:
    if is_dataclass(declared.kind):
        one = written(declared.kind, depth - 1)
    elif declared.kind is float:
        one = st.floats(width=32 if declared.is_single else 64, allow_nan=False)
    else:
        one = {
            int: st.integers(0, 2**64 - 1),
            bool: st.booleans(),
            str: st.text(st.characters(codec="utf-8"), max_size=8),
        }[declared.kind]
    return st.lists(one, max_size=3).map(tuple) if declared.is_repeated else one


def written(kind: Any, depth: int) -> st.SearchStrategy[Any]:
    """Messages of a kind; some of their fields are set, none below `depth`."""
    found = {
        declared.name: values(declared, depth)
        for declared in layout(kind).values()
        if depth > 0 or not is_dataclass(declared.kind)
    }
    return st.fixed_dictionaries({}, optional=found).map(lambda chosen: kind(**chosen))


KINDS = [messages.Header, messages.NmsOp, messages.EdgeLayer, messages.Op, messages.Hef]


@settings(max_examples=60, deadline=None)
@given(message=st.sampled_from(KINDS).flatmap(lambda kind: written(kind, 3)))
def test_what_is_written_is_read_by_both_libraries(message: Any) -> None:
    content = encode(message)
    assert read(type(message), content) == message
    assert same(message, message_class(type(message).__name__).FromString(content))


def test_what_the_other_library_writes_is_read() -> None:
    proto = rich()
    assert same(read(messages.Hef, proto.SerializeToString()), proto)


def test_an_emulated_description_is_written_as_the_other_library_writes_it() -> None:
    content = emulated()
    assert content[56:].startswith(description(content).SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Pair:
    """A message of three fields."""

    number: int = at(1)
    name: str = at(2, "")
    scales: tuple[float, ...] = at(3, ())


@dataclass(frozen=True)
class Nest:
    """A message inside itself."""

    inner: Nest | None = at(1, None)  # noqa: RUF009
    numbers: tuple[int, ...] = at(2, ())


SKIPPED = [b"\x20\x96\x01", b"\x21" + bytes(8), b"\x22\x02\xff\xff", b"\x25" + bytes(4)]


@pytest.mark.parametrize("unknown", SKIPPED, ids=["varint", "64 bits", "length", "32 bits"])
def test_fields_that_nobody_declared_are_stepped_over(unknown: bytes) -> None:
    assert read(Pair, unknown + b"\x08\x07" + unknown + b"\x12\x02ok" + unknown) == Pair(7, "ok")


def test_a_declared_field_of_another_wire_type_is_stepped_over() -> None:
    assert read(Pair, b"\x0a\x01x" + b"\x10\x05") == Pair()


def test_the_last_of_several_counts_and_numbers_may_be_packed_or_not() -> None:
    assert read(Pair, b"\x08\x01\x08\x02") == Pair(2)
    assert read(Nest, b"\x10\x05\x12\x02\x06\x07\x10\x08") == Nest(numbers=(5, 6, 7, 8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x08", "1 bytes are wanted"),
        (b"\x12\x05ab", "something that ends at byte 7 inside what ends at 4"),
        (b"\x12\x01\xff", "can't decode byte"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "field number 0"),
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
        (b"\x19\0\0", "8 bytes are wanted"),
        (b"\x1a\x03abc", "3 bytes of numbers of 8 bytes"),
    ],
)
def test_what_is_no_message_is_malformed_and_says_where(content: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        read(Pair, content)


def test_messages_inside_each_other_are_limited() -> None:
    content = b""
    for _ in range(hef_wire.NESTING_LIMIT):
        content = encode(Nest(read(Nest, content)))
    assert read(Nest, content).inner is not None
    with pytest.raises(Malformed, match="more than 100 messages"):
        read(Nest, b"\x0a" + hef_wire.varint(len(content)) + content)


def test_fields_and_content_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hef_wire, "FIELDS_LIMIT", 3)
    assert read(Pair, b"\x20\x01" * 3) == Pair()
    with pytest.raises(Malformed, match="more than 3 fields"):
        read(Pair, b"\x20\x01" * 4)
    with pytest.raises(Malformed, match="more than 3 fields"):
        read(Nest, b"\x12\x03\x01\x01\x01")
    monkeypatch.setattr(hef_wire, "CONTENT_LIMIT_BYTES", 3)
    assert read(Pair, b"\x12\x03abc") == Pair(name="abc")
    with pytest.raises(Malformed, match="more than 3 bytes of texts"):
        read(Pair, b"\x12\x04abcd")


def test_of_a_cut_message_the_whole_fields_are_read_where_that_is_asked_for() -> None:
    content = encode(Pair(7, "name"))
    assert read(Pair, content[:-1], end=len(content), is_cut=True) == Pair(7)
    with pytest.raises(Malformed, match="4 bytes are wanted, the file has 3"):
        read(Pair, content[:-1], end=len(content))


def test_declared_numbers_are_unique() -> None:
    kinds = [kind for kind in vars(messages).values() if is_dataclass(kind) and isinstance(kind, type)]
    assert len(kinds) > 20
    assert [kind for kind in kinds if len(layout(kind)) != len(fields(kind))] == []
