"""A minute of coverage-guided fuzzing; `python -m tests.fuzz --seconds N` takes longer."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import TARGETS

SECONDS = 60
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it has wheels for Linux on x86_64"
)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    path = tmp_path / f"input{target.suffix}"
    for seed in target.seeds(tmp_path):
        path.write_bytes(seed)
        target.read(path)


@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str, tmp_path: Path) -> None:
    run = fuzz(name, tmp_path / "fuzz", SECONDS // len(TARGETS))
    assert not run.has_failed, f"{[str(path) for path in run.findings]}\n{run.log_tail}"
    assert run.executions > 0
    assert run.coverage[1] >= run.coverage[0] > 0
