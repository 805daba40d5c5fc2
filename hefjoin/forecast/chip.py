"""What is known of the chips, and what was fitted: the two tables that every forecast reads."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def chip_facts() -> dict[str, Any]:
    """Return the table of chip facts, `hailo8.toml`."""
    return _table("hailo8.toml")


@cache
def fitted() -> dict[str, Any]:
    """Return the coefficients and how well they did on networks that they were not fitted on, `fitted.toml`."""
    return _table("fitted.toml")


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(files("hefjoin.forecast").joinpath(name).read_text(encoding="utf-8"))
