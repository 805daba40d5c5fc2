"""HEFs by turns on a Hailo-8, through HailoRT's Python API.

The rule: between two rounds the chip may belong to another HEF; the frames that bring it back are in no round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hefjoin.devices.guard import Host
from hefjoin.devices.inflight import Pipeline, round_fps
from hefjoin.devices.sensors import Sensors
from hefjoin.results.timed import Conditions

ROUND_SECONDS = 0.1


class HailoRtTurns:
    """See `hefjoin.devices.turns.Turns`."""

    source: Literal["device", "emulator"] = "device"

    def __init__(
        self, sides: Sequence[Sequence[Pipeline]], host: Host, sensors: Sensors, notes: tuple[str, ...]
    ) -> None:
        """Prepare to time.

        Args:
            sides: The loaded HEFs of each; their buffers are filled.
            host: The device and what drives it.
            sensors: The chip's, which are being read.
            notes: What deserves a word beside the figures.
        """
        self.device = f"{host.architecture} at {host.device_id}"
        self.method = f"HailoRT InferModel.run_async, scheduler ROUND_ROBIN, rounds of {1000 * ROUND_SECONDS:.0f} ms"
        self._sides, self._host, self._sensors, self._notes = sides, host, sensors, notes

    def begin(self, order: Sequence[int]) -> None:
        """Leave all as it is: to load a HEF takes longer than its rounds, and the chip has no caches to lie well in."""

    def fps(self, side: int) -> float:
        """Time a side with its queues full."""
        return round_fps(self._sides[side], ROUND_SECONDS)

    def conditions(self) -> Conditions:
        """Return what the chip's sensors said."""
        return Conditions(
            temperature_c=self._sensors.temperature_c,
            power_w=self._sensors.power_w,
            is_throttled=self._sensors.is_throttled,
            versions=self._host.versions,
            notes=(*self._notes, *self._sensors.notes),
        )
