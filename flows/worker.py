"""A flow that a worker started ends with it: nobody else could cancel it, or tell what became of it."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def end_with_worker() -> None:
    """Let the kernel send SIGTERM to this process when its worker dies; Prefect then reports the run as crashed.

    The first line of a flow, in the main thread. Where no worker started it, nothing is done.
    """
    if "PREFECT__WORKER_NAME" in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
