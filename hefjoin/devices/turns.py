"""Several HEFs that are timed by turns on one device, in rounds short enough that the machine is one machine in both.

The rule: nothing of a start or an end is in a round. What a side needs to run at its own pace is done before the clock
starts, and when it stops nothing of it is under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from hefjoin.results.timed import Conditions

Side = tuple[Path, ...]
"""HEFs that every frame goes through; one, or several that take the device by turns."""


class Turns(Protocol):
    """Sides that are ready to be timed; numbered as they were given."""

    source: Literal["device", "emulator"]
    device: str
    """What times."""
    method: str
    """How."""

    def begin(self, order: Sequence[int]) -> None:
        """Begin a block in which these sides have their turns; where it costs little, make them ready anew, in order.

        Where a side lies in memory may decide some percent of its speed: made ready anew, that is chance, not the side.
        """

    def fps(self, side: int) -> float:
        """Return frames per second of a side in one round.

        Raises:
            DeviceError: The device failed.
        """

    def conditions(self) -> Conditions:
        """Return what the device said of itself so far."""
