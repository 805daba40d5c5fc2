"""Name layers as the SDK does: a word for the type and a number, counted per type within the scope.

The words are the types', but for `fc` (type `dense`) and `mul_and_add` (type `normalization`). What is known of the
numbers, which scripts, NMS files and post-processing name layers by:

1. Each type has its own counter. Evidence: the HAR of DFC 3.33 (`conv15`, `ew_add5`, `mul_and_add6`, `resize4` in one
   network), `osnet_reid/fc49`, and every name below.
2. A layer has a smaller number than the layers it feeds. Among those that could come next, convolutions come first,
   then depthwise convolutions and deconvolutions, and resizes last; of one kind, those that could come first. Evidence:
   the outputs of YOLOv8 (41, 42; 52, 53; 62, 63), its segmentation (44–46, 48; 60–62; 73–75) and its pose (43–45;
   57–59; 70–72), whose heads are numbered side by side and before the rest of the neck; of YOLOv11 (51, 54; 62, 65;
   77, 80); of YOLOv5 segmentation (48, 55, 61, 63). The rule was fitted to these; it then met the outputs of YOLOX-s
   (54–56, 68–70, 81–83) and of YOLOv5 personface (55, 63, 70) unseen.
3. Ties go by the name of the ONNX node, as the parser walks the graph (the order of `parsing_report` in that HAR).

The third is thin: in that HAR one of two triples of parallel convolutions follows it, the other and the parallel
normalizations and sums do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Any

from hefjoin.emulator.layers import Layer

WORDS: Mapping[str, str] = {"dense": "fc", "normalization": "mul_and_add"}
RANKS: Mapping[str, int] = {"conv": 0, "dw": 1, "deconv": 1, "resize": 3}
OTHER_RANK = 2


def give_names(layers: Sequence[Layer]) -> None:
    """Name the layers of one network, in place."""
    by_output = {output: layer for layer in layers for output in layer.outputs}
    found = {layer.outputs[0]: layer for layer in layers}
    feeds = {
        first: [by_output[name].outputs[0] for name in layer.inputs if name in by_output]
        for first, layer in found.items()
    }

    def precedence(first: str, taken: int) -> tuple[int, int, str]:
        layer = found[first]
        return RANKS.get(layer.type, OTHER_RANK), taken, layer.main.name

    count: Counter[str] = Counter()
    for first in in_order(feeds, precedence):
        layer = found[first]
        word = WORDS.get(layer.type, layer.type)
        count[word] += 1
        layer.name = f"{word}{count[word]}"


def in_order(feeds: Mapping[str, Iterable[str]], precedence: Callable[[str, int], Any]) -> list[str]:
    """Return the topological order that always takes the least of what could come next.

    >>> in_order({"a": [], "b": ["z"], "z": []}, lambda item, taken: item)
    ['a', 'z', 'b']

    Args:
        feeds: Each item with the items that come before it.
        precedence: What an item is compared by, from the item and how many were taken before it could come next.
    """
    sorter = TopologicalSorter(feeds)
    sorter.prepare()
    ready: list[tuple[Any, str]] = []
    order: list[str] = []
    while sorter.is_active():
        for item in sorter.get_ready():
            heappush(ready, (precedence(item, len(order)), item))
        _, first = heappop(ready)
        order.append(first)
        sorter.done(first)
    return order
