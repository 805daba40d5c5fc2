"""HEFs as the Dataflow Compiler would describe them, with little microcode: enough for all that is done before a run.

Written with the encoder of the fake compiler, so the readers that are tested share no code with the writer. Field
numbers from `hef.proto` of hailo-ai/hailort v4.23.0.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import xxhash

from hefjoin.formats.hef import Edge
from tests.fakes.dfc.fake_dfc.wire import chunk, float32, number
from tests.tiny import SIZE

HAILO8L = 3
HALVES = (51, 204)
"""Cluster bitmaps of the two alternatives in a HEF for the Hailo-8L."""
GROUP = "pair"
EXTENSIONS, OPTIONAL = (0, 3, 26, 12), (8, 11)
"""Those of real files: the numbers 26 and 8 are asked for by HailoRT and name the networks."""
FORMAT_VERSION = 5
NHWC, NHCW, NC = 0, 1, 2
OUTPUT = 1
ALIGNED = 8
MICROCODE = bytes(range(256))


def write_hef(
    path: Path,
    *,
    hw_arch: int = 1,
    sdk_version: str = "3.31.0",
    groups: int = 1,
    inputs: int = 1,
    shape: tuple[int, ...] = (SIZE, SIZE, 3),
) -> Path:
    """Write a HEF of one network, `pair`, with two outputs.

    Args:
        path: Where to.
        hw_arch: The number in its header: 1 for `hailo8`, 3 for `hailo8l`.
        sdk_version: The compiler's.
        groups: How often the network group is in it.
        inputs: Number of inputs, UINT8, all of `shape`.
        shape: (height, width, channels).
    """
    edges = [Edge(f"{GROUP}/input_layer{index + 1}", shape) for index in range(inputs)]
    outputs = [Edge("pair/left", (4,)), Edge("pair/right", (6,))]
    path.write_bytes(hef(edges, outputs, hw_arch=hw_arch, sdk_version=sdk_version, groups=groups))
    return path


def hef(
    inputs: Sequence[Edge], outputs: Sequence[Edge], *, hw_arch: int = 1, sdk_version: str = "3.33.0", groups: int = 1
) -> bytes:
    """Return a HEF of one context in the container of its compiler; see `write_hef`."""
    header = number(1, hw_arch) + chunk(3, sdk_version) + number(4, FORMAT_VERSION)
    proto = (
        chunk(1, header)
        + chunk(2, _group(inputs, outputs, is_halved=hw_arch == HAILO8L)) * groups
        + b"".join(chunk(5, number(1, index)) for index in EXTENSIONS)
        + b"".join(chunk(6, number(1, index)) for index in OPTIONAL)
    )
    return contained(proto, MICROCODE, tuple(map(int, sdk_version.split(".")[:2])))


def contained(proto: bytes, microcode: bytes, release: tuple[int, ...] = (3, 33)) -> bytes:
    """Return a description and microcode in the container that this release of the DFC writes.

    Up to 3.27 that is version 0, which has no microcode of its own; 3.31 and later write version 2.
    """
    if release < (3, 28):
        return struct.pack(">4sIII", b"\1HEF", 0, len(proto), 0) + hashlib.md5(proto).digest() + proto
    body = proto + microcode
    if release < (3, 31):
        return struct.pack(">4sIIIQI", b"\1HEF", 1, len(proto), zlib.crc32(body), len(microcode), 0) + body
    head = struct.pack(">4sIIQQQQ", b"\1HEF", 2, len(proto), xxhash.xxh3_64_intdigest(body), len(microcode), 0, 0)
    return head + body


def _group(inputs: Sequence[Edge], outputs: Sequence[Edge], *, is_halved: bool) -> bytes:
    edges = [(edge, 0) for edge in inputs] + [(edge, OUTPUT) for edge in outputs]
    layers = b"".join(chunk(2, _edge(edge, direction, place)) for place, (edge, direction) in enumerate(edges))
    group = (
        chunk(1, chunk(1, GROUP))
        + chunk(3, chunk(3, chunk(1, "context_0") + layers))
        + b"".join(chunk(4, edge.name) for edge in outputs)
        + chunk(6, GROUP)
    )
    return (
        b"".join(chunk(7, chunk(1, group) + chunk(2, number(1, bitmap))) for bitmap in HALVES) if is_halved else group
    )


def _edge(edge: Edge, direction: int, index: int) -> bytes:
    height, width, features = (1, 1, *edge.shape)[-3:]
    is_flat = len(edge.shape) == 1
    padded_features = -(-features // ALIGNED) * ALIGNED if direction == OUTPUT else features
    base = (
        number(1, height) + number(2, height) + number(3, width) + number(4, width) + number(5, features)
        + number(6, padded_features) + number(7, NC if is_flat else NHCW if direction == OUTPUT else NHWC)
        + number(8, index) + number(9, width * padded_features * edge.data_bytes) + number(10, height)
        + number(12, edge.data_bytes) + chunk(13, number(1, index))
    )  # fmt: skip
    info = chunk(1, edge.name) + chunk(2, base) + chunk(3, float32(1, edge.zero_point) + float32(2, edge.scale))
    info += b"".join(chunk(5, name) for name in edge.original_names)
    return number(1, direction) + chunk(3, info)
