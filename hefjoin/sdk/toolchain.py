"""Which compiler a build uses: the DFC when its interpreter is configured, else the emulator.

The rule: a configured DFC that does not work is an error, never a silent fall-back.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.errors import ToolchainError
from hefjoin.manifest import Sdk

Choice = Literal["auto", "dfc", "emulator"]

DFC_PYTHON = "HEFJOIN_DFC_PYTHON"
"""Environment variable that names the Python interpreter in which the DFC is installed."""
_ASK_VERSION = "import importlib.metadata as m; print(m.version('hailo-dataflow-compiler'))"


class Toolchain(Record):
    """A compiler and the interpreter it lives in."""

    sdk: Sdk
    python: str


def resolve(choice: Choice = "auto") -> Toolchain:
    """Return the compiler to use.

    Raises:
        ToolchainError: The DFC is asked for or configured, and its interpreter does not answer.
    """
    python = os.environ.get(DFC_PYTHON, "")
    if choice == "emulator" or (choice == "auto" and not python):
        return Toolchain(sdk=Sdk(provider="emulator", version=emulator_version()), python=sys.executable)
    if not python:
        raise ToolchainError(
            f"no Dataflow Compiler is configured; set {DFC_PYTHON} to the Python interpreter of its environment, "
            "or build with --sdk emulator"
        )
    return Toolchain(sdk=Sdk(provider="dfc", version=_dfc_version(python)), python=python)


def _dfc_version(python: str) -> str:
    try:
        done = subprocess.run(
            [python, "-c", _ASK_VERSION], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{DFC_PYTHON}={python} does not start: {error}; correct or unset it") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolchainError(
            f"{DFC_PYTHON}={python} has no Dataflow Compiler: {last}; install the vendor's wheel there, or unset it"
        )
    found = done.stdout.strip()
    if not re.match(r"\d+\.\d+", found):
        raise ToolchainError(
            f"{DFC_PYTHON}={python} answered {found!r} when asked for the DFC's version; it must be the Python of the "
            "DFC's environment",
            log_tail="",
        )
    return found


@cache
def emulator_version() -> str:
    """Return the emulator's version: that of hefjoin, with a digest of the code and packages that make its numbers."""
    from hefjoin import __version__

    package = find_spec("hefjoin")
    assert package is not None
    assert package.origin is not None
    root = Path(package.origin).parent
    folders = [root / name for name in ("emulator", "formats", "forecast")]
    code = [path for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".lark", ".toml")]
    digest = hashlib.sha256()
    for name in ("numpy", "onnx", "onnxruntime"):
        digest.update(f"{name} {version(name)}\0".encode())
    for path in sorted([*code, root / "sessions.py", root / "sdk" / "step.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{__version__}-emulator+{digest.hexdigest()[:12]}"
