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
from dataclasses import dataclass, replace

from hefjoin.formats import hef_container, hef_wire
from hefjoin.formats import hef_messages as messages

EMULATOR_SUFFIX = "-emulator"

FORMAT_VERSION = 5
EXTENSIONS = {
    "IS_MULTI_CONTEXTS": 4,
    "HAILO_NET_FLOW": 13,
    "HAILO_NET_FLOW_ARGMAX": 21,
    "HAILO_NET_FLOW_SOFTMAX": 22,
    "OUTPUT_SCALE_PER_FEATURE": 25,
    "PERIPH_CALCULATION_IN_HAILORT": 26,
    "HAILO_NET_FLOW_YOLOV8_NMS": 27,
    "EXTERNAL_RESOURCES": 31,
}
NETWORK_NAMES = 8
NHWC, NHCW, NC = 0, 1, 2
PAD_NHWC, PAD_NHW, PAD_NC = 1, 5, 6
PAD_FLOAT32 = 3
BBOX_BYTES = 20
SOFTMAX = 1
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
    zero_points: tuple[float, ...] = ()
    """One for each feature of an output, where they differ; else `zero_point` is meant. A HEF of DFC 3.x lists them
    in any case, and HailoRT 4.23 reads the lists without looking where extension 25 says that they count."""
    scales: tuple[float, ...] = ()
    """As `zero_points`."""
    original_names: tuple[str, ...] = ()
    network: str = ""
    """One of the network names; the first where it is empty."""


@dataclass(frozen=True)
class HostStep:
    """Post-processing that HailoRT does on the host, with outputs that it takes the place of.

    The pad of an output, by which an op names it, is its place among the outputs, from 1.
    """

    name: str
    takes: tuple[int, ...]
    """Places of outputs, from 0."""
    op: messages.NmsOp | messages.LogitsOp


