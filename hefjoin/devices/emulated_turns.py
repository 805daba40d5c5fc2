"""Emulated HEFs by turns, on ONNX Runtime.

The rules:

1. A round is as fast as its median batch, on one thread, and the time that the thread stood in line for a core is
   taken off. Other programs are most of the noise there is; what a HEF itself waits for counts.
2. A block has sessions of its own. Where the memory of a session lies moves its speed by a little for as long as it
   lives, the same graph against itself (Mytkowicz et al., Producing Wrong Data Without Doing Anything Obviously Wrong,
   2009).

docs/adr/0051 has the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal, NamedTuple

from hefjoin.devices.frames import Array
from hefjoin.results.timed import Conditions

ROUND_SECONDS = 0.02
"""At least one batch."""


class Network(NamedTuple):
    """A HEF's graph in a session, and what is sent to it."""

    session: Any
    name: str
    """Of its input."""
    batches: list[Array]


class EmulatedTurns:
    """See `hefjoin.devices.turns.Turns`."""

    source: Literal["device", "emulator"] = "emulator"
    method = (
        f"ONNX Runtime on one thread, median batch of rounds of {1000 * ROUND_SECONDS:.0f} ms, without the time in "
        "line for a core"
    )

    def __init__(
        self, sides: Sequence[Sequence[tuple[Callable[[], Any], list[Array]]]], cpu: str, in_line: Callable[[], float]
    ) -> None:
        """Prepare to time.

        Args:
            sides: For each, of each of its HEFs: what opens a session, and batches of frames.
            cpu: The processor's name.
            in_line: Seconds that this thread has stood in line for a core.
        """
        self.device = f"emulator on {cpu}"
        self._sides, self._in_line = sides, in_line
        self._open: dict[int, list[Network]] = {}

    def begin(self, order: Sequence[int]) -> None:
        """Open sessions of their own for these sides, in this order, and let each run once."""
        self._open.clear()
        for side in order:
            self._open[side] = []
            for opener, batches in self._sides[side]:
                session = opener()
                self._open[side].append(Network(session, session.get_inputs()[0].name, batches))
            _send(self._open[side], 0)

    def fps(self, side: int) -> float:
        """Send batches for a round, after one that brings the side's data back into the caches."""
        networks, times = self._open[side], list[float]()
        _send(networks, 0)
        end = time.perf_counter() + ROUND_SECONDS
        while True:
            waited, start = self._in_line(), time.perf_counter()
            _send(networks, len(times))
            now = time.perf_counter()
            taken, waited = now - start, self._in_line() - waited
            times.append(taken - waited if waited < taken else taken)  # else it waited before or after
            if now >= end:
                break
        return len(networks[0].batches[0]) / median(times)

    def conditions(self) -> Conditions:
        """Return that a CPU is not asked."""
        notes = [f"{what}: not available (a CPU is not asked)" for what in ("temperature", "throttling")]
        return Conditions(notes=tuple(notes))


def _send(networks: list[Network], index: int) -> None:
    """Send one batch through every network of a side."""
    for network in networks:
        network.session.run(None, {network.name: network.batches[index % len(network.batches)]})
