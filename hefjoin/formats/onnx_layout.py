"""Whether an image input of an ONNX file has its channels first or last: one rule, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""The orders of a Transpose that brings an image there."""
FEW = (1, 3, 4)
"""Channels that an image has."""


def is_channels_last(info: onnx.ValueInfoProto, readers: Sequence[onnx.NodeProto]) -> bool:
    """Tell the layout of an input: by what the file declares, by the Transposes that read it, else by its shape.

    Args:
        info: The input.
        readers: The nodes that read it.
    """
    dims = info.type.tensor_type.shape.dim
    if len(dims) != 4:
        return False
    if declared := [axis for axis, dim in enumerate(dims) if dim.denotation == "DATA_CHANNEL"]:
        return declared == [3]
    orders = {_order(node) for node in readers if node.op_type == "Transpose"}
    if orders and all(node.op_type == "Transpose" for node in readers):
        return orders == {CHANNELS_FIRST}
    return dims[3].dim_value in FEW and dims[1].dim_value not in FEW


def _order(node: onnx.NodeProto) -> tuple[int, ...]:
    return next((tuple(item.ints) for item in node.attribute if item.name == "perm"), ())
