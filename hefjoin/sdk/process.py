"""Start a step in the SDK's interpreter, follow it, and leave nothing of it behind.

The rule: a step has its own directory, no standard input, a piped output, the locale C.UTF-8, a deadline of its
own and its parent's fate; it stays in its parent's process group, so that a cancel reaches it. Its return code is
checked, whatever it printed. Nothing that it started outlives it: `step.py` sees to that, and where it cannot,
because it was killed itself, all that still carries the step's mark in its environment is killed from here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from hefjoin.errors import ToolchainError
from hefjoin.sdk import failures
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.toolchain import Toolchain, without_ours

STEP = Path(__file__).with_name("step.py")
TAIL_LINES = 30
MARK = "HEFJOIN_STEP"
"""Environment variable by which everything that one run of a step started is known; each run has another value."""
CHECKPOINTS = "HEFJOIN_CHECKPOINTS"
"""Environment variable that names a folder; see `hefjoin.emulator.checkpoint`. No argument, as the DFC has none."""
SECRETS = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What a compiler has no use for; a step reads no store."""
STOP_SECONDS = 5.0
POLL_SECONDS = 1.0
DEADLINES_S = {"parse": 3600.0, "join": 3600.0, "quantize": 24 * 3600.0, "compile": 24 * 3600.0}
"""Generous: a compile of hours is usual (facts of public logs); a hang is what they are for."""

_LINE_END = re.compile(rb"[\r\n]")
"""A bar of progress is written over itself: each carriage return ends one state of it."""

logger = logging.getLogger("hefjoin.sdk")

_running: set[subprocess.Popen[bytes]] = set()


def stop_running_steps() -> None:
    """Ask every step that this process runs, in whichever thread, to end."""
    for process in list(_running):
        process.terminate()


class Finished(NamedTuple):
    """What a step gave."""

    result: dict[str, Any]
    lines: list[str]


def run_step(
    toolchain: Toolchain,
    action: str,
    arguments: dict[str, Any],
    work: Path,
    *,
    model: str,
    script: Path = STEP,
    deadline_s: float | None = None,
    on_progress: Callable[[sdk_log.Progress], None] | None = None,
    checkpoints: Path | None = None,
) -> Finished:
    """Run one step to its end.

    Args:
        toolchain: The compiler and its interpreter.
        action: A function of `script`.
        arguments: Its arguments; paths as text, absolute or relative to `work`.
        work: The step's own directory; its log stays there as `<action>.log`.
        model: The model or joined network, for messages.
        script: What the interpreter runs; one that reads a request as `step.py` does.
        deadline_s: Seconds until it is stopped; None: those of `DEADLINES_S`.
        on_progress: Called with each progress the step reports.
        checkpoints: Where the emulator keeps how far a long pass came, for the next run of the step; left out, nowhere.

    Raises:
        HefJoinError: What the SDK raised, as an error of our tree; ToolchainError where the step died, hung or
            could not be started. With the attribute `died` where the step did not end by itself.
    """
    request = _write_request(toolchain, action, arguments, work)
    deadline_s = DEADLINES_S[action] if deadline_s is None else deadline_s
    lines: list[str] = []
    end = time.monotonic() + deadline_s
    mark = uuid4().hex
    environment = _environment(toolchain, work, mark, checkpoints)
    process = _start([toolchain.python, str(script), str(request)], work, environment)
    _running.add(process)
    try:
        with (work / f"{action}.log").open("w", buffering=1, encoding="utf-8") as log_file:
            for line in _lines(process, mark, end):
                if on_progress is not None and (found := sdk_log.progress(line)) is not None:
                    on_progress(found)
                if not sdk_log.is_bar(line):
                    lines.append(line)
                    log_file.write(line + "\n")
                    logger.info("%s | %s", model, line)
        code = process.wait(max(end - time.monotonic(), 0))
    except (_Late, subprocess.TimeoutExpired) as error:
        raise ToolchainError(
            f"{model}: {action} was stopped after {deadline_s:.0f} s without an end; its last line: "
            f"{lines[-1] if lines else 'none'}",
            log_tail=_tail(lines),
            died=True,
        ) from error
    finally:
        end_process(process)
        _end_marked(mark)
        _running.discard(process)
    return Finished(_outcome(action, model, code, work, lines), lines)


class _Late(Exception):
    """The deadline has passed."""


def _write_request(toolchain: Toolchain, action: str, arguments: dict[str, Any], work: Path) -> Path:
    request = work / f"{action}.request.json"
    content = {
        "provider": toolchain.sdk.provider,
        "action": action,
        "arguments": arguments,
        "result": str(work / f"{action}.result.json"),
        "failure": str(work / f"{action}.failure.json"),
        "parent_pid": os.getpid(),
    }
    for left in (content["result"], content["failure"]):
        Path(str(left)).unlink(missing_ok=True)
    request.write_text(json.dumps(content), encoding="utf-8")
    return request


def _environment(toolchain: Toolchain, work: Path, mark: str, checkpoints: Path | None) -> dict[str, str]:
    """Return the environment of a step: ours, as far as it serves the interpreter and is no password."""
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    given = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return {
        "USER": "hefjoin",  # containers have none, and the DFC asks for it
        **(given if toolchain.sdk.provider == "emulator" else without_ours(given)),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
        MARK: mark,
        **({CHECKPOINTS: str(checkpoints.absolute())} if checkpoints is not None else {}),
    }


def _start(command: list[str], work: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise ToolchainError(f"{command[0]} does not start: {error}", log_tail="") from error


def _lines(process: subprocess.Popen[bytes], mark: str, deadline: float) -> Iterator[str]:
    """Yield the step's lines as they come, until it closes its output or the deadline passes."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _Late
            if has_ended := process.poll() is not None:
                _end_marked(mark)  # what it left may hold its output open, and write on
            if not selector.select(0 if has_ended else min(remaining, POLL_SECONDS)):
                if has_ended:
                    break
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            *whole, rest = _LINE_END.split(rest + chunk)
            yield from (text for line in whole if (text := sdk_log.clean(line.decode("utf-8", "replace"))))
    if last := sdk_log.clean(rest.decode("utf-8", "replace")):
        yield last


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, kill it where it does not, and close our side of it."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _end_marked(mark: str) -> None:
    """Kill what a step left; again, as long as that goes on starting processes."""
    end = time.monotonic() + STOP_SECONDS
    while (left := list(_marked(mark))) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):  # another user's, or gone
            if folder.name.isdigit() and entry in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _outcome(action: str, model: str, code: int, work: Path, lines: list[str]) -> dict[str, Any]:
    tail = _tail(lines)
    if found := _failure(work / f"{action}.failure.json"):
        logger.debug("%s | %s", model, found["traceback"])
        raise failures.to_error(found["type"], found["message"].replace(f"{work}/", ""), model, tail)
    if code != 0:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        error = failures.of_death(action, how, model, tail)
        raise type(error)(**{**error.attributes, "died": True}, message=error.message)
    result = work / f"{action}.result.json"
    if not result.exists():
        raise ToolchainError(f"{model}: the {action} step ended and left no result; is it a Python?", log_tail=tail)
    return dict(json.loads(result.read_text(encoding="utf-8")))


def _failure(path: Path) -> dict[str, Any] | None:
    """Return what a step reported of its failure; None where it reported nothing, or could not to the end."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found


def _tail(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
