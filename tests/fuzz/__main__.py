"""`python -m tests.fuzz --seconds N [TARGET]`: fuzz the readers, one after the other; ends with 1 on a finding."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS

ROW = "{:<8}{:>12}{:>18}{:>18}{:>10}"


def main() -> int:
    """Fuzz what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed the readers with damaged files.")
    parser.add_argument("--seconds", metavar="N", type=int, default=60, help="in total, shared by the targets")
    parser.add_argument("target", nargs="?", choices=TARGETS, help="one alone; all otherwise")
    chosen = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed (there is a wheel for Linux on x86_64): pip install -e '.[dev]'")
    names = [chosen.target] if chosen.target else list(TARGETS)
    folder = Path(tempfile.mkdtemp(prefix="hefjoin-fuzz-"))
    print(ROW.format("target", "executions", "coverage", "corpus", "findings"))
    findings = 0
    for name in names:
        run = fuzz(name, folder / name, max(1, chosen.seconds // len(names)))
        coverage, corpus = (f"{first} → {last}" for first, last in (run.coverage, run.corpus))
        print(ROW.format(name, f"{run.executions:,}", coverage, corpus, len(run.findings)), flush=True)
        for path in run.findings:
            print(f"  {path}")
        if run.has_failed:
            findings += 1
            print(run.log_tail, file=sys.stderr)
    print(f"corpora and logs: {folder}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
