"""Read what the compiler says: progress and warnings for people, failures for the error tree.

Line shapes and messages are those of DFC 3.28–3.34, gathered from public logs; the emulator writes the same ones.
Contexts are never read from here: the HEF has them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hefjoin.errors import (
    CalibrationError,
    CompileError,
    FitError,
    HefJoinError,
    InputError,
    JoinError,
    Problem,
    SpecError,
    StoreError,
    ToolchainError,
    UnsupportedOpError,
)

_PROGRESS = re.compile(r"(\w[\w ]*?): +(\d{1,3})% *[|\s].*?(\d+)/(\d+)")
_LEVEL_DROP = re.compile(r"Reducing optimization level to (\d+)")
_WARNING = re.compile(r"^\[warning\] +(.*)")
_UNSUPPORTED = re.compile(r"in op (.+): *([\w.]+) operation is unsupported")
_END_NODES = re.compile(r"end node names?: *(.+)")
_RESOURCE = re.compile(r"([\w ]+?): *(\d+)/(\d+)")
_TOO_MANY = re.compile(r"too many resources: *(\d+) ([\w-]+)")
_OF_THE_MODEL = (
    "MisspellNodeError",
    "UnsupportedModelError",
    "ParsingWithRecommendationException",
    "InputError",
    "InvalidArgumentsException",
)
"""Exceptions that say what is wrong with the user's model or spec."""
_NO_SPACE = "No space left on device"
_NOISE_OF_TERMINALS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Progress(NamedTuple):
    """How far a long part of a step has come."""

    what: str
    done: int
    total: int


def clean(line: str) -> str:
    """Return a line as a person would have seen it last: no escape codes, no overwritten beginnings."""
    return _NOISE_OF_TERMINALS.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def progress(line: str) -> Progress | None:
    """Return the progress that a line reports, or None."""
    found = _PROGRESS.search(line)
    return Progress(found[1].removeprefix("[info] "), int(found[3]), int(found[4])) if found else None


def warnings(lines: Sequence[str]) -> tuple[str, ...]:
    """Return what the compiler warned of, each once."""
    return tuple(dict.fromkeys(found[1] for line in lines if (found := _WARNING.match(line))))


def effective_level(lines: Sequence[str], requested: int) -> int:
    """Return the optimization level that was really used: without a GPU the compiler falls back to 0."""
    drops = [int(found[1]) for line in lines if (found := _LEVEL_DROP.search(line))]
    return min([requested, *drops])


def to_error(kind: str, message: str, model: str, log_tail: str) -> HefJoinError:
    """Return our error for an exception of the SDK.

    Args:
        kind: Name of the exception's class.
        message: Its text.
        model: The model or joined network the step worked on.
        log_tail: The last lines the step wrote.
    """
    if is_full_disk(message):
        return StoreError(
            f"{model}: the step ran out of disk space: {message.splitlines()[-1]}. Set another folder in "
            "HEFJOIN_WORK, or free space there",
            reason="full",
            uri="",
            is_transient=False,
        )
    operators = _UNSUPPORTED.findall(message)
    if operators:
        return _unsupported(message, operators, model, log_tail)
    if "could not fit in single context" in message or "too many resources" in message:
        return _fit(message, model, log_tail)
    if kind == "BadInputsShape":
        return CalibrationError(f"{model}: {message}")
    if kind in ("BackendScriptParserException", "AllocatorScriptParserException", "NMSConfigPostprocessException"):
        lines = [line for line in message.splitlines() if line.strip()]
        return SpecError([Problem("", line.strip()) for line in lines], where=f"the model script of {model}")
    if kind == "InvalidArgumentsException" and "inputs differ" in message:
        return JoinError([], message=f"{model}: {message}")
    if kind in _OF_THE_MODEL:
        found = _END_NODES.search(message)
        hint = f"\n  end the network before them: end_nodes: [{found[1].strip()}]" if found else ""
        return InputError(f"{model}: {message}{hint}")
    if kind.startswith("Backend") or kind == "AccelerasNumerizationError":
        return CompileError(f"{model}: the compiler refused ({kind}): {message}", log_tail=log_tail)
    if kind in ("MemoryError", "AccelerasResourceError"):
        return ToolchainError(f"{model}: the step ran out of memory; use a machine with more", log_tail=log_tail)
    return ToolchainError(f"{model}: the SDK raised {kind}: {message}", log_tail=log_tail)


def is_full_disk(text: str) -> bool:
    """Return whether a message or a log says that a disk is full."""
    return _NO_SPACE in text


def _unsupported(message: str, operators: Sequence[tuple[str, str]], model: str, log_tail: str) -> UnsupportedOpError:
    found = _END_NODES.search(message)
    nearest = [name.strip() for name in found[1].split(",")] if found else []
    lines = [f"{model}: the compiler has no layer for {len(operators)} of its nodes:"]
    lines += [f"  {operator} (node {node})" for node, operator in operators]
    if nearest:
        lines.append(f"  end the network before them: end_nodes: [{', '.join(nearest)}]")
    else:
        lines.append("  replace them in the model, or choose end_nodes before them")
    return UnsupportedOpError(
        "\n".join(lines),
        model=model,
        operators=[[operator, node] for node, operator in operators],
        nearest_supported=nearest,
        log_tail=log_tail,
    )


def _fit(message: str, model: str, log_tail: str) -> FitError:
    pairs = {name.strip(): (int(need), int(have)) for name, need, have in _RESOURCE.findall(message)}
    over = {name: pair for name, pair in pairs.items() if pair[0] > pair[1]}
    shown = ", ".join(f"{name} {need} of {have}" for name, (need, have) in (over or pairs).items())
    need = {name: need for name, (need, _) in pairs.items()}
    return FitError(
        f"{model} does not fit a single context: {shown or message}. "
        "Set compile.single_context to false, ask for a modest compile.target_fps, or join smaller networks.",
        need=need or {name: int(count) for count, name in _TOO_MANY.findall(message)},
        have={name: have for name, (_, have) in pairs.items()},
        log_tail=log_tail,
    )
