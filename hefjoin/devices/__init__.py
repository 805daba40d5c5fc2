"""Seam 2, the device: what runs a HEF and measures it.

The rule: a device takes only what was made for it, and says with every figure where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hefjoin.errors import DeviceError
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


def open_device(kind: DeviceKind, is_emulated_hef: bool) -> Device:
    """Return the device to measure on; `auto` is the one that runs what was built.

    Raises:
        DeviceError: There is no such device here.
    """
    from hefjoin.devices.emulated import EmulatedDevice

    if kind == "emulated" or is_emulated_hef:
        return EmulatedDevice()
    raise DeviceError(
        "a real HEF needs a Hailo-8, and measuring on one is not part of this release; "
        "run it with `hailortcli benchmark`",
        is_transient=False,
    )
