"""Read what the compiler says while it works: progress, warnings, levels, utilization, durations.

Each shape of a line stands in a table with the releases that are known to print it, gathered from public logs; the
emulator writes the same shapes. The rule: a line that fits no shape is text for people, and nothing is concluded
from it. Contexts are never read from here, the HEF has them; what failures mean is in `hefjoin.sdk.failures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hefjoin.results.compiled import ClusterUse, Utilization


class Progress(NamedTuple):
    """How far a long part of a step has come."""

    what: str
    done: int
    total: int
    """At least 1; the whole, as 1, where the compiler does not say how much is to come."""


class Shape(NamedTuple):
    """One shape of a line that tells progress."""

    seen_in: str
    """The DFC releases, or their TensorFlow, that print it."""
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str]], Progress]


def _counted(what: str, done: str, total: str) -> Progress:
    return Progress(what, int(done), max(int(total), 1))


_DURATION = r"(?:\d+(?:h|ms|m|s) ?)+|\d+:\d\d:[\d.]+"

BARS = (
    Shape(
        "tqdm in 3.28–3.34, and the emulator",
        re.compile(r"(\w[\w ]{0,60}?): +\d{1,3}% *[|\s].{0,400}?(\d{1,9})/(\d{1,9})"),
        lambda found: _counted(found[1], found[2], found[3]),
    ),
    Shape(
        "Keras 2: TensorFlow 2.12, up to 3.32",
        re.compile(r"^ *(\d{1,9})/(\d{1,9}) \[[=>.]+\]"),
        lambda found: _counted("training step", found[1], found[2]),
    ),
    Shape(
        "Keras 3: TensorFlow 2.18, from 3.33",
        re.compile(r"^ *(\d{1,9})/(\d{1,9}) +━"),
        lambda found: _counted("training step", found[1], found[2]),
    ),
    Shape(
        "3.28–3.33",
        re.compile(r"^\[[.<=>]+\] *Duration: ([\d:]+)"),
        lambda found: Progress(f"working for {found[1]}", 0, 1),
    ),
)
"""Lines that are written over again and again: shown, and not kept in the log."""

LINES = (
    Shape(
        "Keras in 3.28–3.34",
        re.compile(r"^Epoch (\d{1,9})/(\d{1,9})$"),
        lambda found: Progress("training epochs", max(int(found[1]) - 1, 0), max(int(found[2]), 1)),
    ),
    Shape(
        "3.28–3.33, several contexts",
        re.compile(r"^Iteration #(\d+) - (\d+) contexts"),
        lambda found: Progress(f"partition into {found[2]} contexts, iteration {found[1]}", 0, 1),
    ),
    Shape(
        "3.28–3.33, several contexts",
        re.compile(r"^Partitioner finished after \d+ iterations|^Partition to contexts finished successfully"),
        lambda _: Progress("partition into contexts", 1, 1),
    ),
    Shape(
        "3.31–3.33",
        re.compile(r"^Validating (\S+) layer by layer \((\d{1,3})%\)"),
        lambda found: _counted(f"validation of {found[1]}", found[2], "100"),
    ),
    Shape(
        "3.28–3.33",
        re.compile(r"^Context: ?(\d{1,9})/(\d{1,9}) Iteration (\d+): Trying parallel mapping"),
        lambda found: Progress(f"mapping, iteration {found[3]}", int(found[1]), int(found[2]) + 1),
    ),
    Shape(
        "3.28–3.33",
        re.compile(r"^Successful Mapping \(allocation time: "),
        lambda _: Progress("mapping", 1, 1),
    ),
)
"""Lines of the log that also tell progress."""

PHASES = (
    ("building options", "3.31–3.33", re.compile(rf"built optimization options - ({_DURATION})")),
    ("partition", "3.28–3.33", re.compile(rf"Partitioner finished after \d+ iterations, Time it took: ({_DURATION})")),
    ("mapping", "3.28–3.33", re.compile(rf"(?:Successful Mapping|Mapping Failed) \(allocation time: ({_DURATION})\)")),
    ("compilation", "3.28–3.34", re.compile(rf"Successful Compilation \(compilation time: ({_DURATION})\)")),
)
"""The long parts of a compile that end with a line saying how long they took: name, releases, pattern."""

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAG = re.compile(r"^\[(?:info|warning|error)\] +")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DEFAULT_LEVEL = re.compile(r"Using default optimization level of (\d)")
_LEVEL_DROP = re.compile(r"Reducing optimization level to (\d)")
_HEADING = re.compile(r"^(\S+) utilization:$")
_PERCENT = re.compile(r"^(\d{1,4}(?:[.,]\d+)?)%$")


def clean(line: str) -> str:
    """Return a line as a person would have seen it last: no escape codes, no overwritten beginnings."""
    return _TERMINAL_CODES.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def progress(line: str) -> Progress | None:
    """Return the progress that a line reports, or None."""
    text = _untagged(line)
    for shape in (*BARS, *LINES):
        if found := shape.pattern.search(text):
            return shape.read(found)
    return None


def is_bar(line: str) -> bool:
    """Return whether a line is one state of a bar, of which a log needs none."""
    text = _untagged(line)
    return any(shape.pattern.search(text) for shape in BARS)


def warnings(lines: Iterable[str]) -> tuple[str, ...]:
    """Return what the compiler warned of, each once."""
    return tuple(dict.fromkeys(_untagged(line) for line in lines if line.startswith("[warning] ")))


def effective_level(lines: Sequence[str], requested: int) -> int:
    """Return the optimization level that was really used.

    Without a GPU the compiler falls back to 0 whatever was asked for; where it found no level in the script, it
    names the one it takes instead.
    """
    chosen = [int(found[1]) for line in lines if (found := _DEFAULT_LEVEL.search(line))]
    drops = [int(found[1]) for line in lines if (found := _LEVEL_DROP.search(line))]
    return min([chosen[-1] if chosen else requested, *drops])


def seconds(duration: str) -> float:
    """Return the seconds of a duration in any of the compiler's notations.

    >>> seconds("45m 13s 95ms"), seconds("00:01:03"), seconds("01:00:02.50")
    (2713.095, 63.0, 3602.5)

    Raises:
        ValueError: It is none.
    """
    if re.fullmatch(r"\d+:\d\d:\d\d(?:\.\d+)?", duration):
        hours, minutes, rest = duration.split(":")
        return 3600.0 * int(hours) + 60.0 * int(minutes) + float(rest)
    parts = re.findall(r"(\d+)(h|ms|m|s)", duration)
    if not parts or " ".join(number + unit for number, unit in parts) != duration.strip():
        raise ValueError(f"{duration!r} is no duration of the compiler's")
    return round(sum(int(number) * _UNIT_SECONDS[unit] for number, unit in parts), 3)


def phase_seconds(lines: Iterable[str]) -> dict[str, float]:
    """Return how long each part of a compile took, by its name in `PHASES`; repeated parts are added up."""
    found: dict[str, float] = {}
    for line in lines:
        for phase, _, pattern in PHASES:
            if match := pattern.search(line):
                try:
                    found[phase] = found.get(phase, 0.0) + seconds(match[1])
                except ValueError:  # another notation: text for people
                    continue
    return found


def utilization(lines: Iterable[str]) -> tuple[Utilization, ...]:
    """Return what each context takes of the chip; of a table that is printed again, the last."""
    tables: dict[str, Utilization] = {}
    context = ""
    columns: list[str] = []
    clusters: dict[str, ClusterUse] = {}
    for line in map(_untagged, lines):
        if heading := _HEADING.match(line):
            context, columns = heading[1], []
        elif line.startswith("|"):
            label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            if label == "Cluster":
                columns, clusters = [cell.partition(" ")[0].lower() for cell in cells], {}
            elif (use := _use(columns, cells)) is None:
                continue
            elif label == "Total":
                tables[context] = Utilization(context=context, clusters=clusters, total=use)
                context, columns = "", []
            else:
                clusters[label] = use
    return tuple(tables.values())


def _use(columns: Sequence[str], cells: Sequence[str]) -> ClusterUse | None:
    """Return a row of a table; None where it has not a percentage under each heading we know."""
    shares = {
        column: float(found[1].replace(",", ".")) / 100
        for column, cell in zip(columns, cells, strict=False)
        if column in ClusterUse.model_fields and (found := _PERCENT.match(cell))
    }
    return ClusterUse(**shares) if len(shares) == len(ClusterUse.model_fields) else None


def _untagged(line: str) -> str:
    return _TAG.sub("", line)
