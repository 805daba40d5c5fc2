"""Runs one target in a child process and reads what libFuzzer says of it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRESS = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)/", re.MULTILINE)
TAIL_LINES = 40


@dataclass(frozen=True)
class Run:
    """What came of fuzzing one target."""

    executions: int
    coverage: tuple[int, int]
    """Branches reached by the seeds, and at the end."""
    corpus: tuple[int, int]
    """Inputs that reach something new: among the seeds, and at the end."""
    findings: tuple[Path, ...]
    """Inputs that broke a reader."""
    exit_code: int
    log_tail: str

    @property
    def has_failed(self) -> bool:
        """True for a finding, and for a fuzzer that did not run."""
        return self.exit_code != 0 or bool(self.findings)


def fuzz(name: str, folder: Path, seconds: int) -> Run:
    """Fuzz one target for some seconds; input, corpus, log and findings go to `folder`, which is made."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(folder), str(seconds)]
    log_path = folder / "log"
    with log_path.open("wb") as log:
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    text = log_path.read_text(errors="replace")
    steps = [tuple(map(int, step)) for step in PROGRESS.findall(text)] or [(0, 0, 0)]
    started, ended = steps[0], steps[-1]
    return Run(
        executions=ended[0],
        coverage=(started[1], ended[1]),
        corpus=(started[2], ended[2]),
        findings=tuple(sorted(path for kind in ("crash", "timeout", "oom") for path in folder.glob(f"{kind}-*"))),
        exit_code=code,
        log_tail="\n".join(text.splitlines()[-TAIL_LINES:]),
    )
