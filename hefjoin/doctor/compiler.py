"""The Dataflow Compiler: the interpreter that is configured for it, and what is installed there.

The rule: the interpreter is asked for what its packages say of themselves; nothing heavy is imported there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hefjoin.compatibility import Release, is_in, table
from hefjoin.doctor.finding import EMULATOR_DOES_WITHOUT, Finding
from hefjoin.doctor.machine import operating_system
from hefjoin.doctor.program import Answer
from hefjoin.sdk.toolchain import DFC_PYTHON

PACKAGE = "hailo-dataflow-compiler"
SHOWN = ("numpy", "protobuf", "tensorflow", "onnx", "setuptools")
_ASK = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "packages": found}))
"""
_GET_IT = (
    "get its wheel from Hailo's developer zone (free account), install it in an environment of its own and set "
    f"{DFC_PYTHON} to that environment's Python"
)


def question() -> Sequence[str] | None:
    """Return the command that asks the configured interpreter; None where none is configured."""
    python = os.environ.get(DFC_PYTHON)
    return [python, "-E", "-c", _ASK, PACKAGE, *SHOWN] if python else None


def findings(root: Path, answer: Answer | None) -> list[Finding]:
    """Examine the compiler.

    Args:
        root: Where `/etc` is.
        answer: The answer to `question`.
    """
    if answer is None:
        return [_not_configured()]
    found = _reported(answer)
    if PACKAGE not in found.get("packages", {}):
        return [_broken(answer, found)]
    versions = {"python": found["python"], **found["packages"]}
    return [_compiler(versions), _environment(versions, root)]


def version(answer: Answer | None) -> str:
    """Return the version of the DFC that answered; empty where none did."""
    return str(_reported(answer).get("packages", {}).get(PACKAGE, "")) if answer else ""


def _reported(answer: Answer) -> dict[str, Any]:
    """Return what the interpreter printed, whatever else its start-up printed before."""
    last = answer.text.splitlines()[-1] if answer.text and not answer.failure else ""
    try:
        found = json.loads(last)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _not_configured() -> Finding:
    return Finding(
        part="compiler",
        subject="Dataflow Compiler",
        state=EMULATOR_DOES_WITHOUT,
        found=f"{DFC_PYTHON} is not set",
        follows="builds use the emulator; what it makes does not run on a chip",
        next_step=f"{_GET_IT}; {_newest_pair()}",
    )


def _newest_pair() -> str:
    release = table().newest_pair()
    assert release is not None
    return (
        f"DFC {release.dfc} goes with {' or '.join(release.systems)}, Python {' or '.join(release.python)}, "
        f"HailoRT {release.hailort}"
    )


def _broken(answer: Answer, found: dict[str, Any]) -> Finding:
    what = answer.failure or (f"has no {PACKAGE}" if found else "is no Python that answers")
    return Finding(
        part="compiler",
        subject="Dataflow Compiler",
        state="problem",
        found=f"{DFC_PYTHON}={os.environ[DFC_PYTHON]} {what}",
        follows="builds with --sdk auto or dfc end with exit code 6",
        next_step=f"unset {DFC_PYTHON} to build with the emulator, or {_GET_IT}",
    )


def _compiler(versions: dict[str, str]) -> Finding:
    dfc, supported = versions[PACKAGE], table().supported
    release = table().release(dfc)
    finding = Finding(
        part="compiler",
        subject="Dataflow Compiler",
        state="ok",
        found=f"{dfc} in {os.environ[DFC_PYTHON]}",
        follows=_runs_with(release),
        versions={PACKAGE: dfc},
    )
    if not is_in(dfc, supported.hailo8_dfc):
        change = {
            "state": "problem",
            "follows": "it compiles for Hailo-10 and Hailo-15 only",
            "next_step": f"the Hailo-8 needs {PACKAGE}{supported.dfc}, from Hailo's developer zone",
        }
    elif release is None or not is_in(dfc, supported.dfc):
        change = {"state": "untested", "next_step": f"hefjoin is written for {PACKAGE}{supported.dfc}"}
    else:
        return finding
    return finding.model_copy(update=change)


def _runs_with(release: Release | None) -> str:
    """Say which HailoRT its HEFs want."""
    if release is None:
        return "no HailoRT is published for it"
    if not release.hailort:
        return f"no HailoRT is published for {release.dfc}; take the newest 4.x"
    return f"its HEFs want HailoRT {release.hailort} or a later 4.x ({release.confidence}: {release.source})"


def _environment(versions: dict[str, str], root: Path) -> Finding:
    """Compare Python, packages and operating system with what is known to work."""
    doubts = [*_doubts_on_packages(versions), *_doubts_on_release(versions, root)]
    shown = [f"{name} {versions[name]}" for name in ("python", *SHOWN) if name in versions]
    return Finding(
        part="compiler",
        subject="its environment",
        state="untested" if doubts else "ok",
        found=", ".join(shown),
        follows="; ".join(doubts),
        next_step="use a combination of the table, in an environment of its own" if doubts else "",
        versions={name: text for name, text in versions.items() if name != PACKAGE},
    )


def _doubts_on_packages(versions: dict[str, str]) -> list[str]:
    return [
        f"{pin.package}{pin.specifier} is what works ({pin.confidence}: {pin.source})"
        for pin in table().pins
        if pin.package in versions and not is_in(versions[pin.package], pin.specifier)
    ]


def _doubts_on_release(versions: dict[str, str], root: Path) -> list[str]:
    release = table().release(versions[PACKAGE])
    if release is None:
        return []
    known = f"({release.confidence}: {release.source})"
    doubts = []
    if ".".join(versions["python"].split(".")[:2]) not in release.python:
        doubts.append(f"DFC {release.dfc} is known with Python {', '.join(release.python)} {known}")
    here = operating_system(root) or "unknown"
    if here not in release.systems:
        doubts.append(
            f"DFC {release.dfc} is known on {', '.join(release.systems)}, this is {here} and its check of the system "
            f"may refuse it {known}"
        )
    return doubts
