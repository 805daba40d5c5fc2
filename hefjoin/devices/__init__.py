"""Seam 2, the device: what runs a HEF and measures it.

The rule: a device takes only what was made for it, and says with every figure where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hefjoin.devices.turns import Side, Turns
from hefjoin.results.measured import Measured
from hefjoin.spec import DeviceKind

Array = npt.NDArray[np.float32]


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

    def outputs(self, hef: Path, frames: Path) -> dict[str, Array] | None:
        """Return what the HEF gives for each frame, by output; None where the device hands no outputs back.

        Args:
            hef: The HEF.
            frames: .npy, uint8, (frames, height, width, channels).

        Returns:
            Output name (`<scope>/<layer>`) to float32, dequantized, (frames, height, width, channels) or
            (frames, features).

        Raises:
            DeviceError: As for `benchmark`.
        """

    def turns(self, sides: Sequence[Side], frames: Path, batch_size: int) -> AbstractContextManager[Turns]:
        """Make several sides ready to be timed by turns, for as long as the `with` block runs.

        Args:
            sides: HEFs of one input shape; the same HEF twice is two sides.
            frames: .npy, uint8, (frames, height, width, channels).
            batch_size: Frames sent together.

        Raises:
            DeviceError: As for `benchmark`; or the device cannot run several HEFs as one side.
        """


def open_device(kind: DeviceKind, is_emulated_hef: bool) -> Device:
    """Return the device to measure on; nothing is claimed before it is used.

    Args:
        kind: `auto` is the device that runs what was built: for a real HEF HailoRT's Python API where it is
            installed, else `hailortcli`.
        is_emulated_hef: What was built.

    Raises:
        DeviceError: With reason `missing` where this machine has nothing that drives a real HEF.
    """
    from hefjoin.devices.emulated import EmulatedDevice

    if kind == "emulated" or (kind == "auto" and is_emulated_hef):
        return EmulatedDevice()
    return _open_real(kind)


def _open_real(kind: DeviceKind) -> Device:
    from hefjoin.devices import hailort, hailortcli

    if kind == "hailort" or (kind == "auto" and hailort.is_installed()):
        return hailort.HailoRtDevice()
    return hailortcli.HailoRtCliDevice()
