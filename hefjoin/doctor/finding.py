"""One line of an examination: what was looked at, what was found, what follows, what to do.

The rule: `problem` is kept for what is installed or configured and does not work; a thing that is absent is none.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record

Part = Literal["hefjoin", "machine", "compiler", "device", "Prefect"]
State = Literal["ok", "untested", "missing", "problem", "not needed for the emulator"]
"""
- `ok`: there, and it fits.
- `untested`: there, in a version or combination that nobody is known to have tried.
- `missing`: absent or scarce, and something that is set up here would use it.
- `problem`: installed or configured, and it does not work.
- `not needed for the emulator`: absent, and only real builds or real devices use it.
"""

EMULATOR_DOES_WITHOUT: State = "not needed for the emulator"


class Finding(Record):
    """What was found of one subject."""

    part: Part
    subject: str
    state: State
    found: str
    follows: str = ""
    """What it means for a build; empty where nothing does."""
    next_step: str = ""
    """What to do; empty where nothing has to be done."""
    versions: dict[str, str] = Field(default_factory=dict)
    """The versions in `found`, by name, for machines."""


def absent(is_wanted: bool) -> State:
    """Return the state of a thing that is not there."""
    return "missing" if is_wanted else EMULATOR_DOES_WITHOUT
