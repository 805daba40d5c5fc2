"""Print as the DFC prints, and write the log files that it leaves in the working directory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT_LOG = "hailo_sdk.client.log"


def info(text: str) -> None:
    """Print one line at level info."""
    _write("info", text)


def warning(text: str) -> None:
    """Print one line at level warning."""
    _write("warning", text)


def error(text: str) -> None:
    """Print one line at level error."""
    _write("error", text)


def bar(what: str, total: int, unit: str = "entries") -> None:
    """Draw a progress bar over itself on standard error, as tqdm does."""
    for done in range(total + 1):
        percent = 100 * done // max(total, 1)
        sys.stderr.write(f"\r{what}: {percent:3d}%|{'█' * (percent // 10):<10}| {done}/{total} [00:00<00:00, {unit}/s]")
    sys.stderr.write("\n")
    sys.stderr.flush()


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Frame an algorithm of the optimization."""
    start = time.monotonic()
    info(f"Starting {name}")
    yield
    info(f"Model Optimization Algorithm {name} is done (completion time is {clock(start)})")


def clock(start: float) -> str:
    """Return the time since `start` as HH:MM:SS.cc."""
    seconds = time.monotonic() - start
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{seconds % 60:05.2f}"


def words(start: float) -> str:
    """Return the time since `start` as `45m 13s 95ms`."""
    milliseconds = int(1000 * (time.monotonic() - start))
    parts = ((milliseconds // 60_000, "m"), (milliseconds // 1000 % 60, "s"), (milliseconds % 1000, "ms"))
    return " ".join(f"{value}{unit}" for value, unit in parts if value) or "0ms"


def _write(level: str, text: str) -> None:
    sys.stdout.write(f"[{level}] {text}\n")
    sys.stdout.flush()
    with Path(CLIENT_LOG).open("a", encoding="utf-8") as stream:
        stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} - {level.upper()} - {text}\n")
