"""The outer shape of a HEF file: header, length rule, checksums and where things lie; nothing of what is inside.

Layout (all integers big-endian; source: `hef_internal.hpp` and `hef.cpp` of hailo-ai/hailort v4.23.0, checked
on files of every version):

    common   u32 magic 0x01484546, u32 version, u32 protobuf bytes
    v0       u32 reserved, 16 bytes MD5                        | protobuf (the microcode is inside it)
    v1       u32 CRC-32, u64 microcode, u32 -                  | protobuf, microcode
    v2       u64 XXH3-64, u64 microcode, u64 -, u64 -          | protobuf, microcode
    v3       u64 XXH3-64, u64 padding + microcode, u32 padding,
             u64 additional, u64 XXH3-64 of the protobuf, u64 - | protobuf, padding, microcode, additional

The checksum covers everything after the header. The one rule: no size in the header is believed before it was
compared with the size of the file.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hefjoin.artifacts import CHUNK_BYTES
from hefjoin.errors import InputError

MAGIC = 0x01484546
COMMON = struct.Struct(">III")
SPECIFIC = {
    0: struct.Struct(">I16s"),
    1: struct.Struct(">4sQI"),
    2: struct.Struct(">8sQQQ"),
    3: struct.Struct(">8sQIQ8sQ"),
}
ALIGNMENT_BYTES = 4096

GET_AGAIN = "compile it again, or fetch it again and compare its digest"


@dataclass(frozen=True)
class Parts:
    """What follows what in the file, bytes."""

    header_bytes: int
    description_bytes: int
    """The protobuf; in version 0 the microcode is inside it."""
    padding_bytes: int
    microcode_bytes: int
    additional_bytes: int
    """External resources of version 3; in versions 1 and 2 they count as microcode."""

    @property
    def total_bytes(self) -> int:
        """The size of the whole file."""
        return (
            self.header_bytes
            + self.description_bytes
            + self.padding_bytes
            + self.microcode_bytes
            + self.additional_bytes
        )


@dataclass(frozen=True)
class Container:
    """What the header says, and how many bytes the file really has."""

    path: Path
    version: int
    parts: Parts
    checksum: bytes
    actual_bytes: int

    @property
    def header_bytes(self) -> int:
        """Where the description begins."""
        return self.parts.header_bytes

    @property
    def expected_bytes(self) -> int:
        """The size the header asks for."""
        return self.parts.total_bytes

    @property
    def is_truncated(self) -> bool:
        """True when the end of the file is missing; its description may still be whole."""
        return self.actual_bytes < self.expected_bytes

    @property
    def description_end(self) -> int:
        """The file offset behind the description."""
        return self.parts.header_bytes + self.parts.description_bytes

    @property
    def zero_point(self) -> int:
        """The file offset that offsets of external resources count from."""
        return self.description_end + self.parts.padding_bytes


def open_container(path: Path) -> Container:
    """Read the header of a HEF and hold it against the size of the file.

    Raises:
        InputError: the file is missing or no HEF, its version is unknown, its header is cut off or contradicts
            itself, or the file is longer than the header says.
    """
    size, head = _head(path, COMMON.size + max(layout.size for layout in SPECIFIC.values()))
    _refuse_junk(path, head)
    if len(head) < COMMON.size:
        raise InputError(f"{path}: cut off inside its header, {size} bytes in all; {GET_AGAIN}")
    _, version, proto_bytes = COMMON.unpack_from(head)
    if version not in SPECIFIC:
        raise InputError(
            f"{path}: HEF container version {version}, known are 0 to 3; the file is damaged or newer than this "
            "hefjoin: compile it with a DFC of the 3.x line"
        )
    header_bytes = COMMON.size + SPECIFIC[version].size
    if len(head) < header_bytes:
        raise InputError(
            f"{path}: cut off inside its header, {size} of {header_bytes} bytes (version {version}); {GET_AGAIN}"
        )
    fields = SPECIFIC[version].unpack_from(head, COMMON.size)
    padding_bytes = microcode_bytes = additional_bytes = 0
    if version == 0:
        checksum = fields[1]
    elif version == 3:
        checksum, with_padding_bytes, padding_bytes, additional_bytes, *_ = fields
        microcode_bytes = with_padding_bytes - padding_bytes
    else:
        checksum, microcode_bytes, *_ = fields
    parts = Parts(header_bytes, proto_bytes, padding_bytes, microcode_bytes, additional_bytes)
    if microcode_bytes < 0 or size > parts.total_bytes:
        raise InputError(
            f"{path}: the header asks for {parts.total_bytes:,} bytes (padding {padding_bytes:,} of "
            f"{padding_bytes + microcode_bytes:,} after the description), the file has {size:,}; it is damaged: "
            f"{GET_AGAIN}"
        )
    return Container(path, version, parts, checksum, actual_bytes=size)


def read_slice(container: Container, offset: int, size_bytes: int) -> bytes:
    """Return `size_bytes` bytes of the file from `offset` on.

    Raises:
        InputError: the file has become shorter or cannot be read.
    """
    try:
        with container.path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(size_bytes)
    except OSError as error:
        raise InputError(f"{container.path}: cannot be read: {error.strerror}") from error
    if len(content) < size_bytes:
        raise InputError(f"{container.path}: {len(content):,} of {size_bytes:,} bytes at {offset:,}; {GET_AGAIN}")
    return content


def verify(container: Container) -> None:
    """Compare the checksum of everything after the header, read in chunks.

    Raises:
        InputError: the file is truncated, or the checksum differs.
    """
    if container.is_truncated:
        raise InputError(
            f"{container.path}: truncated, {container.actual_bytes:,} of {container.expected_bytes:,} bytes; "
            f"{GET_AGAIN}"
        )
    name, running = _checksum(container.version)
    try:
        with container.path.open("rb") as stream:
            stream.seek(container.header_bytes)
            while chunk := stream.read(CHUNK_BYTES):
                running.update(chunk)
    except OSError as error:
        raise InputError(f"{container.path}: cannot be read: {error.strerror}") from error
    if running.digest() != container.checksum:
        raise InputError(
            f"{container.path}: the {name} of its content is {running.digest().hex()}, its header says "
            f"{container.checksum.hex()}; the file is damaged: {GET_AGAIN}"
        )


def pack(proto: bytes, resources: Mapping[str, bytes]) -> bytes:
    """Return a version 3 container without microcode; the resources follow each other in name order.

    Their offsets from the zero point, which belong into `proto`, are the running sum of their sizes.
    """
    import xxhash

    header_bytes = COMMON.size + SPECIFIC[3].size
    padding_bytes = -(header_bytes + len(proto)) % ALIGNMENT_BYTES
    additional = b"".join(resources[name] for name in sorted(resources))
    body = b"".join((proto, bytes(padding_bytes), additional))
    header = COMMON.pack(MAGIC, 3, len(proto)) + SPECIFIC[3].pack(
        xxhash.xxh3_64_digest(body),
        padding_bytes,
        padding_bytes,
        len(additional),
        xxhash.xxh3_64_digest(proto),
        0,
    )
    return header + body


class _Crc32:
    """`zlib.crc32` with the interface of `hashlib`."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, chunk: bytes) -> None:
        self._value = zlib.crc32(chunk, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4)


