"""What is installed for real builds and real devices, what of it fits together, what is missing and how to get it.

The rules:

1. Absence is not a fault: a machine with none of the vendor's software is well, and builds with the emulator.
2. `problem` is what is installed or configured and does not work; it alone makes the command fail.
3. Nothing of the vendor's is imported; programs are asked side by side, within seconds.
"""

from __future__ import annotations

from pathlib import Path

from hefjoin.doctor import compiler, machine, own, runtime
from hefjoin.doctor.finding import Finding, Part, State
from hefjoin.doctor.program import ask
from hefjoin.folders import STORE, cache_folder, work_folder

__all__ = ["Finding", "Part", "State", "examine"]


def examine(root: Path = Path("/")) -> tuple[Finding, ...]:
    """Examine this machine; takes 3 s at most, whatever hangs.

    Args:
        root: Where `/proc`, `/sys`, `/dev` and `/etc` are.
    """
    folders = {"work": work_folder(), "cache": cache_folder(), "store": Path(STORE)}
    answers = ask(
        {
            "dfc": compiler.question(),
            "gpu": machine.gpu_question(),
            "prefect": own.question(),
            **runtime.questions(),
        }
    )
    dfc = answers["dfc"]
    return (
        *own.findings(answers["prefect"], cache_folder()),
        *machine.findings(root, answers["gpu"], dfc is not None, folders),
        *compiler.findings(root, dfc),
        *runtime.findings(root, answers["version"], answers["identify"], compiler.version(dfc)),
    )
