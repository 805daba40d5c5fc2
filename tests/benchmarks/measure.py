"""Run something as a fresh process and know what it cost; say what was found against its bar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600.0
TAIL_LINES = 15


class BrokenMeasurement(Exception):
    """Something could not be measured: this is about the benchmark, not about how fast hefjoin is."""


@dataclass(frozen=True)
class Row:
    """One figure of the table."""

    what: str
    value: float
    unit: str
    relation: str
    """`≤` or `≥`."""
    bar: float
    how: str

    @property
    def is_met(self) -> bool:
        """Whether the figure keeps to its bar."""
        return self.value <= self.bar if self.relation == "≤" else self.value >= self.bar


@dataclass(frozen=True)
class Ended:
    """A process that ended well, and what it took from start to end, its own children included in `cpu_s`."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str


def run(command: Sequence[str], scratch: Path, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        scratch: Its working directory, where its output is kept too.
        environment: Variables to add to ours.

    Raises:
        BrokenMeasurement: It failed, or took longer than `DEADLINE_S`.
    """
    out, err = (scratch / f"{uuid4().hex[:8]}.{kind}" for kind in ("out", "err"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        deadline = Timer(DEADLINE_S, process.kill)
        deadline.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            deadline.cancel()
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = "\n".join((err.read_text() or out.read_text()).splitlines()[-TAIL_LINES:])
        raise BrokenMeasurement(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    return Ended(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, out.read_text())


@dataclass(frozen=True)
class Called:
    """A function that ran in a process of its own: what it returned and what the process took."""

    value: Any
    process: Ended


def call(function: Callable[..., Any], scratch: Path, /, **arguments: Any) -> Called:
    """Call a module's function in a fresh process.

    Args:
        function: Takes and returns what JSON can carry; paths arrive as text.
        scratch: Its working directory.
        arguments: What it takes.
    """
    result = scratch / f"{uuid4().hex[:8]}.json"
    place = f"{function.__module__}:{function.__name__}"
    process = run([sys.executable, "-m", __name__, place, json.dumps(arguments, default=str), str(result)], scratch)
    return Called(json.loads(result.read_text(encoding="utf-8")), process)


def interleaved(rounds: int, *sides: Callable[[], Any]) -> list[list[Any]]:
    """Run all sides once per round, in turn; returns what each side gave, round by round."""
    given = [[side() for side in sides] for _ in range(rounds)]
    return [list(column) for column in zip(*given, strict=True)]


def median_of(found: Sequence[Any], figure: Callable[[Any], float]) -> float:
    """Return the median of one figure of every round."""
    return median(figure(item) for item in found)


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return `median (smallest–largest)` of all rounds, for the column that says how."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def load_average() -> float:
    """Return how many processes wanted the CPU over the last minute."""
    return os.getloadavg()[0]


def _main(place: str, arguments: str, result: str) -> None:
    from importlib import import_module

    module, _, name = place.partition(":")
    value = getattr(import_module(module), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
