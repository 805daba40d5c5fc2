"""What a comparison of two HEFs on one device came to, or how fast one HEF is.

The rule: a difference never stands without its interval, its p-value, and what the same HEF shows against itself.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record
from hefjoin.results.measured import Range

ALPHA = 0.05
"""Below this probability chance is not believed; intervals hold 1 - ALPHA."""


class Speed(Record):
    """One side of a comparison."""

    name: str
    """File or build; several with ` + ` where every frame went through all of them."""
    fps: float
    fps_low: float
    fps_high: float
    """95 % confidence interval; the machine's phases are in it, which a difference by turns is spared."""


class Difference(Record):
    """How much faster one side is than the other, from rounds by turns."""

    percent: float
    """Of frames per second: -3.1 is 3.1 % slower."""
    low_percent: float
    high_percent: float
    """95 % confidence interval."""
    p_value: float
    """Probability of so large a difference, either way, between two that are equally fast."""
    blocks: int
    """Of four rounds each."""
    neighbours: int
    """Blocks that the bootstrap of the interval drew together."""

    @property
    def half_width_percent(self) -> float:
        """Half of the interval."""
        return (self.high_percent - self.low_percent) / 2


class Conditions(Record):
    """What the device said of itself meanwhile."""

    temperature_c: Range | None = None
    power_w: Range | None = None
    is_throttled: bool | None = None
    """The chip slowed itself down; None where it cannot be asked."""
    versions: dict[str, str] = Field(default_factory=dict)
    """HailoRT, driver and firmware, where there are any."""
    notes: tuple[str, ...] = ()


class Timed(Record):
    """One HEF, or one against another, timed by turns on one device."""

    source: Literal["device", "emulator"]
    device: str
    method: str
    frames: str
    """Which frames were sent."""
    batch_size: int
    first: Speed
    noise: Difference
    """The first against itself."""
    noise_floor_percent: float
    """Below it stay 95 of 100 comparisons of the first with itself that are as long as this one."""
    second: Speed | None = None
    difference: Difference | None = None
    """The first against the second: positive where the first is faster."""
    precision_percent: float
    """What was asked for: half of the interval of the difference, or without one of the speed."""
    is_precise: bool
    """False where the time was up before."""
    seconds: float
    load_average: float
    """Of the host over the last minute, when the measurement began."""
    conditions: Conditions
    is_separate: bool = False
    """Every frame of the second side went through several HEFs."""
    is_same: bool = False
    """Both sides are one HEF: any difference is noise."""

    @property
    def is_different(self) -> bool:
        """Whether the sides differ: more than chance explains, and more than the noise floor."""
        found = self.difference
        return found is not None and found.p_value < ALPHA and abs(found.percent) > self.noise_floor_percent


class SpeedChange(Record):
    """The throughput of a build against that of an earlier one."""

    earlier: str
    """Build id."""
    batch_size: int
    fps: float
    earlier_fps: float
    percent: float
    """By how much it is faster; below zero: slower."""
    source: str
    is_shown: bool
    """The 95 % intervals do not touch; else the rounds may differ by chance."""

    @property
    def is_regression(self) -> bool:
        """Whether it is slower, and not by chance."""
        return self.is_shown and self.percent < 0
