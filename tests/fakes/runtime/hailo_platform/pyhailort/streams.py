"""What an application sees of a network group: its virtual streams, after `hef.cpp` and `layer_info.hpp` of v4.23.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hailo_platform.pyhailort.errors import error_of

NET_FLOW, SCALE_PER_FEATURE = 13, 25
"""Mandatory extensions: the group is a graph of ops; each feature of an output has a scale of its own."""
NETWORK_NAMES = 8
"""Optional extension: the networks of a group are named."""
IN_HALVES = (3, 4)
"""Chips (HAILO8L, HAILO15M) for which the group lies in alternatives, one for each part of the chip."""
BOUNDARY = 0
ORDERS = {0: "NHWC", 1: "NHWC", 2: "NC", 3: "FCR", 5: "NHW", 7: "F8CR", 8: "NHWC", 13: "NHWC"}
"""Number in an edge to the order on the host."""
TYPES = {1: "UINT8", 2: "UINT16"}
INVALID_ARGUMENT, INVALID_HEF, NOT_FOUND = 2, 26, 61


@dataclass(frozen=True)
class Stream:
    """A virtual stream; `real = (stored - zero_point) * scale`, with one of each or one for every feature."""

    name: str
    network: str
    is_input: bool
    order: str
    dtype: str
    shape: tuple[int, ...]
    """(features,), (height, width), (height, width, features) or, of detections, (classes, 5, boxes)."""
    zero_points: tuple[float, ...] = (0.0,)
    scales: tuple[float, ...] = (1.0,)
    limits: tuple[float, float] = (0.0, 0.0)
    """The least and greatest real value."""


@dataclass(frozen=True)
class Group:
    """A network group."""

    name: str
    contexts: int
    networks: tuple[str, ...]
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]
    """Sorted as the compiler wants them."""


def groups(hef: Any) -> list[Group]:
    """Return the network groups of a ProtoHEFHef.

    Raises:
        HailoRTException: 26 for a group without contexts or with outputs that nobody sorted, 61 for one without input
            or output, 2 for data of another size than one or two bytes.
        NotImplementedError: for what the fake has no reading of.
    """
    return [_Reader(hef, group).read() for group in hef.network_groups]


class _Reader:
    def __init__(self, hef: Any, group: Any) -> None:
        extensions = {each.type_index for each in hef.extensions}
        self.group = group
        self.is_net_flow = NET_FLOW in extensions
        self.has_own_scales = SCALE_PER_FEATURE in extensions
        on_chip = [op.core_op for op in group.ops if op.HasField("core_op")] if self.is_net_flow else []
        self.core = on_chip[0] if on_chip else group
        if hef.header.hw_arch in IN_HALVES and self.core.partial_network_groups:
            self.core = self.core.partial_network_groups[0].network_group
        halves = group.partial_network_groups
        metadata = (halves[0].network_group if halves else group).network_group_metadata
        self.name = metadata.network_group_name
        self.is_transposed = self.core.network_group_metadata.transposed_net
        is_named = any(each.type_index == NETWORK_NAMES for each in hef.optional_extensions)
        names = tuple(self.core.networks_names) if is_named else ()
        self.networks = tuple(f"{self.name}/{name}" for name in names or (self.name,))

    def read(self) -> Group:
        found = list(self._streams())
        inputs = tuple(stream for stream in found if stream.is_input)
        outputs = [stream for stream in found if not stream.is_input]
        if not inputs or not outputs:
            raise error_of(NOT_FOUND)
        order = self._sorted_names()
        if not {stream.name for stream in outputs} <= set(order):
            raise error_of(INVALID_HEF)
        outputs.sort(key=lambda stream: order.index(stream.name))
        return Group(self.name, len(self.core.contexts), self.networks, inputs, tuple(outputs))

    def _streams(self) -> Iterator[Stream]:
        if not self.core.contexts:
            raise error_of(INVALID_HEF)
        on_host = set(self._pads_to_the_host())
        for context in self.core.contexts:
            for edge in context.metadata.edge_layers:
                is_seen = not (edge.HasField("pad_index") and edge.pad_index in on_host)
                if edge.context_switch_info.edge_connection_type == BOUNDARY and is_seen:
                    yield from self._of_edge(edge)
        yield from self._of_ops()

    def _pads_to_the_host(self) -> Iterator[int]:
        """Yield the pads of the chip whose values go into an op on the host."""
        fed = {pad.index for op in self.group.ops if not op.HasField("core_op") for pad in op.input_pads}
        yield from (edge.src for edge in self.group.pad_edges if edge.dst in fed)

    def _of_edge(self, edge: Any) -> Iterator[Stream]:
        if not edge.HasField("layer_info") and not edge.HasField("layer_mux"):
            raise NotImplementedError("images in planes")
        for info in _leaves(edge):
            network = self.networks[edge.network_index if len(self.networks) > 1 else 0]
            yield self._of_layer(info, edge.direction == 0, network)

    def _of_layer(self, info: Any, is_input: bool, network: str) -> Stream:
        base, numeric = info.edge_layer_base, info.numeric_info
        if base.format not in ORDERS:
            raise NotImplementedError(f"edges of format {base.format}")
        if base.data_bytes not in TYPES:
            raise error_of(INVALID_ARGUMENT)
        order = ORDERS[base.format]
        height, width, features = base.height, base.width, base.features
        if info.transposed or self.is_transposed:
            height, width = width, height
        has_own = self.has_own_scales and len(numeric.qp_zps) == len(numeric.qp_scales) == features
        return Stream(
            name=info.name,
            network=network,
            is_input=is_input,
            order=order,
            dtype=TYPES[base.data_bytes],
            shape={"NC": (features,), "NHW": (height, width)}.get(order, (height, width, features)),
            zero_points=tuple(numeric.qp_zps) if has_own else (numeric.qp_zp,),
            scales=tuple(numeric.qp_scales) if has_own else (numeric.qp_scale,),
            limits=(numeric.limvals_min, numeric.limvals_max),
        )

    def _of_ops(self) -> Iterator[Stream]:
        for op in self.group.ops:
            if op.HasField("core_op"):
                continue
            nms = op.nms_op
            if not op.HasField("nms_op") or nms.HasField("yolo_seg_nms_op"):
                raise NotImplementedError("argmax, softmax and masks on the host")
            if nms.background_removal or nms.bbox_decoding_only:
                raise NotImplementedError("NMS with a background class or without suppression")
            shape = (nms.classes, 5, nms.max_proposals_per_class)
            (pad,) = op.output_pads
            yield Stream(pad.name, self.networks[0], False, "HAILO_NMS_BY_CLASS", "FLOAT32", shape)

    def _sorted_names(self) -> list[str]:
        fused, halves = self.core.fused_layers_metadata, self.group.partial_network_groups
        if fused.network_has_fused_layers:
            return list(fused.updated_sorted_output_names)
        of_half = halves[0].network_group.sorted_outputs_order if halves and not self.is_net_flow else ()
        of_context = self.core.contexts[-1].metadata.sorted_outputs_order
        return list(of_half or self.group.sorted_outputs_order or of_context)


def _leaves(layer: Any) -> Iterator[Any]:
    """Yield the layers that a stream carries: itself, or those that a mux puts together."""
    if layer.HasField("layer_info"):
        yield layer.layer_info
    for predecessor in layer.layer_mux.predecessors:
        yield from _leaves(predecessor)
