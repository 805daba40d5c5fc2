"""How long a person waits before anything begins."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.material import Material
from tests.benchmarks.measure import Ended, Row, interleaved, median_of, run, spread

ROUNDS = 9
HEFJOIN = str(Path(sys.executable).with_name("hefjoin"))


def measure(material: Material) -> list[Row]:
    """Return the rows of the command's help and of the bare import."""

    def show_help() -> Ended:
        return run([HEFJOIN, "--help"], material.scratch)

    def bare_import() -> Ended:
        return run([sys.executable, "-c", "import hefjoin"], material.scratch)

    sides = interleaved(ROUNDS, show_help, bare_import)
    names = (("hefjoin --help", 0.5), ('python -c "import hefjoin"', 0.3))
    return [
        Row(
            what,
            median_of(side, lambda ended: float(ended.cpu_s)),
            "CPU s",
            "≤",
            bar,
            f"whole fresh process, {ROUNDS} rounds: {spread([ended.cpu_s for ended in side], '.3f')}",
        )
        for (what, bar), side in zip(names, sides, strict=True)
    ]
