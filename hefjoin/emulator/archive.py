"""What an emulator's HAR holds, read and written in one place.

The rule: everything that a runner needs to go on, in another process and on another machine, lies in the archive.
Weights are in it once, and not in the vendor's `.npz` as well: in the graph that computes with them, or, of a network
that keeps large ones outside its graph, in a member beside it, `.weights`. There the graph names them as ONNX names
external data, so that the two members, unpacked, are a plain ONNX model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import onnx

from hefjoin import __version__ as _hefjoin_version
from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import States
from hefjoin.emulator.join import Network
from hefjoin.emulator.quantize import Encoding
from hefjoin.emulator.weights import Weight, leave, mapped, weight_of
from hefjoin.errors import InputError
from hefjoin.formats import har as har_file
from hefjoin.formats import onnx_weights
from hefjoin.formats.model_script import Script
from hefjoin.formats.model_script import parse as parse_script

SDK_VERSION = f"{_hefjoin_version}-emulator"
NATIVE_GRAPH, QUANTIZED_GRAPH, OWN_STATE = ".native.onnx", ".quantized.onnx", ".emulator.json"
NATIVE_HN, SCRIPT, HEF = ".native.hn", ".alls", ".hef"
RESOLVED_SCRIPT = ".auto.alls"
"""What the compiler decided, as a script; nothing is placed here, so it says what was asked for."""

OWN_FORMAT = 3
"""Raised when `.emulator.json` changes."""
WEIGHTS = har_file.WEIGHTS_SUFFIX
ALIGNMENT = 64
"""Of each constant in that member, in bytes."""
GRAPH_LIMIT_BYTES = 1 << 31


@dataclass(frozen=True)
class Archived:
    """A runner as a HAR keeps it."""

    state: States
    hw_arch: str
    network: Network
    script: Script
    files: dict[str, Any]
    """Content of the configurations that the script names, by the path it gives."""
    hef: bytes | None
    compiled_by: Script


def read(path: Path) -> Archived:
    """Return what a HAR of this emulator holds.

    Raises:
        hefjoin.errors.InputError: The file is no whole HAR.
        exceptions.InvalidArgumentsException: The vendor's compiler or another emulator wrote it.
    """
    found = har_file.read(path)
    own = _own_state(path, found)
    state = States(found.state)
    has_script = f"{found.model_name}{SCRIPT}" in found.members
    is_quantized = state in (States.QUANTIZED_MODEL, States.COMPILED_MODEL)
    is_compiled = state is States.COMPILED_MODEL
    model = _graph(path, NATIVE_GRAPH)
    network = Network(
        model=model,
        hn=json.loads(har_file.read_member(path, ".hn" if state is States.HAILO_MODEL else NATIVE_HN)),
        merged=own["merged_inputs"],
        optimized_by=parse_script(own["optimized_by"]),
        quantized=_graph(path, QUANTIZED_GRAPH) if is_quantized else None,
        encodings={name: _encoding(code) for name, code in own["encodings"].items()},
        statistics=own["statistics"],
        weights=_weights(path, model, f"{found.model_name}{WEIGHTS}"),
    )
    return Archived(
        state=state,
        hw_arch=found.hw_arch,
        network=network,
        script=_script(path, SCRIPT) if has_script else Script(),
        files=own["files"],
        hef=har_file.read_member(path, HEF, GRAPH_LIMIT_BYTES) if is_compiled else None,
        compiled_by=_script(path, RESOLVED_SCRIPT) if is_compiled else Script(),
    )


def _encoding(numbers: Mapping[str, Any]) -> Encoding:
    """Return an encoding from JSON, which has lists where channels are encoded apart."""
    scale, zero_point = (tuple(n) if isinstance(n, list) else n for n in (numbers["scale"], numbers["zero_point"]))
    return Encoding(scale, zero_point, numbers["bits"])


def write(path: Path, held: Archived, view: hn.Hn) -> None:
    """Write a HAR; an existing file is replaced.

    Args:
        path: Where to.
        held: What it holds.
        view: The HN of the network as it is now, the script's modifications included.

    Raises:
        hefjoin.errors.StoreError: The file cannot be written.
    """
    network = held.network
    own = {
        "format": OWN_FORMAT,
        "files": held.files,
        "merged_inputs": network.merged,
        "optimized_by": str(network.optimized_by),
        "statistics": network.statistics,
        "encodings": {name: asdict(code) for name, code in network.encodings.items()},
    }
    members: dict[str, bytes | Path | har_file.Chunked] = {
        OWN_STATE: json.dumps(own, sort_keys=True).encode(),
    }
    members |= _graph_and_weights(network)
    if held.script.commands:
        members[SCRIPT] = str(held.script).encode()
    if held.state is not States.HAILO_MODEL:
        members[NATIVE_HN] = json.dumps(network.hn).encode()
    if network.quantized is not None:
        members[QUANTIZED_GRAPH] = network.quantized.SerializeToString()
    if held.hef is not None:
        members |= {HEF: held.hef, RESOLVED_SCRIPT: str(held.compiled_by).encode()}
    har_file.write(
        path,
        model_name=network.hn["name"],
        metadata={"state": held.state.value, "sdk_version": SDK_VERSION, "hw_arch": held.hw_arch},
        hn=view,
        members=members,
    )


def _own_state(path: Path, found: har_file.Har) -> dict[str, Any]:
    if not found.is_emulated:
        raise exceptions.InvalidArgumentsException(
            f"{path.name} was made by DFC {found.sdk_version}; the emulator reads its own HARs only, "
            "as the vendor's hold no executable graph"
        )
    own: dict[str, Any] = json.loads(har_file.read_member(path, OWN_STATE))
    if own.get("format") != OWN_FORMAT:
        raise exceptions.InvalidArgumentsException(
            f"{path.name} was written by another emulator ({found.sdk_version}); parse its model again"
        )
    return own


def _graph(path: Path, suffix: str) -> onnx.ModelProto:
    return onnx.load_from_string(har_file.read_member(path, suffix, GRAPH_LIMIT_BYTES))


def _script(path: Path, suffix: str) -> Script:
    return parse_script(har_file.read_member(path, suffix).decode())


def _graph_and_weights(network: Network) -> dict[str, bytes | har_file.Chunked]:
    """Return the members of a native graph; what several constants share is written once."""
    if not network.weights:
        return {NATIVE_GRAPH: network.model.SerializeToString()}
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    chunks: list[Iterable[bytes]] = []
    places: dict[tuple[int, int, int], int] = {}
    end = 0
    for tensor in model.graph.initializer:
        if (weight := network.weights.get(tensor.name)) is None:
            continue
        same = (id(weight.source), weight.offset, weight.size_bytes)
        if same not in places:
            padding = -end % ALIGNMENT
            places[same] = end + padding
            chunks += [[bytes(padding)] if padding else [], weight.chunks()]
            end = places[same] + weight.size_bytes
        leave(tensor, f"{network.hn['name']}{WEIGHTS}", places[same], weight.size_bytes)
    return {NATIVE_GRAPH: model.SerializeToString(), WEIGHTS: har_file.Chunked(end, chain.from_iterable(chunks))}


def _weights(path: Path, model: onnx.ModelProto, member: str) -> dict[str, Weight]:
    """Return the constants that lie in the archive beside their graph, which is told so in place."""
    outside = list(onnx_weights.tensors(model))
    if not outside:
        return {}
    begin, size_bytes = har_file.member_place(path, WEIGHTS)
    source = mapped(path)
    found = {}
    for tensor in outside:
        try:
            where = onnx_weights.place(tensor)
        except ValueError as error:
            raise InputError(f"{path}: {error}; {har_file.PARSE_AGAIN}") from error
        if where.location != member or where.offset + where.size_bytes > size_bytes:
            raise InputError(
                f"{path}: {where.location}: tensor {tensor.name!r} takes {where.size_bytes:,} bytes from byte "
                f"{where.offset:,} on, {member} has {size_bytes:,}; {har_file.PARSE_AGAIN}"
            )
        found[tensor.name] = weight_of(tensor, source, begin + where.offset)
        leave(tensor)
    return found
