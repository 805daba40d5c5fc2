"""The shell of a HEF: versions, lengths, checksums, and what is no HEF at all."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import pytest
import xxhash

from hefjoin.errors import InputError
from hefjoin.formats import hef
from tests.hef_protobuf import description, emulated


def container(version: int, proto: bytes, payload: bytes) -> bytes:
    """A container of any version; v3 puts 100 bytes of padding before the payload."""
    padding = bytes(100 if version == 3 else 0)
    body = proto + padding + payload
    checksum = {
        0: lambda: struct.pack(">I", 0) + hashlib.md5(body).digest(),
        1: lambda: struct.pack(">IQI", zlib.crc32(body), len(payload), 0),
        2: lambda: struct.pack(">QQQQ", xxhash.xxh3_64_intdigest(body), len(payload), 0, 0),
        3: lambda: struct.pack(">QQIQQQ", xxhash.xxh3_64_intdigest(body), 100, 100, len(payload), 0, 0),
    }[version]()
    return struct.pack(">III", 0x01484546, version, len(proto)) + checksum + body


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_reads_every_container_version(version: int, tmp_path: Path) -> None:
    proto = description(emulated(resources={}))
    proto.external_resources.add(name="notes", offset=3, size=4)
    path = tmp_path / "a.hef"
    path.write_bytes(container(version, proto.SerializeToString(), b"" if version == 0 else b"abcnote"))
    found = hef.read(path, verify=True)
    assert (found.container_version, found.groups[0].name, found.is_truncated) == (version, "pair", False)
    if version == 0:
        with pytest.raises(InputError, match="no external resource"):
            hef.resource(path, "notes")
    else:
        assert hef.resource(path, "notes") == b"note"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"DUMMY_HEF_CONTENT_Mon", "plain text"),
        (b'{"mock": "hef"}', "JSON text"),
        (b"HEF\0ONNX mock", "stand-in"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "starts with 7f 45 4c 46"),
        (b"\x01HE", "cut off inside its header"),
        (b"\x01HEF\0\0\0\x03\0\0", "cut off inside its header"),
        (b"\x01HEF\0\0\0\x03\0\0\0\x08" + bytes(8), "20 of 56 bytes"),
        (b"\x01HEF\0\0\0\x09\0\0\0\x08" + bytes(60), "version 9, known are 0 to 3"),
        (b"\x01HEF\0\0\0\x03\xff\xff\xff\xff" + bytes(44) + b"\x0a\x05", "cut off inside its description"),
        (b"\x01HEF\0\0\0\x03\xff\xff\xff\xff" + bytes(60), "no protobuf of a HEF"),
        (b"\x01HEF\0\0\0\0\0\0\0\x04" + bytes(20) + b"\xff\xff\xff\xff", "no protobuf of a HEF"),
        (emulated() + b"!", "the file is damaged|it is damaged"),
    ],
)
def test_junk_is_named_for_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.hef"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        hef.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["absent.hef", "."])
def test_no_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file there"):
        hef.read(tmp_path / name)


def test_only_the_front_of_a_huge_file_is_read(tmp_path: Path) -> None:
    content = bytearray(emulated(resources={}))
    struct.pack_into(">Q", content, 32, 64 << 30)
    path = tmp_path / "huge.hef"
    path.write_bytes(content)
    with path.open("r+b") as stream:
        stream.truncate(len(content) + (64 << 30))
    found = hef.read(path)
    assert (found.actual_bytes, found.is_truncated) == (len(content) + (64 << 30), False)
