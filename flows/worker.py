"""A flow that a worker started ends with it: nobody else could cancel it, or tell what became of it."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

PR_SET_PDEATHSIG = 1
ALONE = signal.SIGUSR1
WORKER = "HEFJOIN_WORKER"
"""Environment variable with the worker's process id."""


def end_with_worker() -> None:
    """Let the kernel tell this process when its worker dies, and end it then as SIGTERM would: the run has crashed.

    The first line of a flow, in the main thread. Where no worker of ours started it, nothing is done.
    """
    if worker := os.environ.get(WORKER):
        signal.signal(ALONE, _end)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ALONE)
        if os.getppid() != int(worker):  # it died while this process was starting
            os.kill(os.getpid(), ALONE)


def _end(number: int, frame: FrameType | None) -> None:
    """Write to nowhere what the worker would have read: a broken pipe would end the process before it has reported."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nowhere, output)
    os.close(nowhere)
    os.kill(os.getpid(), signal.SIGTERM)
