"""Ask programs outside, all at once, each within the same few seconds.

The rule: no program keeps the doctor waiting, asks anybody anything, or leaves something behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

ANSWER_SECONDS = 2.0
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "HAILORT_LOGGER_PATH": "NONE"}
"""HailoRT would otherwise write `hailort.log` into the working directory."""


class Answer(NamedTuple):
    """What a program said, standard output and standard error together."""

    text: str
    failure: str = ""
    """Why there is no good answer: it did not start, hung or failed; empty on success."""
    exit_code: int | None = 0
    """None where it did not end by itself."""


def ask(commands: Mapping[str, Sequence[str] | None]) -> dict[str, Answer | None]:
    """Run programs side by side.

    Args:
        commands: Program with its arguments, by name; None where there is no such program.

    Returns:
        The answer of each; None where there is no program.
    """
    wanted = {name: command for name, command in commands.items() if command is not None}
    with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
        answers = dict(zip(wanted, pool.map(_ask_one, wanted.values()), strict=True))
    return {name: answers.get(name) for name in commands}


def _ask_one(command: Sequence[str]) -> Answer:
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what it started ends with it
        )
    except OSError as error:
        return Answer("", f"does not start: {error.strerror}", None)
    with process:
        try:
            output, _ = process.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Answer("", f"did not answer within {ANSWER_SECONDS:.0f} s", None)
    text = output.decode("utf-8", "replace").strip()
    if process.returncode == 0:
        return Answer(text)
    last = text.splitlines()[-1].strip() if text else "no message"
    return Answer(text, f"ended with exit code {process.returncode}: {last}", process.returncode)
