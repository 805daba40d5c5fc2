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

from hefjoin.formats import hef_container, hef_wire
from hefjoin.formats import hef_messages as messages

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
    names = sorted(resources)
    offsets = itertools.accumulate((len(resources[name]) for name in names), initial=0)
    description = messages.Hef(
        header=messages.Header(sdk_version_str=sdk_version, version=FORMAT_VERSION),
        network_groups=(_group(group, networks, inputs, outputs, contexts),),
        extensions=_extensions(contexts, has_resources=bool(resources)),
        optional_extensions=(messages.Extension(NETWORK_NAMES, "MULTI_NETWORK_VARIABLE_BATCH_SIZE"),),
        external_resources=tuple(
            messages.ExternalResource(offset, len(resources[name]), name)
            for name, offset in zip(names, offsets, strict=False)
        ),
    )
    return hef_container.pack(hef_wire.encode(description), resources)


def _extensions(contexts: int, *, has_resources: bool) -> tuple[messages.Extension, ...]:
    needed = {
        "PERIPH_CALCULATION_IN_HAILORT": True,
        "IS_MULTI_CONTEXTS": contexts > 1,
        "EXTERNAL_RESOURCES": has_resources,
    }
    return tuple(messages.Extension(EXTENSIONS[name], name) for name, is_needed in needed.items() if is_needed)


def _group(
    name: str, networks: Sequence[str], inputs: Sequence[Edge], outputs: Sequence[Edge], contexts: int
) -> messages.NetworkGroup:
    order = tuple(edge.name for edge in outputs)
    into = tuple(_edge(edge, 0, networks, index) for index, edge in enumerate(inputs))
    out = tuple(_edge(edge, 1, networks, index) for index, edge in enumerate(outputs, start=len(inputs)))
    last = contexts - 1
    return messages.NetworkGroup(
        metadata=messages.NetworkGroupMetadata(network_group_name=name),
        contexts=tuple(
            messages.Context(
                context_index=index,
                metadata=messages.ContextMetadata(
                    edge_layers=(into if index == 0 else ()) + (out if index == last else ()),
                    sorted_outputs_order=order if index == last else (),
                ),
            )
            for index in range(contexts)
        ),
        sorted_outputs_order=order,
        networks_names=tuple(networks),
    )


def _edge(edge: Edge, direction: int, networks: Sequence[str], sys_index: int) -> messages.EdgeLayer:
    height, width, features = (1, 1, *edge.shape)[-3:]
    buffer_bytes, buffers = _buffers(edge)
    base = messages.EdgeLayerBase(
        height=height,
        padded_height=height,
        width=width,
        padded_width=width,
        features=features,
        padded_features=features,
        format=NHWC if len(edge.shape) == 3 else NC,
        sys_index=sys_index,
        core_bytes_per_buffer=buffer_bytes,
        core_buffers_per_frame=buffers,
        data_bytes=edge.data_bytes,
        buffer_indices=(messages.BufferIndices(),),
    )
    return messages.EdgeLayer(
        direction=direction,
        network_index=list(networks).index(edge.network or networks[0]),
        layer_info=messages.EdgeLayerInfo(
            name=edge.name,
            edge_layer_base=base,
            numeric_info=messages.NumericInfo(qp_zp=edge.zero_point, qp_scale=edge.scale),
            original_names=edge.original_names,
        ),
    )


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
