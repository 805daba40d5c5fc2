"""What is common to the readers of model script commands: names of layers, and what was wrong, all of it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from hefjoin.emulator import hn
from hefjoin.formats.model_script import Command, Glob, Value


class Reader:
    """Reads commands; a method `_<command>` for each command that acts."""

    def __init__(self, view: hn.Hn, merged: Mapping[str, str]) -> None:
        """Prepare for one network.

        Args:
            view: Its HN, without what the script makes of it.
            merged: Input layers that a join took away, each with the one that now serves for it.
        """
        self.scopes: list[str] = view["net_params"]["net_scopes"]
        self.inputs = list(hn.input_layers(view))
        self.layers = list(view["layers"])
        self.view = view
        self.merged = merged
        self.problems: list[str] = []

    def acts(self, command: Command) -> bool:
        """Let a command act; return whether there is a method for it."""
        act = getattr(self, f"_{command.name}", None)
        if act is not None:
            act(command)
        return act is not None

    def refuse(self, command: Command, why: str) -> None:
        """Note a problem."""
        self.problems.append(f"{command.where}: `{command.name}` {why}")

    def scoped(self, name: object) -> str:
        """Return a layer's name with its scope; one without belongs to the only scope."""
        return str(name) if "/" in str(name) or len(self.scopes) != 1 else f"{self.scopes[0]}/{name}"

    def select(self, command: Command, selector: Value) -> list[str]:
        """Return the layers that a name, a pattern or a list of them selects; none of them is a problem."""
        found: list[str] = []
        for item in selector if isinstance(selector, tuple) else (selector,):
            if isinstance(item, Glob):
                pattern = item if "/" in item else f"*/{item}"
                matches = [name for name in self.layers if fnmatchcase(name, pattern) or item == "*"]
            else:
                matches = [name for name in self.layers if name == self.scoped(item)]
            if not matches:
                self.refuse(command, f"selects {item!s}, which is no layer of the network")
            found += matches
        return found

    def whole(self, command: Command, keyword: str, least: int, most: int | None = None) -> int | None:
        """Return a keyword argument that must be a whole number in a range; None where it is left out or wrong."""
        value = command.get(keyword)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least or (most or value) < value:
            upper = "" if most is None else f" and at most {most}"
            self.refuse(command, f"needs {keyword} of at least {least}{upper}, has {value}")
            return None
        return value

    def is_enabled(self, command: Command) -> bool | None:
        """Return the meaning of `policy`; None where it is missing or another word than enabled and disabled."""
        known = {"enabled": True, "disabled": False}
        policy = str(command.get("policy"))
        if policy not in known:
            self.refuse(command, f"({command.args[0]}, …) needs policy=enabled or policy=disabled, has {policy}")
        return known.get(policy)

    def only(self, command: Command, *keywords: str) -> bool:
        """Return whether a command has no other keyword arguments; others are a problem."""
        others = [key for key, _ in command.kwargs if key not in keywords]
        if others:
            subject = f"({command.args[0]}, …) " if command.args else ""
            self.refuse(command, f"{subject}is not emulated with {', '.join(others)}")
        return not others


def are_numbers(value: Value | None, count: int | None = None) -> bool:
    """Return whether a value is a list of numbers, and of so many."""
    return (
        isinstance(value, tuple)
        and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
        and count in (None, len(value))
    )


def numbers(value: Value | None) -> tuple[float, ...]:
    """Return a list of numbers as floats."""
    items: Sequence[object] = value if isinstance(value, tuple) else ()
    return tuple(float(item) for item in items if isinstance(item, int | float))
