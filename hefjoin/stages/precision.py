"""Which layers have how many bits: what a script says of each, and the lines that raise one.

The rule: of several commands on one layer the last counts, so a line that is added behind a script decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from hefjoin.formats.model_script import Command, Glob, Script, Value, parse

DEFAULT = "a8_w8"
WIDE_ACTIVATIONS = "a16_"


def precision_line(layer: str, mode: str) -> str:
    """Return the command that gives a layer a precision.

    >>> precision_line("digit/conv3", "a16_w16")
    'quantization_param(digit/conv3, precision_mode=a16_w16)'
    """
    return f"quantization_param({layer}, precision_mode={mode})"


def with_raised(script: Script, raised: Mapping[str, str]) -> Script:
    """Return a script that also gives layers, by name, a precision."""
    lines = "".join(f"{precision_line(layer, mode)}\n" for layer, mode in raised.items())
    return Script((*script.commands, *parse(lines, "repair").commands))


def precisions(script: Script, layers: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Return the precision that a script gives each layer; those are left out that it says nothing of.

    A selector means a layer where it covers its name, or that of the output layer that it feeds, which the compiler
    names `<scope>/output_layer<n>`, counted from 1 within the scope.

    Args:
        script: With scoped layer names.
        layers: Their names.
        outputs: The layers that feed the outputs, in the outputs' order.
    """
    names = {layer: [layer] for layer in layers}
    seen: dict[str, int] = {}
    for layer in outputs:
        scope = layer.partition("/")[0]
        seen[scope] = seen.get(scope, 0) + 1
        names.setdefault(layer, [layer]).append(f"{scope}/output_layer{seen[scope]}")
    commands = [command for command in script.commands if _sets_precision(command)]
    return {
        layer: str(command.get("precision_mode"))
        for layer in layers
        for command in commands
        if _covers(command.args[:1], names[layer])
    }


def asked_for_16_bits(script: Script, outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs that a whole model script wants in 16 bits.

    Args:
        script: With scoped layer names.
        outputs: The layers that feed the outputs, in the outputs' order.
    """
    found = precisions(script, outputs, outputs)
    return tuple(layer for layer in outputs if found.get(layer, "").startswith(WIDE_ACTIVATIONS))


def _sets_precision(command: Command) -> bool:
    return command.name == "quantization_param" and command.get("precision_mode") is not None


def _covers(selectors: Sequence[Value], names: Sequence[str]) -> bool:
    items = [item for value in selectors for item in (value if isinstance(value, tuple) else (value,))]
    return any(_matches(str(item), name, isinstance(item, Glob)) for item in items for name in names)


def _matches(selector: str, name: str, is_pattern: bool) -> bool:
    if not is_pattern:
        return selector == name
    return fnmatchcase(name, selector if "/" in selector or selector == "*" else f"*/{selector}")
