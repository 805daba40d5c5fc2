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
from typing import Any

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
NET_FLOW = {13: "HAILO_NET_FLOW", 23: "ALIGNED_FORMAT_TYPE"}
HOST_OPS = {
    "nms": (27, "HAILO_NET_FLOW_YOLOV8_NMS"),
    "argmax": (21, "HAILO_NET_FLOW_ARGMAX"),
    "softmax": (22, "HAILO_NET_FLOW_SOFTMAX"),
}
LOGITS = {"argmax": 0, "softmax": 1}
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
    pad: int = 0
    """Where post-processing on the host follows: by which it is known there, counted from 1."""


def build(network: Network, codes: Mapping[str, Encoding], hw_arch: str, version: str, contexts: int) -> bytes:
    """Return the bytes of a HEF.

    Args:
        network: Quantized.
        codes: Encodings by layer.
        hw_arch: `hailo8`, `hailo8r` or `hailo8l`.
        version: Of the DFC, which decides the container.
        contexts: How many the network was cut into.
    """
    ops = [layer["params"]["op"] for layer in network.layers("postprocess").values()]
    mandatory = {
        **{**EXTENSIONS, **({MULTI_CONTEXT: "IS_MULTI_CONTEXTS"} if contexts > 1 else {})},
        **(NET_FLOW if ops else {}),
        **dict(HOST_OPS[op] for op in ops),
    }
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
    order = b"".join(chunk(4, name) for name in network.order)
    inside = b"".join(chunk(3, _context(index, some, network.order)) for index, some in enumerate(edges))
    core = metadata + inside + order + b"".join(chunk(6, name) for name in names)
    if is_halved:
        core = b"".join(chunk(7, chunk(1, core) + chunk(2, number(1, bitmap))) for bitmap in HALVES)
    if not network.layers("postprocess"):
        return core
    return metadata + order + _ops(network, core, [edge for some in edges for edge in some if edge.pad])


def _ops(network: Network, core: bytes, edges: Sequence[Edge]) -> bytes:
    """Return the group's ops, the chip's and those of the host behind it, and which pads are connected."""
    sides = {side: [_pad(edge.pad, edge.name) for edge in edges if edge.direction == side] for side in (INPUT, OUTPUT)}
    found = chunk(8, _op("core_op", sides[INPUT], sides[OUTPUT]) + chunk(4, core))
    pads = {edge.name: edge.pad for edge in edges if edge.direction == OUTPUT}
    free = itertools.count(max(edge.pad for edge in edges) + 1)
    for target, layer in network.layers("postprocess").items():
        taken = {next(free): source for source in layer["input"]}
        op = _op(target, [_pad(*item) for item in taken.items()], [_pad(next(free), target)])
        found += chunk(8, op + _host_op(layer["params"]))
        found += b"".join(chunk(9, number(1, pads[source]) + number(2, pad)) for pad, source in taken.items())
    return found


def _op(name: str, inputs: Sequence[bytes], outputs: Sequence[bytes]) -> bytes:
    return chunk(1, name) + b"".join(chunk(2, pad) for pad in inputs) + b"".join(chunk(3, pad) for pad in outputs)


def _pad(index: int, name: str) -> bytes:
    return number(1, index) + chunk(2, name)


def _host_op(params: Mapping[str, Any]) -> bytes:
    if params["op"] != "nms":
        return chunk(6, number(1, LOGITS[params["op"]]))
    height, width = params["image_dims"]
    yolov8 = float64(1, height) + float64(2, width) + number(5, params["regression_length"])
    thresholds = float64(1, params["nms_scores_th"]) + float64(2, params["nms_iou_th"])
    counts = number(3, params["max_proposals_per_class"]) + number(4, params["classes"])
    return chunk(5, thresholds + counts + chunk(12, yolov8))


def _edges_by_context(
    network: Network, codes: Mapping[str, Encoding], contexts: int, component: Mapping[str, int]
) -> list[list[Edge]]:
    layers = network.hn["layers"]

    pads = itertools.count(1)
    is_net_flow = bool(network.layers("postprocess"))

    def edge(name: str, direction: int, original_names: Sequence[str], connection: int = BOUNDARY) -> Edge:
        shape = tuple(layers[name]["output_shapes"][0][1:])
        index = component[name.split("/")[0]]
        pad = next(pads) if is_net_flow and connection == BOUNDARY else 0
        return Edge(name, direction, shape, codes[name], tuple(original_names), connection, index, pad)

    found: list[list[Edge]] = [[] for _ in range(contexts)]
    found[0] += [edge(name, INPUT, layer["original_names"]) for name, layer in network.layers("input_layer").items()]
    for layer in network.layers("output_layer").values():
        (last,) = layer["input"]
        on_chip = layers[last]["input"] if layers[last]["type"] == "postprocess" else [last]
        found[-1] += [edge(name, OUTPUT, layer["original_names"]) for name in on_chip]
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
    return number(1, edge.direction) + chunk(3, info) + chunk(5, switch) + number(6, edge.network) + number(7, edge.pad)


def _aligned(value: int) -> int:
    return -(-value // ALIGNED) * ALIGNED