def write_emulated(
    *,
    group: str,
    networks: Sequence[str],
    inputs: Sequence[Edge],
    outputs: Sequence[Edge],
    contexts: int,
    sdk_version: str,
    resources: Mapping[str, bytes],
    host_steps: Sequence[HostStep] = (),
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
        host_steps: what the host does with outputs; a resource computes it.

    Raises:
        ValueError: HailoRT would refuse or misread such a file; all reasons are listed.
    """
    problems = list(_problems(group, networks, inputs, outputs, contexts, sdk_version))
    problems += _host_problems(outputs, host_steps)
    if problems:
        raise ValueError(f"network group {group!r}: " + "; ".join(problems))
    names = sorted(resources)
    offsets = itertools.accumulate((len(resources[name]) for name in names), initial=0)
    description = messages.Hef(
        header=messages.Header(sdk_version_str=sdk_version, version=FORMAT_VERSION),
        network_groups=(_group(group, networks, inputs, outputs, contexts, host_steps),),
        extensions=_extensions(outputs, contexts, host_steps, has_resources=bool(resources)),
        optional_extensions=(messages.Extension(NETWORK_NAMES, "MULTI_NETWORK_VARIABLE_BATCH_SIZE"),),
        external_resources=tuple(
            messages.ExternalResource(offset, len(resources[name]), name)
            for name, offset in zip(names, offsets, strict=False)
        ),
    )
    return hef_container.pack(hef_wire.encode(description), resources)


def _extensions(
    outputs: Sequence[Edge], contexts: int, host_steps: Sequence[HostStep], *, has_resources: bool
) -> tuple[messages.Extension, ...]:
    logits = {step.op.type for step in host_steps if isinstance(step.op, messages.LogitsOp)}
    needed = {
        "HAILO_NET_FLOW": bool(host_steps),
        "HAILO_NET_FLOW_ARGMAX": bool(logits - {SOFTMAX}),
        "HAILO_NET_FLOW_SOFTMAX": SOFTMAX in logits,
        "HAILO_NET_FLOW_YOLOV8_NMS": any(isinstance(step.op, messages.NmsOp) for step in host_steps),
        "OUTPUT_SCALE_PER_FEATURE": any(edge.scales for edge in outputs),
        "PERIPH_CALCULATION_IN_HAILORT": True,
        "IS_MULTI_CONTEXTS": contexts > 1,
        "EXTERNAL_RESOURCES": has_resources,
    }
    return tuple(messages.Extension(EXTENSIONS[name], name) for name, is_needed in needed.items() if is_needed)


def _group(
    name: str,
    networks: Sequence[str],
    inputs: Sequence[Edge],
    outputs: Sequence[Edge],
    contexts: int,
    host_steps: Sequence[HostStep],
) -> messages.NetworkGroup:
    order = _order(outputs, host_steps)
    by_boxes = {place for step in host_steps if isinstance(step.op, messages.NmsOp) for place in step.takes}
    pads = {place: place + 1 for step in host_steps for place in step.takes}
    into = tuple(_edge(edge, 0, networks, index) for index, edge in enumerate(inputs))
    out = tuple(
        replace(_edge(edge, 1, networks, len(inputs) + place, is_row_wise=place in by_boxes), pad_index=pads.get(place))
        for place, edge in enumerate(outputs)
    )
    last = contexts - 1
    core = messages.NetworkGroup(
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
    if not host_steps:
        return core
    first = len(outputs) + 1
    ops = [_op(step, outputs, first + place, first + len(host_steps)) for place, step in enumerate(host_steps)]
    core_pads = tuple(messages.Pad(index=pad, name=outputs[place].name) for place, pad in pads.items())
    return replace(
        core,
        contexts=(),
        ops=(messages.Op(core_op=core, output_pads=core_pads), *ops),
        pad_edges=tuple(
            messages.PadEdge(src=pads[place], dst=first + len(host_steps) + place)
            for step in host_steps
            for place in step.takes
        ),
    )


def _order(outputs: Sequence[Edge], host_steps: Sequence[HostStep]) -> tuple[str, ...]:
    names = {place: edge.name for place, edge in enumerate(outputs)}
    for step in host_steps:
        for place in step.takes:
            del names[place]
        names[min(step.takes)] = step.name
    return tuple(names[place] for place in sorted(names))


def _op(step: HostStep, outputs: Sequence[Edge], result: int, first_input: int) -> messages.Op:
    """Return the message of a step, as those in the vendor's HEFs: a pad for each output that it takes."""
    taken = tuple(
        messages.Pad(index=first_input + place, name=f"{step.name}_{first_input + place}") for place in step.takes
    )
    pad = messages.Pad(index=result, name=step.name, format_type=PAD_FLOAT32)
    if isinstance(step.op, messages.NmsOp):
        shape = messages.NmsShape(step.op.classes, step.op.max_proposals_per_class, BBOX_BYTES, 1)
        return messages.Op(step.name, taken, (replace(pad, nms_shape=shape),), nms_op=step.op)
    edge = outputs[step.takes[0]]
    height, width, features = (1, 1, *edge.shape)[-3:]
    is_softmax = step.op.type == SOFTMAX
    features = features if is_softmax else 1
    order = PAD_NC if len(edge.shape) == 1 else PAD_NHWC if is_softmax else PAD_NHW
    whole = messages.TensorShape(height, height, width, width, features, features)
    return messages.Op(step.name, taken, (replace(pad, format_order=order, tensor_shape=whole),), logits_op=step.op)


def _edge(
    edge: Edge, direction: int, networks: Sequence[str], sys_index: int, is_row_wise: bool = False
) -> messages.EdgeLayer:
    height, width, features = (1, 1, *edge.shape)[-3:]
    buffer_bytes, buffers = _buffers(edge)
    base = messages.EdgeLayerBase(
        height=height,
        padded_height=height,
        width=width,
        padded_width=width,
        features=features,
        padded_features=features,
        format=NC if len(edge.shape) == 1 else NHCW if is_row_wise else NHWC,
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
            numeric_info=messages.NumericInfo(
                qp_zp=edge.zero_point,
                qp_scale=edge.scale,
                qp_zps=edge.zero_points or (edge.zero_point,) * features,
                qp_scales=edge.scales or (edge.scale,) * features,
            ),
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


def _host_problems(outputs: Sequence[Edge], host_steps: Sequence[HostStep]) -> Iterator[str]:
    for step in host_steps:
        if not step.takes or not set(step.takes) <= set(range(len(outputs))):
            yield f"{step.name} takes {step.takes} of {len(outputs)} outputs"
    taken = Counter(place for step in host_steps for place in step.takes)
    yield from (f"output {place} is taken {count} times" for place, count in taken.items() if count > 1)
    yield from (f"the host's name {name!r} is an output's too" for name in _names(outputs) & _names(host_steps))


def _names(items: Sequence[Edge | HostStep]) -> set[str]:
    return {item.name for item in items}


def _edge_problems(edge: Edge, networks: Sequence[str]) -> Iterator[str]:
    if len(edge.shape) not in (1, 3) or min(edge.shape) < 1:
        yield f"{edge.name}: shape {edge.shape}, expected (height, width, features) or (features,)"
    elif edge.data_bytes not in (1, 2):
        yield f"{edge.name}: {edge.data_bytes} bytes a value, expected 1 or 2"
    elif _buffers(edge)[1] > UINT16_MAX:
        yield f"{edge.name}: shape {edge.shape} needs {_buffers(edge)[1]} buffers, at most {UINT16_MAX} exist"
    features = edge.shape[-1] if edge.shape else 0
    if {len(edge.scales), len(edge.zero_points)} not in ({0}, {features}):
        yield f"{edge.name}: {len(edge.scales)} scales, {len(edge.zero_points)} zero points for {features} features"
    if edge.network and edge.network not in networks:
        yield f"{edge.name}: network {edge.network!r} is none of {list(networks)}"
