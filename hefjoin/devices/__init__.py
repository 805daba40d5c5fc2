"""Seam 2, the device: what runs a HEF and measures it.

The rule: a device takes only what was made for it, and says with every figure where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hefjoin.manifest import Measured
from hefjoin.spec import DeviceKind


class Device(Protocol):
    """Something that runs HEFs."""

    def benchmark(
        self,
        hef: Path,
        frames: Path,
        batch_sizes: tuple[int, ...],
        seconds: float,
        on_round: Callable[[int, int], None] | None = None,
    ) -> Measured:
        """Run a HEF on real frames and time it.

        Args:
            hef: The HEF.
            frames: .npy, uint8, (frames, height, width, channels).
            batch_sizes: Frames sent together, one measurement each.
            seconds: Time to measure for each batch size, after the warm-up.
            on_round: Called with (rounds done, rounds in all).

        Raises:
            DeviceError: The device is missing, busy, or the HEF was not made for it.
        """


def open_device(kind: DeviceKind, is_emulated_hef: bool) -> Device | None:
    """Return the device to measure on; None where there is none for a real HEF.

    Args:
        kind: `auto` is the device that runs what was built.
        is_emulated_hef: What was built.
    """
    from hefjoin.devices.emulated import EmulatedDevice

    return EmulatedDevice() if kind == "emulated" or is_emulated_hef else None