def _checksum(version: int) -> tuple[str, Any]:
    """Return the name and a running hash of one container version."""
    if version == 0:
        return "MD5", hashlib.md5(usedforsecurity=False)
    if version == 1:
        return "CRC-32", _Crc32()
    import xxhash

    return "XXH3-64", xxhash.xxh3_64()


def _head(path: Path, size_bytes: int) -> tuple[int, bytes]:
    """Return the size of the file and its first bytes."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no file there; give the path of a HEF")
        with path.open("rb") as stream:
            return path.stat().st_size, stream.read(size_bytes)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _refuse_junk(path: Path, head: bytes) -> None:
    """Name what is often found under the name *.hef and is none."""
    magic = MAGIC.to_bytes(4)
    if head and head[:4] == magic[: len(head)]:
        return
    if not head:
        raise InputError(f"{path}: empty, 0 bytes; {GET_AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a Git LFS pointer, not the HEF itself; run `git lfs pull` where it came from")
    if head.startswith(b"HEF\0"):
        raise InputError(
            f"{path}: a stand-in that starts with `HEF` and a NUL byte, a HEF starts with {magic.hex(' ')}; "
            "compile the network to get a real one"
        )
    text = head[:32].decode("ascii", errors="replace")
    if text.lstrip()[:1] in ("{", "["):
        raise InputError(f"{path}: JSON text ({text!r}…), not a HEF; compile the network to get a real one")
    if all(letter.isprintable() or letter.isspace() for letter in text) and "\ufffd" not in text:
        raise InputError(f"{path}: plain text ({text!r}…), not a HEF; compile the network to get a real one")
    raise InputError(f"{path}: starts with {head[:4].hex(' ')}, a HEF starts with {magic.hex(' ')}; {GET_AGAIN}")
