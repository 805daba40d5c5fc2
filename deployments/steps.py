"""What a worker does before it loads a flow."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = "HEFJOIN_HOME"
"""Environment variable that names the folder where relative paths of a run start."""


def enter_home() -> dict[str, str]:
    """Go to the worker's own `HEFJOIN_HOME`, else to the checkout that it runs from: no path of another machine."""
    home = Path(os.environ.get(HOME) or ROOT).expanduser().resolve()
    os.chdir(home)
    return {"directory": str(home)}
