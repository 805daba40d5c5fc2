"""Choose few frames that cover all models: greedily, with a bound.

Wanted is the smallest S with C_m(S) ≥ 1 - loss for every model m, which is a submodular cover: of
F(S) = Σ_m min(C_m(S), 1 - loss), S is enough exactly when F(S) = models · (1 - loss). The greedy choice takes the
frame that adds most to F until then. It takes at most 1 + ln(F(all) / δ) times as many frames as the smallest such set,
δ being what was missing to F(all) before its last frame (Wolsey 1982, Combinatorica 2:385–393). What a frame adds never
grows, so only the frames at the top of a heap are looked at again (Minoux 1978, "Accelerated greedy algorithms for
maximizing submodular set functions"). Afterwards frames that the later ones made needless are taken out.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from hefjoin.coverage.cover import Array, Cover

SLACK = 1e-9
"""Of a sum of float64 shares that should be 1."""


def choose(cover: Cover, loss: float, models: Sequence[str] = ()) -> list[int]:
    """Return frames, in the order of the choice, by which each model keeps at least 1 - loss of its coverage.

    Args:
        cover: Of the whole set.
        loss: What each may lose, 0–1.
        models: Those that matter; all of them where none is named.
    """
    chosen = [cover.models.index(model) for model in models or cover.models]
    goal = cover.of(cover.ends.best)[chosen] * (1 - loss) - SLACK
    together = np.zeros_like(cover.ends.best)

    def value(frame: int | None) -> float:
        reach = together if frame is None else np.maximum(together, cover.reaches[frame])
        return float(np.minimum(cover.of(reach)[chosen], goal).sum())

    now, order = value(None), list[int]()
    heap = [(-(value(frame) - now), frame) for frame in range(len(cover.reaches))]
    heapq.heapify(heap)
    while heap and np.any(cover.of(together)[chosen] < goal):
        _, frame = heapq.heappop(heap)
        gain = value(frame) - now
        if heap and (-gain, frame) > heap[0]:
            heapq.heappush(heap, (-gain, frame))
            continue
        np.maximum(together, cover.reaches[frame], out=together)
        now += gain
        order.append(frame)
    return _pruned(cover, order, chosen, goal)


def _pruned(cover: Cover, order: list[int], chosen: list[int], goal: Array) -> list[int]:
    """Take out, from the last but one to the first, frames without which the others still reach the goal."""
    behind = np.zeros_like(cover.ends.best)
    before = [np.zeros_like(behind)]
    for frame in order:
        before.append(np.maximum(before[-1], cover.reaches[frame]))
    kept: list[int] = []
    for place in reversed(range(len(order))):
        others = np.maximum(before[place], behind)
        if np.any(cover.of(others)[chosen] < goal):
            kept.append(order[place])
            np.maximum(behind, cover.reaches[order[place]], out=behind)
    return kept[::-1]
