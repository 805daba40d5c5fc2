"""The scripts that a compile may try: the declared one, then each of `compile.attempts` put over it.

The rule: nothing is tried that the spec does not say, and no attempt gives up the single context it is made for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from hefjoin.errors import Problem, SpecError
from hefjoin.formats.model_script import Command, Script, parse
from hefjoin.formats.model_script_commands import COMMANDS

AS_DECLARED = "as declared"


class Rung(NamedTuple):
    """One script to compile with."""

    label: str
    """What is different: `as declared`, or the attempt's own commands."""
    script: str


def ladder(base: str, attempts: Sequence[str]) -> tuple[Rung, ...]:
    """Return the scripts to try, in order.

    Args:
        base: The declared compile commands.
        attempts: `compile.attempts` of the spec.

    Raises:
        SpecError: Attempts that cannot be made; all are listed.
    """
    declared = parse(base, "the compile script")
    rungs = [Rung(AS_DECLARED, base)]
    problems = list(_limits_at_max(declared, "the compile script"))
    for index, text in enumerate(attempts):
        where = f"compile.attempts[{index}]"
        try:
            attempt = parse(text, where)
        except SpecError as error:
            problems += error.problems
            continue
        script = put_over(declared, attempt)
        problems += [*_no_attempt(attempt), *_limits_at_max(script, where)]
        rungs.append(Rung("; ".join(map(str, attempt.commands)), str(script)))
    if problems:
        raise SpecError(problems)
    return tuple(rungs)


def put_over(base: Script, attempt: Script) -> Script:
    """Return the base with the attempt's commands: what they set replaces what the same commands set before.

    >>> base = parse("performance_param(compiler_optimization_level=max, fps=90)")
    >>> print(put_over(base, parse("performance_param(fps=30)")), end="")
    performance_param(compiler_optimization_level=max)
    performance_param(fps=30)
    """
    commands = list(base.commands)
    for command in attempt.commands:
        commands = [kept for known in commands if (kept := _without(known, command)) is not None]
        commands.append(command)
    return Script(tuple(commands))


def _without(known: Command, later: Command) -> Command | None:
    """Return a command without what a later one of the same kind sets; None where nothing is left of it."""
    if (known.owner, known.name, known.targets, known.args) != (later.owner, later.name, later.targets, later.args):
        return known
    replaced = {key for key, _ in later.kwargs}
    kwargs = tuple((key, value) for key, value in known.kwargs if key not in replaced)
    return replace(known, kwargs=kwargs) if kwargs else None


def _no_attempt(attempt: Script) -> Iterator[Problem]:
    for command in attempt.commands:
        if COMMANDS[command.name].stage != "compilation":
            yield Problem(command.where, f"`{command.name}` is no compile command; the network is quantized by then")
        elif command.name == "context_switch_param":
            yield Problem(command.where, "every attempt is for a single context; drop `context_switch_param`")


def _limits_at_max(script: Script, where: str) -> Iterator[Problem]:
    spellings = ("compiler_optimization_level", "optimization_level")  # the latter in older scripts
    performance = [command for command in script.commands if command.name == "performance_param"]
    levels = {str(command.get(spelling)) for command in performance for spelling in spellings}
    if "max" in levels and any(command.name == "resources_param" for command in script.commands):
        yield Problem(
            where,
            "the compiler refuses resources_param together with compiler_optimization_level=max; drop one of them "
            "(compile.performance_mode asks for max, performance_param(compiler_optimization_level=1) for less)",
        )
