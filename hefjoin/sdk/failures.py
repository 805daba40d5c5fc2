"""Turn what the compiler raises, or how it ends, into an error of our tree.

What is known of each failure is data, in `failures.toml`: how it is recognized, its cause, the next step, where
that was seen. The rule: the exception outranks the log, which also tells of what did not end the step; and what the
table does not know keeps its own words and the tail of the log, and is a `CompileError` where the compiler refused
and a `ToolchainError` everywhere else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from hefjoin.artifacts import Record
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

_UNSUPPORTED = re.compile(r"in op (.+): *([\w.]+) operation is unsupported")
_END_NODES = re.compile(r":\s+([^\s,]+(?:, *[^\s,]+)*)\s*\Z")
_PAIR = re.compile(r"([\w ]{1,40}?): *(\d{1,12})/(\d{1,12})")
_TOO_MANY = re.compile(r"too many resources: *(\d{1,12}) ([\w-]+)")
_DETAIL = re.compile(r"error is: *(.+)")
_TAG = re.compile(r"^\s*(?:\[(?:info|warning|error)\] +)?")
_BARE = re.compile(r"(?:Compilation failed)?[.:!]?")
"""What an exception says that says nothing."""
_ALLOCATOR = "BackendAllocatorException"

LIMITS = "what is available are the limits in force: the DFC's default is 75 % of the chip for a single context"


class Report(NamedTuple):
    """What is known of a failed step."""

    kind: str
    message: str
    model: str
    log_tail: str


class Failure(Record):
    """One way in which the compiler fails."""

    name: str
    kinds: tuple[str, ...] = ()
    text: str = ""
    in_log: bool = False
    is_vague: bool = False
    """Its text says that something failed, not what: the log may know more."""
    is_of_mapping: bool = False
    """Another compile script may do better."""
    error: Literal[
        "CalibrationError",
        "CompileError",
        "FitError",
        "InputError",
        "JoinError",
        "SpecError",
        "StoreError",
        "ToolchainError",
        "UnsupportedOpError",
    ]
    cause: str
    next_step: str
    source: str
    confidence: Literal["vendor", "seen", "reported", "ours"]

    def in_exception(self, report: Report) -> str | None:
        """Return the exception's text where its class and text are those of this failure; None where not."""
        found = self._is_of(report.kind) and re.search(self.text, report.message)
        return report.message if found else None

    def in_last_lines(self, report: Report) -> str | None:
        """Return the last line of the log that tells of this failure, and what the exception adds to it."""
        if not (self.in_log and self._is_of(report.kind)):
            return None
        for line in reversed(report.log_tail.splitlines()):
            if re.search(self.text, line):
                line = _TAG.sub("", line).rstrip()
                return line if _BARE.fullmatch(report.message) else f"{line}\n{report.message}"
        return None

    def _is_of(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds


@cache
def table() -> tuple[Failure, ...]:
    """Return the known failures, `failures.toml`, in the order in which they are looked for."""
    text = files("hefjoin.sdk").joinpath("failures.toml").read_text(encoding="utf-8")
    return tuple(Failure.model_validate(entry) for entry in tomllib.loads(text)["failure"])


def to_error(kind: str, message: str, model: str, log_tail: str) -> HefJoinError:
    """Return our error for a failed step.

    Where it is the mapping that failed, and another compile script may not, its attribute `why_unmapped` says why.

    Args:
        kind: Name of the exception's class; where there was none, how the process ended: `SIGKILL`, `exit code 1`.
        message: The exception's text.
        model: The model or joined network the step worked on.
        log_tail: The last lines the step wrote.
    """
    report = Report(kind, message.strip(), model, log_tail)
    if (error := _known(report)) is not None:
        return error
    if kind.startswith("Backend"):
        why_unmapped = report.message if kind == _ALLOCATOR else ""
        text = f"{model}: the compiler refused ({kind}): {report.message}"
        return CompileError(text, log_tail=log_tail, why_unmapped=why_unmapped)
    return ToolchainError(f"{model}: the SDK raised {kind}: {report.message}", log_tail=log_tail)


def of_death(action: str, how: str, model: str, log_tail: str) -> HefJoinError:
    """Return our error for a step whose process ended without an exception.

    Args:
        action: The step.
        how: How it ended: the signal's name, as `SIGKILL`, or `exit code 1`.
        model: The model or joined network the step worked on.
        log_tail: The last lines the step wrote.
    """
    report = Report(how, f"the {action} step ended with {how}", model, log_tail)
    if (error := _known(report)) is not None:
        return error
    last_lines = f"the last lines of its log:\n{log_tail or '  (none)'}"
    return ToolchainError(f"{model}: {report.message}; {last_lines}", log_tail=log_tail)


def overflow(need: Mapping[str, float], have: Mapping[str, float]) -> str:
    """Return which resources are exceeded and by how much; where none is, all of them.

    >>> overflow({"LCUs": 149, "IAs": 149}, {"LCUs": 96, "IAs": 192})
    'LCUs 149 of 96 (53 too many)'
    """
    over = [
        f"{name} {need[name]:.0f} of {limit:.0f} ({need[name] - limit:.0f} too many)"
        for name, limit in have.items()
        if need[name] > limit
    ]
    return ", ".join(over or [f"{name} {need[name]:.0f} of {limit:.0f}" for name, limit in have.items()])


def recognized(report: Report) -> tuple[Failure, str] | None:
    """Return the entry of the table that a failure is, and the words that show it; None where none is.

    First what the exception says, over the whole table; where that is nothing or vague, what the log says.
    """
    for failure in table():
        if not failure.is_vague and (words := failure.in_exception(report)) is not None:
            return failure, words
    for failure in table():
        words = failure.in_exception(report) if failure.is_vague else failure.in_last_lines(report)
        if words is not None:
            return failure, words
    return None


def _known(report: Report) -> HefJoinError | None:
    if (found := recognized(report)) is None:
        return None
    failure, words = found
    return _BUILDERS[failure.error](failure, report._replace(message=words))


def _explained(failure: Failure, report: Report, next_step: str = "") -> str:
    words = "\n  ".join(_lines(report.message))
    return f"{report.model}: {failure.cause}{f': {words}' if words else ''}\n  {next_step or failure.next_step}"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _input(failure: Failure, report: Report) -> HefJoinError:
    nodes = _recommended_end_nodes(report)
    hint = _end_there(nodes, report.model) if nodes else ""
    return InputError(_explained(failure, report, hint), end_nodes=nodes)


def _unsupported(failure: Failure, report: Report) -> HefJoinError:
    operators = _UNSUPPORTED.findall(report.message)
    nodes = _recommended_end_nodes(report)
    lines = [f"{report.model}: the compiler has no layer for {len(operators)} of its nodes:"]
    lines += [f"  {operator} (node {node})" for node, operator in operators]
    lines.append(f"  {_end_there(nodes, report.model) if nodes else failure.next_step}")
    return UnsupportedOpError(
        "\n".join(lines),
        model=report.model,
        operators=[[operator, node] for node, operator in operators],
        nearest_supported=nodes,
        log_tail=report.log_tail,
    )


def _recommended_end_nodes(report: Report) -> list[str]:
    if report.kind != "ParsingWithRecommendationException" or not (found := _END_NODES.search(report.message)):
        return []
    return [node.strip() for node in found[1].split(",")]


def _end_there(nodes: list[str], model: str) -> str:
    return f"end the network before them; in the spec, for the model {model}: end_nodes: [{', '.join(nodes)}]"


def _fit(failure: Failure, report: Report) -> FitError:
    need, have = _resources(report.message)
    words = _DETAIL.search(report.message)
    reason = overflow(need, have) or (words[1] if words else "; ".join(_lines(report.message)))
    if not need:
        need, have = _exceeded(report.log_tail)
        reason = f"{reason}; {overflow(need, have)}" if need else reason
    lines = [f"{report.model} {failure.cause}: {reason}", *([LIMITS] if have else []), failure.next_step]
    return FitError(
        "\n  ".join(lines),
        need=need,
        have=have,
        reason=reason,
        log_tail=report.log_tail,
    )


def _resources(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return how much of each resource is needed and how much is there, as far as a text says."""
    pairs = [(name.strip(), int(need), int(have)) for name, need, have in _PAIR.findall(text)]
    if pairs:
        return {name: need for name, need, _ in pairs}, {name: have for name, _, have in pairs}
    return {name: int(count) for count, name in _TOO_MANY.findall(text)}, {}


def _exceeded(log_tail: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the resources of the last line of the log that says of one that more is needed than is there."""
    for line in reversed(log_tail.splitlines()):
        need, have = _resources(line)
        if any(count > have.get(name, 0) for name, count in need.items()):
            return need, have
    return {}, {}


def _spec(failure: Failure, report: Report) -> HefJoinError:
    *lines, last = _lines(report.message) or [failure.cause]
    last = f"{last}; {failure.next_step}" if failure.next_step else last
    return SpecError([Problem("", line) for line in (*lines, last)], where=f"the model script of {report.model}")


def _store(failure: Failure, report: Report) -> HefJoinError:
    return StoreError(_explained(failure, report), reason="full", uri="", is_transient=False)


def _toolchain(failure: Failure, report: Report) -> ToolchainError:
    why_unmapped = "; ".join(_lines(report.message)) if failure.is_of_mapping else ""
    return ToolchainError(_explained(failure, report), log_tail=report.log_tail, why_unmapped=why_unmapped)


_BUILDERS: dict[str, Callable[[Failure, Report], HefJoinError]] = {
    "CalibrationError": lambda failure, report: CalibrationError(_explained(failure, report)),
    "CompileError": lambda failure, report: CompileError(_explained(failure, report), log_tail=report.log_tail),
    "FitError": _fit,
    "InputError": _input,
    "JoinError": lambda failure, report: JoinError([], message=_explained(failure, report)),
    "SpecError": _spec,
    "StoreError": _store,
    "ToolchainError": _toolchain,
    "UnsupportedOpError": _unsupported,
}
