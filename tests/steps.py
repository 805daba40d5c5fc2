"""Steps of the emulator taken in the tests' own process: a second less for each, and the same code and errors."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from hefjoin.sdk import step
from hefjoin.sdk.failures import to_error
from hefjoin.sdk.process import Finished
from hefjoin.sdk.toolchain import Toolchain

SDK = step.Sdk("emulator")
_one_at_a_time = Lock()
"""What a step prints goes nowhere, which only one thread may ask for."""


def take(
    toolchain: Toolchain, action: str, arguments: dict[str, Any], work: Path, *, model: str, on_progress: Any = None
) -> Finished:
    """Take a step, as `hefjoin.sdk.process.run_step` does; its errors are those of a step."""
    del toolchain, work, on_progress
    try:
        with _one_at_a_time, redirect_stdout(StringIO()):
            return Finished(step.ACTIONS[action](SDK, **arguments), [])
    except Exception as error:
        raise to_error(type(error).__name__, str(error), model, "") from error


def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the steps of the stages up to the join in this process, and let no store wait for the disk."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    for stage in ("parse", "join"):
        monkeypatch.setattr(f"hefjoin.stages.{stage}.run_step", take)
