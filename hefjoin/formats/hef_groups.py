"""The network groups of a HEF: contexts, streams, virtual streams, post-processing on the host.

Follows `fill_core_ops`, `get_network_groups_infos` and `get_output_vstream_infos` of hailo-ai/hailort v4.23.0, so
that a listing equals the vendor's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hefjoin.errors import InputError
from hefjoin.formats import hef_messages as messages
from hefjoin.formats.hef_emulated import NAME_LIMIT_BYTES
from hefjoin.formats.hef_ops import HostOp, host_op, is_host_op, op_stream
from hefjoin.formats.hef_streams import BoundaryEdge, Rules, Stream, hardware_streams, host_streams

BOUNDARY = 0
EDGES_LIMIT = 1000
"""Between host and chip, each network having at least two; a chip has some tens of channels."""


@dataclass(frozen=True)
class NetworkGroup:
    """What is loaded on the chip at once."""

    name: str
    networks: tuple[str, ...]
    contexts: int
    """Dynamic contexts; the preliminary configuration is not counted."""
    streams: tuple[Stream, ...]
    """Hardware streams, inputs first, in file order."""
    vstreams: tuple[Stream, ...]
    """Virtual streams, inputs first, outputs in the order HailoRT sorts them."""
    host_ops: tuple[HostOp, ...]
    """Post-processing between the hardware streams and the virtual ones, in file order."""
    compiler_fps: float | None
    """`bottleneck_fps`, the compiler's own estimate: nothing was measured."""
    compiler_latency_ms: float | None
    """The compiler's own estimate, converted from seconds."""

    @property
    def inputs(self) -> tuple[Stream, ...]:
        """What an application feeds."""
        return tuple(stream for stream in self.vstreams if stream.direction == "input")

    @property
    def outputs(self) -> tuple[Stream, ...]:
        """What an application gets."""
        return tuple(stream for stream in self.vstreams if stream.direction == "output")


def read_group(path: Path, group: messages.NetworkGroup, rules: Rules) -> NetworkGroup:
    """Read one message `NetworkGroup`.

    Raises:
        InputError: the group has no context, a name that is too long, more than `EDGES_LIMIT` networks or edges,
            or a post-processing op nothing to work on.
    """
    core = _core(group, rules)
    first = (group.partials[0].network_group if group.partials else None) or group
    name = first.metadata.network_group_name or core.metadata.network_group_name
    network_names = core.networks_names or group.networks_names
    if not (rules.has_network_names and network_names):
        network_names = (name,)
    boundary = _boundary(core)
    _refuse_impossible(path, name, core, max(len(boundary), len(network_names)))
    networks = tuple(f"{name}/{network}" for network in network_names)
    edges = [_edge(message, networks) for message in boundary]
    ops = [op for op in group.ops if rules.is_net_flow and is_host_op(op)]
    estimates = core.metadata if core.metadata.bottleneck_fps else group.metadata
    return NetworkGroup(
        name=name,
        networks=networks,
        contexts=len(core.contexts),
        streams=tuple(stream for edge in edges for stream in hardware_streams(edge, rules)),
        vstreams=tuple(_virtual_streams(path, edges, ops, core, group, rules)),
        host_ops=tuple(host_op(op) for op in ops),
        compiler_fps=_estimate(estimates.bottleneck_fps),
        compiler_latency_ms=_estimate(estimates.latency * 1000),
    )


def _refuse_impossible(path: Path, name: str, core: messages.NetworkGroup, edges: int) -> None:
    again = "compile the network again"
    if len(name.encode()) > NAME_LIMIT_BYTES:
        raise InputError(
            f"{path}: network group {name[:40]!r}… has a name of {len(name.encode()):,} bytes, HailoRT takes "
            f"{NAME_LIMIT_BYTES}; the file is damaged: {again}"
        )
    if not core.contexts:
        raise InputError(f"{path}: network group {name!r} has no context, HailoRT would crash on it; {again}")
    if edges > EDGES_LIMIT:
        raise InputError(
            f"{path}: network group {name!r} has {edges:,} networks or inputs and outputs, at most {EDGES_LIMIT:,} are "
            f"read; the file is damaged: {again}"
        )


def _core(group: messages.NetworkGroup, rules: Rules) -> messages.NetworkGroup:
    """Return the message that holds the contexts, as HailoRT chooses it, else whichever has any."""
    ops = [op.core_op for op in group.ops if op.core_op is not None]
    wholes = [*ops, group] if rules.is_net_flow else [group, *ops]
    first_partials = (whole.partials[0].network_group for whole in wholes if whole.partials)
    partials = [partial for partial in first_partials if partial is not None]
    candidates = [*partials, *wholes] if rules.is_partial else [*wholes, *partials]
    return next((candidate for candidate in candidates if candidate.contexts), candidates[0])


def _boundary(core: messages.NetworkGroup) -> list[messages.EdgeLayer]:
    """Return the edges between host and chip over all contexts, inputs first."""
    edges = [edge for context in core.contexts for edge in context.metadata.edge_layers]
    boundary = [edge for edge in edges if edge.context_switch_info.edge_connection_type == BOUNDARY]
    return sorted(boundary, key=lambda edge: bool(edge.direction))


def _edge(message: messages.EdgeLayer, networks: Sequence[str]) -> BoundaryEdge:
    network = networks[message.network_index if message.network_index < len(networks) else 0]
    return BoundaryEdge(message, "output" if message.direction else "input", network)


def _virtual_streams(
    path: Path,
    edges: Sequence[BoundaryEdge],
    ops: Sequence[messages.Op],
    core: messages.NetworkGroup,
    group: messages.NetworkGroup,
    rules: Rules,
) -> list[Stream]:
    """Return the inputs, then the sorted outputs with post-processing ops in place of the edges they take."""
    sources = {pad_edge.dst: pad_edge.src for pad_edge in group.pad_edges}
    taken_by = {
        sources[pad.index]: place for place, op in enumerate(ops) for pad in op.input_pads if pad.index in sources
    }
    inputs: list[Stream] = []
    outputs: list[Stream] = []
    feeds: list[dict[int, Stream]] = [{} for _ in ops]
    for edge in edges:
        seen = list(host_streams(edge, core.metadata.transposed_net, rules))
        pad = edge.message.pad_index
        if edge.direction == "input":
            inputs += seen
        elif pad is None or pad not in taken_by:
            outputs += seen
        elif seen:
            feeds[taken_by[pad]].setdefault(pad, seen[0])
    for op, fed in zip(ops, feeds, strict=True):
        if not fed:
            raise InputError(f"{path}: nothing feeds the post-processing op {op.name!r}; compile the network again")
        outputs.append(op_stream(op, fed))
    ranks = {name: rank for rank, name in enumerate(_sorted_outputs(core, group, rules))}
    outputs.sort(key=lambda stream: ranks.get(stream.name, len(ranks)))
    return inputs + outputs


def _sorted_outputs(core: messages.NetworkGroup, group: messages.NetworkGroup, rules: Rules) -> Sequence[str]:
    fused = core.fused_layers or group.fused_layers
    if fused is not None and fused.network_has_fused_layers:
        return fused.updated_sorted_output_names
    partial = group.partials[0].network_group if group.partials else None
    if not rules.is_net_flow and partial is not None and partial.sorted_outputs_order:
        return partial.sorted_outputs_order
    return group.sorted_outputs_order or core.contexts[-1].metadata.sorted_outputs_order


def _estimate(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None
