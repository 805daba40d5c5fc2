"""One HEF, or one against another, timed on a device: the noise floor first, then by turns until it is precise."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hefjoin.devices.turns import Turns
from hefjoin.results.timed import Difference, Speed, Timed
from hefjoin.timing.blocks import Block, Blocks, timed
from hefjoin.timing.statistics import block_length, interval, likely_half_width, noise_floor, p_value

NOISE_SHARE = 0.25
"""Of the time, for the first side against itself."""
FIRST, AGAIN, SECOND = range(3)
"""Sides, as a device is given them."""
PRECISE_BLOCKS = 16
"""Fewer say little about their own spread."""
LOOK_EVERY = 1.1
"""How many times as many blocks there are when a bootstrap is made again, to see whether it is enough."""

Array = npt.NDArray[np.float64]
OnBlock = Callable[[str, float, float, float], None]
"""Told what goes on, the seconds that went by and there are, and how far the 95 % interval reaches, in percent."""


class Asked(NamedTuple):
    """How long and how precisely to time."""

    names: tuple[str, ...]
    """Of the sides: one or two."""
    frames: str
    """Which are sent, in words."""
    batch_size: int = 1
    seconds: float = 20.0
    precision_percent: float = 1.0
    is_separate: bool = False
    """The second side is several HEFs."""
    is_same: bool = False
    """Both sides are one HEF."""


def compare(turns: Turns, asked: Asked, on_block: OnBlock, rng: np.random.Generator | None = None) -> Timed:
    """Time what a device was given: the first side, itself again, and the second side if there is one.

    Args:
        turns: The sides, made ready.
        asked: How long and how precisely.
        on_block: Told after every block.
        rng: The coin; by default one that nobody can foresee.

    Raises:
        DeviceError: The device failed.
    """
    rng, begun, load = rng or np.random.default_rng(), time.monotonic(), os.getloadavg()[0]
    wanted = np.log1p(asked.precision_percent / 100)
    is_alone = len(asked.names) == 1

    def run(what: str, other: int, seconds: float, is_enough: Callable[[Sequence[Block]], bool]) -> Blocks:
        def report(found: Sequence[Block], elapsed: float) -> None:
            on_block(what, elapsed, seconds, _percent(likely_half_width(_differences(found))))

        return timed(turns, (FIRST, other), seconds, is_enough, report, rng)

    def is_sure(found: Sequence[Block]) -> bool:
        return len(found) >= PRECISE_BLOCKS and likely_half_width(_differences(found)) <= wanted

    noise_seconds = asked.seconds * (1 if is_alone else NOISE_SHARE)
    itself = run("against itself", AGAIN, noise_seconds, _SpeedIsPrecise(wanted) if is_alone else is_sure)
    sides = None if is_alone else run("by turns", SECOND, asked.seconds - noise_seconds, is_sure)
    shown = sides or itself
    return Timed(
        source=turns.source,
        device=turns.device,
        method=turns.method,
        frames=asked.frames,
        batch_size=asked.batch_size,
        first=_speed(asked.names[0], itself.sides.mean(axis=1) if is_alone else shown.sides[:, 0]),
        noise=_difference(itself),
        noise_floor_percent=_percent(noise_floor(itself.differences, len(shown.sides))),
        second=None if sides is None else _speed(asked.names[1], sides.sides[:, 1]),
        difference=None if sides is None else _difference(sides),
        precision_percent=asked.precision_percent,
        is_precise=shown.is_enough,
        seconds=round(time.monotonic() - begun, 3),
        load_average=load,
        conditions=turns.conditions(),
        is_separate=asked.is_separate,
        is_same=asked.is_same,
    )


class _SpeedIsPrecise:
    """Whether the interval of a speed alone is narrow enough; the bootstrap takes its time and is made now and then."""

    def __init__(self, wanted: float) -> None:
        self._wanted, self._next = wanted, PRECISE_BLOCKS

    def __call__(self, found: Sequence[Block]) -> bool:
        if len(found) < self._next:
            return False
        self._next = int(LOOK_EVERY * len(found)) + 1
        return interval(np.array(found).mean(axis=1)).half_width <= self._wanted


def _differences(found: Sequence[Block]) -> Array:
    return np.array([block.first - block.second for block in found])


def _speed(name: str, logs: Array) -> Speed:
    fps, low, high = np.exp(interval(logs)).tolist()
    return Speed(name=name, fps=fps, fps_low=low, fps_high=high)


def _difference(blocks: Blocks) -> Difference:
    series = blocks.differences
    neighbours = block_length(series)
    found = interval(series, neighbours)
    return Difference(
        percent=_percent(found.value),
        low_percent=_percent(found.low),
        high_percent=_percent(found.high),
        p_value=p_value(series),
        blocks=len(series),
        neighbours=neighbours,
    )


def _percent(log: float) -> float:
    """Return by how many percent something is more that is so much more on a log scale."""
    return 100 * float(np.expm1(log))
