"""How much of the chip a compile may take: all of it in performance mode, three quarters by default.

The rule: a script's own `resources_param` decides for what it names, and the default for the rest.
"""

from __future__ import annotations

from hefjoin.artifacts import Record
from hefjoin.forecast.chip import chip_facts
from hefjoin.formats.model_script import Script


class Limits(Record):
    """Shares of the chip that one context may take, 0–1.2."""

    control: float
    """Of the layer controllers."""
    compute: float
    """Of the subclusters."""
    memory: float
    """Of the weight memory."""
    mode: str
    """`performance mode`, `default` or `the script's limits`."""


PERFORMANCE = Limits(control=1.0, compute=1.0, memory=1.0, mode="performance mode")


def default_limits() -> Limits:
    """Return those of a compile whose script says nothing."""
    share = float(chip_facts()["modes"]["default_share"])
    return Limits(control=share, compute=share, memory=share, mode="default")


def limits_of(script: Script) -> Limits:
    """Return those that a model script sets.

    >>> from hefjoin.formats.model_script import parse
    >>> limits_of(parse("performance_param(compiler_optimization_level=max)")).mode
    'performance mode'
    >>> limits_of(parse("resources_param(max_control_utilization=0.9)")).control
    0.9
    """
    levels = [
        str(command.get("compiler_optimization_level", command.get("optimization_level")))
        for command in script.commands
        if command.name == "performance_param"
    ]
    if "max" in levels:
        return PERFORMANCE
    found = default_limits()
    for command in script.commands:
        if command.name == "resources_param":
            whole = command.get("max_utilization")
            given = {name: command.get(f"max_{name}_utilization", whole) for name in ("control", "compute", "memory")}
            shares = {name: float(value) for name, value in given.items() if isinstance(value, int | float)}
            found = found.model_copy(update={**shares, "mode": "the script's limits"})
    return found


def target_fps(script: Script) -> float:
    """Return the frames per second that a script asks for; 0 where it asks for as many as possible.

    >>> from hefjoin.formats.model_script import parse
    >>> target_fps(parse("performance_param(fps=30)"))
    30.0
    """
    found = 0.0
    for command in script.commands:
        if command.name == "performance_param":
            value = command.get("fps", found)
            found = float(value) if isinstance(value, int | float) else 0.0
    return found
