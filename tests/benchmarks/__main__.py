"""`make bench`: measure, print one table.

Ends with 0 when all was measured, whether the bars were met or missed, and with 1 when a measurement broke.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tests.benchmarks.material import Material
from tests.benchmarks.measure import BrokenMeasurement, Row, load_average

GROUPS = (
    "startup",
    "check",
    "hef",
    "parse",
    "quantize",
    "calibration",
    "accuracy",
    "memory",
    "noise",
    "forecast",
    "throughput",
    "compare",
    "flow",
    "store",
    "service",
)
WIDTH = 168


def main() -> int:
    """Measure what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What hefjoin costs, measured.")
    parser.add_argument("--only", metavar="NAME", choices=GROUPS, help=f"one group: {', '.join(GROUPS)}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    rows: list[Row] = []
    broken: list[str] = []
    start, load = time.monotonic(), load_average()
    with tempfile.TemporaryDirectory(prefix="hefjoin-bench-") as scratch:
        _keep_bytecode(Path(scratch) / "bytecode")
        material = Material(Path(scratch))
        for name in [chosen.only] if chosen.only else GROUPS:
            print(f"measuring {name} (load {load_average():.1f}) …", file=sys.stderr, flush=True)
            try:
                rows += import_module(f"tests.benchmarks.{name}").measure(material)
            except BrokenMeasurement as error:
                broken.append(f"{name}: {error}")
    surroundings = (
        f"load average {load:.1f} at the beginning, {load_average():.1f} at the end; "
        f"{time.monotonic() - start:.0f} s in all"
    )
    if rows:
        show(rows, surroundings)
    for text in broken:
        print(f"not measured: {text}", file=sys.stderr)
    if chosen.json:
        figures = [{**asdict(row), "is_met": row.is_met} for row in rows]
        content = {"rows": figures, "not_measured": broken, "surroundings": surroundings}
        chosen.json.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if broken else 0


def _keep_bytecode(folder: Path) -> None:
    """Let the processes find their modules compiled, as an installation has them, without writing into one."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def show(rows: list[Row], surroundings: str) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("What", "Figure", "Bar", "", "How", header_style="bold", caption=surroundings)
    for row in rows:
        verdict = "met" if row.is_met else "[red]missed[/red]"
        table.add_row(
            row.what, f"{row.value:.2f} {row.unit}", f"{row.relation} {row.bar:g} {row.unit}", verdict, row.how
        )
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


if __name__ == "__main__":
    sys.exit(main())
