"""Bring the script that a network was optimized by into the one it is joined into.

The rule: what a command said of one network it says of the same network among others, so what it meant by leaving
something out is written down: the scope of its layers, the input layers it acts on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hefjoin.emulator import exceptions, hn
from hefjoin.errors import SpecError
from hefjoin.formats.model_script import Command, Glob, Script, Value, Word, scoped

IMPLIED_INPUT = {"normalization": (2, 2), "input_conversion": (1, 0), "resize": (0, 0)}
"""Commands that act on all inputs where they name none: how many arguments they have then, and where a name goes."""


def as_part(script: Script, view: hn.Hn, rename: Callable[[str], str]) -> Script:
    """Return a network's script for a network that holds it and others.

    Args:
        script: What the network was optimized by.
        view: HN of the network as it was.
        rename: Gives a scoped name its new scope.

    Raises:
        exceptions.InvalidArgumentsException: It is not known which arguments of a command are layers.
    """
    params = view["net_params"]
    inputs = list(hn.input_layers(view))
    named = Script(tuple(each for command in script.commands for each in _with_inputs(command, inputs)))
    if len(params["net_scopes"]) == 1:
        outputs = [name.partition("/")[2] for name in params["output_layers_order"]]
        try:
            named = scoped(named, params["net_scopes"][0], outputs)
        except SpecError as error:
            raise exceptions.InvalidArgumentsException(str(error)) from error
    return Script(tuple(_renamed(command, rename) for command in named.commands))


def _with_inputs(command: Command, inputs: Sequence[str]) -> Iterator[Command]:
    count, place = IMPLIED_INPUT.get(command.name, (None, 0))
    if len(command.args) != count:
        yield command
        return
    share = len(command.targets) // len(inputs)
    for index, name in enumerate(inputs):
        yield replace(
            command,
            targets=command.targets[index * share :][:share],
            args=(*command.args[:place], Word(name), *command.args[place:]),
        )


def _renamed(command: Command, rename: Callable[[str], str]) -> Command:
    def value(given: Value) -> Value:
        if isinstance(given, tuple):
            return tuple(type(item)(rename(item)) if isinstance(item, Word | Glob) else item for item in given)
        return type(given)(rename(given)) if isinstance(given, Word | Glob) else given

    return replace(
        command,
        targets=tuple(map(rename, command.targets)),
        args=tuple(map(value, command.args)),
        kwargs=tuple((key, value(item)) for key, item in command.kwargs),
    )
