"""Log lines in the DFC's shape, on standard output, as the DFC writes them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str, level: str = "info") -> None:
    """Write one line."""
    sys.stdout.write(f"[{level}] {text}\n")
    sys.stdout.flush()


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Frame an algorithm of the optimization with its starting and closing line."""
    start = time.monotonic()
    say(f"Starting {name}")
    yield
    say(f"Model Optimization Algorithm {name} is done (completion time is {duration(start)})")


def duration(start: float) -> str:
    """Return the time since `start` (of `time.monotonic`) as HH:MM:SS.cc."""
    minutes, seconds = divmod(time.monotonic() - start, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:05.2f}"
