"""Any bytes are read or refused."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hefjoin.errors import InputError
from hefjoin.formats import hef, hef_container
from hefjoin.formats.hef_listing import like_hailortcli
from tests.hef_protobuf import emulated, rich

fuzz = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    try:
        found = hef.read(path)
    except InputError:
        return
    assert like_hailortcli(found).startswith("Architecture HEF was compiled for: ")


@fuzz
@given(version=st.integers(0, 4), rest=st.binary(max_size=200))
def test_any_bytes_behind_the_magic_are_read_or_refused(version: int, rest: bytes, tmp_path: Path) -> None:
    read_or_refuse(b"\x01HEF" + version.to_bytes(4) + rest, tmp_path / "a.hef")


@fuzz
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20))
def test_any_damage_to_a_description_is_read_or_refused(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    proto = bytearray(rich().SerializeToString())
    for place, byte in changes:
        proto[place % len(proto)] = byte
    read_or_refuse(hef_container.pack(bytes(proto), {}), tmp_path / "a.hef")


@fuzz
@given(place=st.integers(0, 1 << 20), byte=st.integers(0, 255), length=st.integers(0, 1 << 20))
def test_any_damage_to_a_file_is_read_or_refused(place: int, byte: int, length: int, tmp_path: Path) -> None:
    content = bytearray(emulated())
    content[place % 80] = byte
    read_or_refuse(bytes(content[: length % (len(content) + 1)]), tmp_path / "a.hef")
