"""Start a step in the SDK's interpreter, follow it, and leave nothing of it behind.

The rule: a step has its own directory, no standard input, a piped output, the locale C.UTF-8, a deadline of its
own and its parent's fate; it stays in its parent's process group, so that a cancel reaches it. Its return code is
checked, whatever it printed.
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

from hefjoin.errors import ToolchainError
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.toolchain import Toolchain

STEP = Path(__file__).with_name("step.py")
TAIL_LINES = 30
STOP_SECONDS = 5.0
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
    deadline_s: float | None = None,
    on_progress: Callable[[sdk_log.Progress], None] | None = None,
) -> Finished:
    """Run one step to its end.

    Args:
        toolchain: The compiler and its interpreter.
        action: A function of `step.py`.
        arguments: Its arguments; paths as text, absolute or relative to `work`.
        work: The step's own directory; its log stays there as `<action>.log`.
        model: The model or joined network, for messages.
        deadline_s: Seconds until it is stopped; None: those of `DEADLINES_S`.
        on_progress: Called with each progress the step reports.

    Raises:
        HefJoinError: What the SDK raised, as an error of our tree; ToolchainError where the step died, hung or
            could not be started.
    """
    request = _write_request(toolchain, action, arguments, work)
    deadline_s = DEADLINES_S[action] if deadline_s is None else deadline_s
    lines: list[str] = []
    end = time.monotonic() + deadline_s
    process = _start(toolchain, request, work)
    _running.add(process)
    try:
        with (work / f"{action}.log").open("w", buffering=1, encoding="utf-8") as log_file:
            for line in _lines(process, end):
                found = sdk_log.progress(line)
                if found is None:
                    lines.append(line)
                    log_file.write(line + "\n")
                    logger.info("%s | %s", model, line)
                elif on_progress is not None:
                    on_progress(found)
        code = process.wait(max(end - time.monotonic(), 0))
    except (_Late, subprocess.TimeoutExpired) as error:
        raise ToolchainError(
            f"{model}: {action} was stopped after {deadline_s:.0f} s without an end; its last line: "
            f"{lines[-1] if lines else 'none'}",
            log_tail=_tail(lines),
        ) from error
    finally:
        _stop(process)
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
    request.write_text(json.dumps(content), encoding="utf-8")
    return request


def _start(toolchain: Toolchain, request: Path, work: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    try:
        return subprocess.Popen(
            [toolchain.python, str(STEP), str(request)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise ToolchainError(f"{toolchain.python} does not start: {error}", log_tail="") from error


def _lines(process: subprocess.Popen[bytes], deadline: float) -> Iterator[str]:
    """Yield the step's lines as they come, until it closes its output or the deadline passes."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _Late
            if not selector.select(min(remaining, 1.0)):
                if process.poll() is not None:  # ended, though something else still holds its output open
                    break
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            *whole, rest = _LINE_END.split(rest + chunk)
            yield from (text for line in whole if (text := sdk_log.clean(line.decode("utf-8", "replace"))))
    if last := sdk_log.clean(rest.decode("utf-8", "replace")):
        yield last


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a step and all that it started: the DFC's compiler is a program of its own."""
    if process.poll() is None:
        started = _descendants(process.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *_descendants(child))]


def _outcome(action: str, model: str, code: int, work: Path, lines: list[str]) -> dict[str, Any]:
    tail = _tail(lines)
    if found := _failure(work / f"{action}.failure.json"):
        logger.debug("%s | %s", model, found["traceback"])
        raise sdk_log.to_error(found["type"], found["message"].replace(f"{work}/", ""), model, tail)
    if code != 0:
        if sdk_log.is_full_disk(tail):  # then there was no room to report the failure either
            raise sdk_log.to_error("OSError", tail, model, tail)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ToolchainError(
            f"{model}: the {action} step {how}; the last lines of its log:\n{tail or '  (none)'}", log_tail=tail
        )
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
