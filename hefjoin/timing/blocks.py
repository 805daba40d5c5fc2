"""Rounds by turns until enough is known.

The rules:

1. A block is four rounds, one side, the other twice, the first again, so that what rises or falls steadily meanwhile
   counts for both alike. A coin decides whose turn is first, also in being made ready.
2. It ends when `is_enough` of the blocks so far, or when another block would pass the time; never below `LEAST_BLOCKS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hefjoin.devices.turns import Turns

LEAST_BLOCKS = 8
"""Six coins are the fewest that can ever fall so that p < 0.05."""

Array = npt.NDArray[np.float64]


class Block(NamedTuple):
    """Mean log of the frames per second of each side, over two rounds each."""

    first: float
    second: float


class Blocks(NamedTuple):
    """All blocks of a comparison."""

    sides: Array
    """float64, shape (blocks, sides): log of frames per second."""
    is_enough: bool

    @property
    def differences(self) -> Array:
        """float64, shape (blocks,): log of how many times as fast the first side is."""
        return np.asarray(self.sides[:, 0] - self.sides[:, 1])


def timed(
    turns: Turns,
    sides: tuple[int, int],
    seconds: float,
    is_enough: Callable[[Sequence[Block]], bool],
    on_block: Callable[[Sequence[Block], float], None],
    rng: np.random.Generator,
    clock: Callable[[], float] = time.monotonic,
) -> Blocks:
    """Time two sides by turns.

    Args:
        turns: What times them.
        sides: Their numbers among the turns.
        seconds: When the time is up.
        is_enough: Whether the blocks so far will do.
        on_block: Called after each block with the blocks so far and the seconds that went by.
        rng: The coin.
        clock: Seconds.
    """
    found: list[Block] = []
    begun = before = clock()
    while True:
        found.append(_block(turns, sides, rng))
        now = clock()
        on_block(found, now - begun)
        done = len(found) >= LEAST_BLOCKS and is_enough(found)
        is_over = len(found) >= LEAST_BLOCKS and 2 * now - before - begun > seconds
        if done or is_over:
            return Blocks(np.array(found), done)
        before = now


def _block(turns: Turns, sides: tuple[int, int], rng: np.random.Generator) -> Block:
    is_turned = bool(rng.integers(2))
    one, other = sides[::-1] if is_turned else sides
    turns.begin((one, other))
    logs = np.log([turns.fps(side) for side in (one, other, other, one)])
    outer, inner = float(logs[[0, 3]].mean()), float(logs[[1, 2]].mean())
    return Block(inner, outer) if is_turned else Block(outer, inner)
