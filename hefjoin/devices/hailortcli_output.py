"""Reads what `hailortcli` of HailoRT 4.x prints and writes.

Formats: `infer_stats_printer.cpp` (CSV of `run` and `benchmark`), `network_live_track.cpp` and
`measurement_live_track.cpp` (JSON of `run2`), `scan_command.cpp`, `fw_control_command.cpp` of hailo-ai/hailort
v4.23.0. The rule: what is empty or no number was not measured (None), never 0; what has another form than this is an
error that names the missing part.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from hefjoin.errors import ToolchainError

SUCCESS = "0"
UNKNOWN = "Unknown"
"""The architecture of a device that HailoRT has no name for."""
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*([A-Za-z]*)\s*")
_DEVICE = re.compile(r"^\[-\] Device: *(\S+)", re.MULTILINE)
_FIELD = re.compile(r"^([A-Z][\w ]+): *(.*\S)", re.MULTILINE)
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Spread(NamedTuple):
    """A sensor over one run."""

    low: float
    mean: float
    high: float


class Run(NamedTuple):
    """One network group in one run; None where it was not measured."""

    group: str
    problem: str = ""
    """Status and description of a failed run; empty on success."""
    fps: float | None = None
    frames: float | None = None
    hw_latency_ms: float | None = None
    overall_latency_ms: float | None = None
    power_w: Spread | None = None
    temperature_c: Spread | None = None


class Summary(NamedTuple):
    """One network group in `benchmark`; None where it was not measured."""

    group: str
    streaming_fps: float | None
    hw_fps: float | None
    hw_latency_ms: float | None
    power_w: Spread | None


class Identity(NamedTuple):
    """What a device says of itself; empty where it does not."""

    architecture: str = ""
    firmware: str = ""


def runs(text: str) -> list[Run]:
    """Read the CSV of `hailortcli run --csv`, one row for each network group.

    The row of a failed run has 14 of the 18 columns and no end of line.

    Raises:
        ToolchainError: It has other columns.
    """
    return [_run(row) for row in _rows(text, "run")]


def run2(text: str) -> list[Run]:
    """Read the JSON of `hailortcli run2 --json`; power and temperature are those of its one device.

    Raises:
        ToolchainError: It has another form.
    """
    try:
        content = json.loads(text)
        groups = [(group["name"], group) for group in content["network_groups"]]
        device = (content.get("devices") or [{}])[0]
        return [
            Run(
                str(name),
                fps=number(group.get("FPS")),
                hw_latency_ms=number(group.get("hw_latency")),
                overall_latency_ms=number(group.get("overall_latency")),
                power_w=_spread(device.get("power") or {}, "min", "average", "max"),
                temperature_c=_spread(device.get("temperature") or {}, "min", "average", "max"),
            )
            for name, group in groups
        ]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _unknown("run2", f"{type(error).__name__}: {error}", text) from error


def benchmark(text: str) -> list[Summary]:
    """Read the CSV of `hailortcli benchmark --csv`, one row for each network group.

    Raises:
        ToolchainError: It has other columns.
    """
    return [
        Summary(
            row["net_name"],
            number(_cell(row, "fps", "benchmark")),
            number(_cell(row, "hw_only_fps", "benchmark")),
            number(_cell(row, "hw_latency", "benchmark")),
            _spread(row, "min_power", "average_power", "max_power"),
        )
        for row in _rows(text, "benchmark")
    ]


def devices(text: str) -> list[str]:
    """Return the devices that `hailortcli scan` lists; it ends with 0 with and without any."""
    return _DEVICE.findall(text)


def identity(text: str) -> Identity:
    """Read `hailortcli fw-control identify`, which prints nothing without a device."""
    fields = dict(_FIELD.findall(text))
    architecture = fields.get("Device Architecture", UNKNOWN)
    return Identity("" if architecture == UNKNOWN else architecture, version(fields.get("Firmware Version", "")))


def version(text: str) -> str:
    """Return the first version in a text; empty without one.

    >>> version("HailoRT-CLI version 4.23.0")
    '4.23.0'
    """
    found = _VERSION.search(text)
    return found.group() if found else ""


def number(value: object) -> float | None:
    """Return a number that may be text and carry a unit; None where there is none, or no finite one.

    >>> number("2.04 W"), number("1025.61"), number(1.9), number(""), number("N/A")
    (2.04, 1025.61, 1.9, None, None)
    """
    found = _NUMBER.fullmatch(str(value))
    result = float(found.group(1)) if found else math.nan
    return result if math.isfinite(result) else None


def _rows(text: str, command: str) -> list[dict[str, str]]:
    try:
        rows: list[dict[str, str]] = list(csv.DictReader(io.StringIO(text), restval=""))
    except csv.Error as error:
        raise _unknown(command, str(error), text) from error
    if any("net_name" not in row or None in row for row in rows):
        raise _unknown(command, "its header does not name the columns", text)
    return rows


def _run(row: Mapping[str, str]) -> Run:
    status = _cell(row, "status", "run")
    if status != SUCCESS:
        return Run(row["net_name"], problem=f"status {status}: {_cell(row, 'status_description', 'run')}")
    return Run(
        row["net_name"],
        fps=number(_cell(row, "fps", "run")),
        frames=number(_cell(row, "num_of_frames", "run")),
        hw_latency_ms=number(_cell(row, "hw_latency", "run")),
        overall_latency_ms=number(_cell(row, "overall_latency", "run")),
        power_w=_spread(row, "min_power", "average_power", "max_power"),
        temperature_c=_spread(row, "min_temp", "average_temp", "max_temp"),
    )


def _cell(row: Mapping[str, str], column: str, command: str) -> str:
    if column not in row:
        raise _unknown(command, f"no column {column}", ",".join(map(str, row)))
    return row[column]


def _spread(values: Mapping[str, Any], low: str, mean: str, high: str) -> Spread | None:
    found = [number(values.get(key)) for key in (low, mean, high)]
    known = [value for value in found if value is not None]
    return Spread(*known) if len(known) == len(found) else None


def _unknown(command: str, why: str, text: str) -> ToolchainError:
    return ToolchainError(
        f"hailortcli {command} wrote something else than HailoRT 4.x does ({why}): use HailoRT 4.20 to 4.23, and send "
        f"us these {len(text):,} characters, which start with {text[:80]!r}",
        log_tail=text[-2000:],
    )
