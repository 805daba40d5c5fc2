"""Which compiler a build uses: the DFC when its interpreter is configured, else the emulator.

The rule: a configured DFC that does not work, or that is not for a Hailo-8, is an error, never a silent fall-back.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.compatibility import is_in, table
from hefjoin.errors import ToolchainError
from hefjoin.results.sources import Sdk

Choice = Literal["auto", "dfc", "emulator"]

DFC_PYTHON = "HEFJOIN_DFC_PYTHON"
"""Environment variable that names the Python interpreter in which the DFC is installed."""
logger = logging.getLogger("hefjoin.sdk")

EMULATE_NO_GPU = "HEFJOIN_EMULATE_NO_GPU"
"""Environment variable under which the emulator gives other results; see `hefjoin.emulator.optimize`."""

_ASK_VERSION = "import importlib.metadata as m; print(m.version('hailo-dataflow-compiler'))"


class Toolchain(Record):
    """A compiler and the interpreter it lives in."""

    sdk: Sdk
    python: str


def resolve(choice: Choice = "auto", python: str = "") -> Toolchain:
    """Return the compiler to use.

    Args:
        choice: Which compiler; auto: the DFC where an interpreter is named, else the emulator.
        python: The interpreter of the DFC's environment; empty: the one that HEFJOIN_DFC_PYTHON names.

    Raises:
        ToolchainError: The DFC is asked for or configured, and its interpreter does not answer, or has a release that
            does not serve a Hailo-8.
    """
    where = f"dfc_python: {python}" if python else f"{DFC_PYTHON}={os.environ.get(DFC_PYTHON, '')}"
    python = python or os.environ.get(DFC_PYTHON, "")
    if choice == "emulator" or (choice == "auto" and not python):
        without_gpu = ".no-gpu" if os.environ.get(EMULATE_NO_GPU) == "1" else ""
        sdk = Sdk(provider="emulator", version=f"{emulator_version()}{without_gpu}")
        return Toolchain(sdk=sdk, python=sys.executable)
    if not python:
        raise ToolchainError(
            f"no Dataflow Compiler is configured; set {DFC_PYTHON}, or dfc_python in the spec, to the Python of its "
            "environment, or build with --sdk emulator",
            log_tail="",
        )
    if os.sep in python:  # a step has a directory of its own; a link to the interpreter must stay one
        python = os.path.abspath(python)  # noqa: PTH100
    found = _dfc_version(python, where)
    _require_served(found, where)
    return Toolchain(sdk=Sdk(provider="dfc", version=found), python=python)


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what would lead another Python to our packages."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in environment.items() if name not in ours}


def _dfc_version(python: str, where: str) -> str:
    try:
        done = subprocess.run(
            [python, "-c", _ASK_VERSION],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env=without_ours(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{where} does not start: {error}; correct or unset it", log_tail="") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ToolchainError(
            f"{where} has no Dataflow Compiler: {last}; install the vendor's wheel there, or unset it",
            log_tail=done.stderr,
        )
    found = done.stdout.strip()
    if not re.match(r"\d+\.\d+", found):
        raise ToolchainError(
            f"{where} answered {found!r} when asked for the DFC's version; it must be the Python of the DFC's "
            "environment",
            log_tail="",
        )
    return found


@cache
def _require_served(found: str, where: str) -> None:
    """Refuse a release that does not serve a Hailo-8; warn, once, of one that is newer than those that are tested."""
    supported = table().supported
    if is_in(found, supported.dfc):
        return
    tested = [release.dfc for release in table().releases if is_in(release.dfc, supported.dfc)]
    if not is_in(found, supported.hailo8_dfc) or is_in(found, f"<{tested[0]}"):
        raise ToolchainError(
            f"{where} has DFC {found}; a Hailo-8 needs DFC {tested[0]}–{tested[-1]}. Install one of these in an "
            "environment of its own, and name its Python there",
            log_tail="",
        )
    logger.warning("DFC %s is newer than the tested ones, %s–%s", found, tested[0], tested[-1])


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
