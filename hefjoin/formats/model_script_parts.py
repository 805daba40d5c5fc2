"""What of a joined network's script is meant for one of its networks.

The rule: what steers the whole network is kept, what names layers is kept for those that the network has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from hefjoin.formats.model_script import Command, Glob, Scalar, Script, Value, Word, layers
from hefjoin.formats.model_script_commands import COMMANDS, LAYER_KEYWORDS


def part_of(script: Script, scope: str, names: Mapping[str, str]) -> Script:
    """Return what a joined network's script says to one of its networks alone.

    A command that names layers keeps those of the network, and goes where none is left; one that names none stays.

    Args:
        script: With scoped names.
        scope: The network's.
        names: The layers that the network has, each with the name that it has alone.
    """
    made = {target for command in script.commands for target in command.targets if target.startswith(f"{scope}/")}
    known = {**names, **{name: name for name in made}}
    commands = [_part_of_command(command, scope, known) for command in script.commands]
    return Script(tuple(command for command in commands if command is not None))


def _part_of_command(command: Command, scope: str, names: Mapping[str, str]) -> Command | None:
    if not list(layers(command)):
        return command
    places = range(*(COMMANDS[command.name].layers or slice(0)).indices(len(command.args)))
    args = [_known(value, names) if index in places else value for index, value in enumerate(command.args)]
    kwargs = [(key, _known(value, names) if key in LAYER_KEYWORDS else value) for key, value in command.kwargs]
    if any(value == () for value in (*args, *(value for _, value in kwargs))):
        return None
    targets = tuple(f"{scope}/{target.rpartition('/')[2]}" if "/" in target else target for target in command.targets)
    return replace(command, targets=targets, args=tuple(args), kwargs=tuple(kwargs))


def _known(value: Value, names: Mapping[str, str]) -> Value:
    """Return the layers and patterns in a value that mean something in a network; () where none does."""
    items = value if isinstance(value, tuple) else (value,)
    found: list[Scalar] = []
    for item in items:
        if isinstance(item, Glob):
            pattern = item if "/" in item or item == "*" else f"*/{item}"
            found += [item] if any(fnmatchcase(name, pattern) for name in names.values()) else []
        elif isinstance(item, Word):
            found += [Word(names[item])] if item in names else []
        else:
            found.append(item)
    return tuple(found) if isinstance(value, tuple) or not found else found[0]
