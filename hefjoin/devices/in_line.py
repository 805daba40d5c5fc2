"""How long a thread stood in line for a core: the time that other programs took from it.

The rule: what the thread spent asleep or waiting for anything else is its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STATISTICS = "/proc/thread-self/schedstat"
"""Three numbers: nanoseconds on a core, nanoseconds in line for one, turns (Linux, Documentation/scheduler)."""
LINE_BYTES = 96


@contextmanager
def time_in_line() -> Iterator[Callable[[], float]]:
    """Give what returns how many seconds the thread that enters has stood in line for a core so far.

    Always 0 where the system does not count it.
    """
    try:
        opened = os.open(STATISTICS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield lambda: 0.0
        return
    try:
        yield lambda: _seconds(os.pread(opened, LINE_BYTES, 0))
    finally:
        with suppress(OSError):
            os.close(opened)


def _seconds(line: bytes) -> float:
    """Return the second number of a line of statistics, in seconds.

    >>> _seconds(b"5000000000 250000000 17")
    0.25
    """
    return int(line.split()[1]) / 1e9
