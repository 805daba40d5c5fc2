"""Write a HEF as the compiler of this version does: container, protobuf, bytes in the place of the microcode.

Field numbers and layout from `hef.proto` and `hef_internal.hpp` of hailo-ai/hailort v4.23.0, and from files of DFC
3.25–3.32; which container 3.33 and later write is not known, here they write the one of 3.31.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xxhash

from fake_dfc.network import Network, components
from fake_dfc.optimization import Encoding
from fake_dfc.wire import chunk, float32, float64, float64s, number

MAGIC = 0x01484546
HW_ARCHS = {"hailo8": 1, "hailo8r": 2, "hailo8l": 3}
HALVES = (51, 204)
"""Cluster bitmaps of the two alternatives in a HEF for the Hailo-8L."""
EXTENSIONS = {0: "ABBALE", 3: "PADDED_DDR_BUFFERS", 26: "PERIPH_CALCULATION_IN_HAILORT", 12: "KO_RUN_ASAP"}
MULTI_CONTEXT = 4
OPTIONAL = {8: "MULTI_NETWORK_VARIABLE_BATCH_SIZE", 11: "HW_PADDING"}
FORMAT_VERSION = 5
INPUT, OUTPUT = 0, 1
BOUNDARY, BETWEEN_CONTEXTS = 0, 1
NHCW, NC = 1, 2
ALIGNED = 8
FPS = 1234.5


@dataclass(frozen=True)
class Edge:
    """A layer's result on its way into or out of a context."""

    name: str
    direction: int
    shape: tuple[int, ...]
    code: Encoding
    original_names: tuple[str, ...] = ()
    connection: int = BOUNDARY
    network: int = 0


def build(network: Network, codes: Mapping[str, Encoding], hw_arch: str, version: str, contexts: int) -> bytes:
    """Return the bytes of a HEF.

    Args:
        network: Quantized.
        codes: Encodings by layer.
        hw_arch: `hailo8`, `hailo8r` or `hailo8l`.
        version: Of the DFC, which decides the container.
        contexts: How many the network was cut into.
    """
    mandatory = {**EXTENSIONS, **({MULTI_CONTEXT: "IS_MULTI_CONTEXTS"} if contexts > 1 else {})}
    proto = (
        chunk(1, _header(hw_arch, version))
        + chunk(2, _group(network, codes, contexts, is_halved=hw_arch == "hailo8l"))
        + chunk(3, b"".join(f"{network.hn['name']}_context_{index}".encode() for index in range(contexts)))
        + chunk(4, number(4, contexts > 1))
        + b"".join(chunk(5, number(1, index) + chunk(2, name)) for index, name in mandatory.items())
        + b"".join(chunk(6, number(1, index) + chunk(2, name)) for index, name in OPTIONAL.items())
    )
    microcode = b"".join(hashlib.sha256(name.encode()).digest() * 8 for name in network.computing)
    return _container(proto, microcode, tuple(map(int, version.split(".")[:2])))


def _container(proto: bytes, microcode: bytes, release: tuple[int, ...]) -> bytes:
    body = proto + microcode
    if release < (3, 31):
        return struct.pack(">IIIIQI", MAGIC, 1, len(proto), zlib.crc32(body), len(microcode), 0) + body
    head = struct.pack(">IIIQQQQ", MAGIC, 2, len(proto), xxhash.xxh3_64_intdigest(body), len(microcode), 0, 0)
    return head + body


def _header(hw_arch: str, version: str) -> bytes:
    milliseconds = int(1000 * time.time())
    return number(1, HW_ARCHS[hw_arch]) + number(2, milliseconds) + chunk(3, version) + number(4, FORMAT_VERSION)


def _group(network: Network, codes: Mapping[str, Encoding], contexts: int, *, is_halved: bool) -> bytes:
    of_scope = components(network)
    names = sorted(set(of_scope.values()))
    edges = _edges_by_context(network, codes, contexts, {scope: names.index(name) for scope, name in of_scope.items()})
    metadata = chunk(1, chunk(1, network.hn["name"]) + float64(4, FPS) + float64(6, 0.002))
    whole = (
        metadata
        + b"".join(chunk(3, _context(index, inside, network.order)) for index, inside in enumerate(edges))
        + b"".join(chunk(4, name) for name in network.order)
        + b"".join(chunk(6, name) for name in names)
    )
    if not is_halved:
        return whole
    return b"".join(chunk(7, chunk(1, whole) + chunk(2, number(1, bitmap))) for bitmap in HALVES)


def _edges_by_context(
    network: Network, codes: Mapping[str, Encoding], contexts: int, component: Mapping[str, int]
) -> list[list[Edge]]:
    layers = network.hn["layers"]

    def edge(name: str, direction: int, original_names: Sequence[str], connection: int = BOUNDARY) -> Edge:
        shape = tuple(layers[name]["output_shapes"][0][1:])
        index = component[name.split("/")[0]]
        return Edge(name, direction, shape, codes[name], tuple(original_names), connection, index)

    found: list[list[Edge]] = [[] for _ in range(contexts)]
    found[0] += [edge(name, INPUT, layer["original_names"]) for name, layer in network.layers("input_layer").items()]
    for layer in network.layers("output_layer").values():
        found[-1].append(edge(layer["input"][0], OUTPUT, layer["original_names"]))
    for before, after in itertools.pairwise(found):
        cut = network.computing[0]
        before.append(edge(cut, OUTPUT, (), BETWEEN_CONTEXTS))
        after.append(edge(cut, INPUT, (), BETWEEN_CONTEXTS))
    return found


def _context(index: int, edges: Sequence[Edge], order: Sequence[str]) -> bytes:
    content = chunk(1, f"context_{index}") + b"".join(chunk(2, _edge(edge, place)) for place, edge in enumerate(edges))
    content += b"".join(chunk(5, name) for name in order)
    return number(1, index) + chunk(3, content)


def _edge(edge: Edge, sys_index: int) -> bytes:
    height, width, features = (1, 1, *edge.shape)[-3:]
    size = 2 if edge.code["bits"] > 8 else 1
    is_flat = len(edge.shape) == 1
    padded_width = width if is_flat else _aligned(width)
    padded_features = _aligned(features) if is_flat or edge.direction == OUTPUT else features
    base = (
        number(1, height) + number(2, height) + number(3, width) + number(4, padded_width)
        + number(5, features) + number(6, padded_features) + number(7, NC if is_flat else NHCW)
        + number(8, sys_index) + number(9, padded_width * padded_features * size) + number(10, height)
        + number(12, size) + chunk(13, number(1, sys_index))
    )  # fmt: skip
    code = edge.code
    numeric = (
        float32(1, code["zero_point"]) + float32(2, code["scale"]) + float32(3, code["low"]) + float32(4, code["high"])
        + float64s(5, [code["zero_point"]] * features) + float64s(6, [code["scale"]] * features)
    )  # fmt: skip
    info = chunk(1, edge.name) + chunk(2, base) + chunk(3, numeric)
    info += b"".join(chunk(5, name) for name in edge.original_names)
    switch = number(3, edge.connection)
    return number(1, edge.direction) + chunk(3, info) + chunk(5, switch) + number(6, edge.network)


def _aligned(value: int) -> int:
    return -(-value // ALIGNED) * ALIGNED
