"""How well the forecast foretells the Model Zoo's published figures; `--write` renews its coefficients.

    python -m tests.benchmarks.forecast [--write]

The rule: every figure is of networks that were left out of the fit, near-duplicates together, and the mean over
several divisions into folds; the coefficients that are written are fitted on all of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import BrokenMeasurement, Row

if TYPE_CHECKING:
    from tests.benchmarks.material import Material
    from tests.benchmarks.validation import Validation


def measure(material: Material) -> list[Row]:
    """Return the rows of the context labels, our own counter, and the frame rates."""
    return bars(_validated(material.scratch))


def _validated(scratch: Path) -> Validation:
    from tests.benchmarks.validation import Validation
    from tests.zoo.tables import TABLES

    if not TABLES.is_dir():
        raise BrokenMeasurement(f"no tables in {TABLES}; say where they are in HEFJOIN_MODELZOO")
    return Validation(scratch)


def bars(found: Validation) -> list[Row]:
    """Return each bar with its figure."""
    objective, every, own, small = (found.contexts[name] for name in ("objective", "all", "own", "hailo8l"))
    single, end_to_end = found.speed["hailo8", "sketch"], found.speed["hailo8", "either"]
    counted = f"{found.built} networks built from their published architecture"
    return [
        Row("contexts: right, objective counts", 100 * objective.accuracy, "%", "≥", 96.0, objective.how),
        Row("contexts: AUC, objective counts", 100 * objective.auc, "%", "≥", 99.0, objective.how),
        Row("contexts: right, all", 100 * every.accuracy, "%", "≥", 92.0, every.how),
        Row("contexts: AUC, all", 100 * every.auc, "%", "≥", 97.5, every.how),
        Row("contexts: calibration error, all", 100 * every.calibration_error, "%", "≤", 3.0, every.how),
        Row("layers: furthest from the given counts", 100 * found.furthest_count, "%", "≤", 10.0, counted),
        Row("contexts: right, counted by us", 100 * own.accuracy, "%", "≥", 95.0, own.how),
        Row("FPS in one context: median error", 100 * single.median_error, "%", "≤", 20.0, single.how),
        Row("FPS in one context: factor of 90 %", single.factor, "x", "≤", 2.1, single.how),
        Row("FPS, contexts foretold: median error", 100 * end_to_end.median_error, "%", "≤", 27.0, end_to_end.how),
        Row("FPS, contexts foretold: factor of 90 %", end_to_end.factor, "x", "≤", 2.6, end_to_end.how),
        Row("contexts on Hailo-8L: right", 100 * small.accuracy, "%", "≥", 90.0, small.how),
    ]


def main() -> int:
    """Print the table; write the coefficients if asked for."""
    from tests.benchmarks.__main__ import show
    from tests.benchmarks.coefficients import FITTED, written

    with tempfile.TemporaryDirectory(prefix="hefjoin-forecast-") as scratch:
        found = _validated(Path(scratch))
        show(bars(found), "; ".join(found.notes))
        if sys.argv[1:] == ["--write"]:
            FITTED.write_text(written(found), encoding="utf-8")
            print(f"written: {FITTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
