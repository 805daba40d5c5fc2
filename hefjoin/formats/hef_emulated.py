"""Writes the HEF of the emulator: a true listing around resources of our own, without any microcode.

HailoRT lists such a file like a real one and no chip runs it: it holds nothing to run, `hw_arch` is HAILO8 (0),
which a Hailo-8 refuses (it takes 1, 2, 3), and its SDK version ends in `-emulator`. The content is the least that
the reader of HailoRT 4.23 needs; each part that looks idle (an empty `buffer_indices`, outputs sorted twice) keeps
that reader from an error or a crash. The one rule: equal arguments give equal bytes, so there is no timestamp.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hefjoin.formats import hef_container
from hefjoin.formats.hef_schema import message_class

EMULATOR_SUFFIX = "-emulator"

FORMAT_VERSION = 5
EXTENSIONS = {"IS_MULTI_CONTEXTS": 4, "PERIPH_CALCULATION_IN_HAILORT": 26, "EXTERNAL_RESOURCES": 31}
NETWORK_NAMES = 8
NHWC, NC = 0, 2
NAME_LIMIT_BYTES = 127
UINT16_MAX = 65535


@dataclass(frozen=True)
class Edge:
    """One input or output of the network group; `real = (quantized - zero_point) * scale`."""

    name: str
    shape: tuple[int, ...]
    """(height, width, features) or (features,)."""
    data_bytes: int = 1
    """1 for UINT8, 2 for UINT16."""
    zero_point: float = 0.0
    scale: float = 1.0
    original_names: tuple[str, ...] = ()
    network: str = ""
    """One of the network names; the first where it is empty."""


def write_emulated(
    *,
    group: str,
    networks: Sequence[str],
    inputs: Sequence[Edge],
    outputs: Sequence[Edge],
    contexts: int,
    sdk_version: str,
    resources: Mapping[str, bytes],
) -> bytes:
    """Return the bytes of a HEF with one network group, container version 3.

    Args:
        group: name of the network group.
        networks: names of its networks, its connected components; a joined network is one.
        inputs: fed by the host, in the first context.
        outputs: read by the host, in the last context; their order is the order HailoRT sorts them in.
        contexts: how many contexts the group is said to need; those between the first and the last are empty.
        sdk_version: of the emulator, ends in `-emulator`.
        resources: stored as external resources.

    Raises:
        ValueError: HailoRT would refuse or misread such a file; all reasons are listed.
    """
    problems = list(_problems(group, networks, inputs, outputs, contexts, sdk_version))
    if problems:
        raise ValueError(f"network group {group!r}: " + "; ".join(problems))
    hef = message_class("Hef")()
    hef.header.sdk_version_str, hef.header.version = sdk_version, FORMAT_VERSION
    needed = {
        "PERIPH_CALCULATION_IN_HAILORT": True,
        "IS_MULTI_CONTEXTS": contexts > 1,
        "EXTERNAL_RESOURCES": resources,
    }
    for name in (name for name, is_needed in needed.items() if is_needed):
        hef.extensions.add(type_index=EXTENSIONS[name], name=name)
    hef.optional_extensions.add(type_index=NETWORK_NAMES, name="MULTI_NETWORK_VARIABLE_BATCH_SIZE")
    offset = 0
    for name in sorted(resources):
        hef.external_resources.add(offset=offset, size=len(resources[name]), name=name)
        offset += len(resources[name])
    _add_group(hef, group, networks, inputs, outputs, contexts)
    return hef_container.pack(hef.SerializeToString(deterministic=True), resources)


def _add_group(
    hef: Any, name: str, networks: Sequence[str], inputs: Sequence[Edge], outputs: Sequence[Edge], contexts: int
) -> None:
    group = hef.network_groups.add()
    group.metadata.network_group_name = name
    group.networks_names.extend(networks)
    group.sorted_outputs_order.extend(edge.name for edge in outputs)
    for index in range(contexts):
        group.contexts.add(context_index=index).metadata.SetInParent()
    indices = itertools.count()
    for edge in inputs:
        _fill_edge(group.contexts[0].metadata.edge_layers.add(direction=0), edge, networks, next(indices))
    last = group.contexts[-1].metadata
    for edge in outputs:
        _fill_edge(last.edge_layers.add(direction=1), edge, networks, next(indices))
    last.sorted_outputs_order.extend(edge.name for edge in outputs)


def _fill_edge(message: Any, edge: Edge, networks: Sequence[str], sys_index: int) -> None:
    message.network_index = list(networks).index(edge.network or networks[0])
    message.context_switch_info.SetInParent()
    info = message.layer_info
    info.name = edge.name
    info.original_names.extend(edge.original_names)
    info.numeric_info.qp_zp, info.numeric_info.qp_scale = edge.zero_point, edge.scale
    height, width, features = (1, 1, *edge.shape)[-3:]
    buffer_bytes, buffers = _buffers(edge)
    base = info.edge_layer_base
    base.height, base.width, base.features = height, width, features
    base.padded_height, base.padded_width, base.padded_features = height, width, features
    base.format = NHWC if len(edge.shape) == 3 else NC
    base.sys_index, base.data_bytes = sys_index, edge.data_bytes
    base.core_bytes_per_buffer, base.core_buffers_per_frame = buffer_bytes, buffers
    base.buffer_indices.add()


def _buffers(edge: Edge) -> tuple[int, int]:
    """Return bytes per buffer and buffers per frame: rows, split where 16 bits are too few for their size."""
    height, width, features = (1, 1, *edge.shape)[-3:]
    row_bytes = width * features * edge.data_bytes
    parts = -(-row_bytes // UINT16_MAX)
    return -(-row_bytes // parts), height * parts


def _problems(
    group: str,
    networks: Sequence[str],
    inputs: Sequence[Edge],
    outputs: Sequence[Edge],
    contexts: int,
    sdk_version: str,
) -> Iterator[str]:
    if not sdk_version.endswith(EMULATOR_SUFFIX):
        yield f"sdk_version {sdk_version!r} must end in {EMULATOR_SUFFIX!r}"
    if contexts < 1:
        yield f"{contexts} contexts, at least 1 is needed"
    if not networks:
        yield "no network names"
    edges = [*inputs, *outputs]
    for name in (group, *(f"{group}/{network}" for network in networks), *(edge.name for edge in edges)):
        if not 0 < len(name.encode()) <= NAME_LIMIT_BYTES:
            yield f"name {name!r} takes {len(name.encode())} bytes, 1 to {NAME_LIMIT_BYTES} are allowed"
    for what, names in (("edge", [edge.name for edge in edges]), ("network", networks)):
        yield from (f"{what} name {name!r} is there {n} times" for name, n in Counter(names).items() if n > 1)
    for edge in edges:
        yield from _edge_problems(edge, networks)
    for what, some in (("input", inputs), ("output", outputs)):
        served = {edge.network or next(iter(networks), "") for edge in some}
        yield from (f"network {network!r} has no {what}" for network in networks if network not in served)


def _edge_problems(edge: Edge, networks: Sequence[str]) -> Iterator[str]:
    if len(edge.shape) not in (1, 3) or min(edge.shape) < 1:
        yield f"{edge.name}: shape {edge.shape}, expected (height, width, features) or (features,)"
    elif edge.data_bytes not in (1, 2):
        yield f"{edge.name}: {edge.data_bytes} bytes a value, expected 1 or 2"
    elif _buffers(edge)[1] > UINT16_MAX:
        yield f"{edge.name}: shape {edge.shape} needs {_buffers(edge)[1]} buffers, at most {UINT16_MAX} exist"
    if edge.network and edge.network not in networks:
        yield f"{edge.name}: network {edge.network!r} is none of {list(networks)}"
