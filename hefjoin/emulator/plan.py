"""What a model script asks of the emulator.

The rule: a command either acts here, or steers only how the real compiler places layers and is listed as not
emulated, or is refused. None that would change numbers is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import cast

from hefjoin.emulator import exceptions
from hefjoin.emulator.quantize import MODES, Mode
from hefjoin.formats.model_script import Command, Glob, Script, Value
from hefjoin.formats.model_script_commands import COMMANDS

DEFAULT_CALIBSET_SIZE = 64
"""Entries used when the script names no number (DFC 3.28–3.33 behave so)."""


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std behind one input layer, per channel on the scale of the raw frames."""

    target: str
    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass
class Plan:
    """The effective content of a script."""

    normalizations: list[Normalization] = field(default_factory=list)
    modes: dict[str, Mode] = field(default_factory=dict)
    """Bits by layer name."""
    calibset_size: int = DEFAULT_CALIBSET_SIZE
    optimization_level: int | None = None
    single_context: bool = False
    not_emulated: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan(
    script: Script,
    scopes: Sequence[str],
    inputs: Sequence[str],
    layers: Iterable[str],
    merged: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a script asks for.

    Args:
        script: The commands.
        scopes: Scopes of the network; an unscoped name belongs to the only one.
        inputs: Input layers, scoped.
        layers: All layers, scoped.
        merged: Input layers that a join took away, each with the one that now serves for it.

    Raises:
        exceptions.AllocatorScriptParserException: A command names what is not there, or changes numbers in a way
            that is not emulated. All such commands are listed.
    """
    reader = _Reader(scopes, inputs, list(layers), merged or {})
    reader.add_layers(script)
    for command in script.commands:
        reader.read(command)
    reader.settle_merged_inputs()
    if reader.problems:
        raise exceptions.AllocatorScriptParserException("\n".join(reader.problems))
    return reader.plan


class _Reader:
    def __init__(
        self, scopes: Sequence[str], inputs: Sequence[str], layers: list[str], merged: Mapping[str, str]
    ) -> None:
        self.scopes = scopes
        self.inputs = inputs
        self.layers = layers
        self.merged = merged
        self.on_merged: list[tuple[Command, Normalization]] = []
        self.plan = Plan()
        self.problems: list[str] = []

    def add_layers(self, script: Script) -> None:
        """Make the layers that the script adds known to its selectors, wherever in it they stand."""
        for command in script.commands:
            if command.name == "normalization":
                self.layers += map(self._scoped, command.targets)

    def read(self, command: Command) -> None:
        act = getattr(self, f"_{command.name}", None)
        if act is not None:
            act(command)
        elif COMMANDS[command.name].stage == "compilation":
            self.plan.not_emulated.append(str(command))
        else:
            self._refuse(command, "changes numbers in a way that the emulator does not know yet")

    def _refuse(self, command: Command, why: str) -> None:
        self.problems.append(f"{command.where}: `{command.name}` {why}")

    def _scoped(self, name: str) -> str:
        return name if "/" in name or len(self.scopes) != 1 else f"{self.scopes[0]}/{name}"

    def _select(self, command: Command, selector: object) -> list[str]:
        wanted = selector if isinstance(selector, tuple) else (selector,)
        found: list[str] = []
        for item in wanted:
            if isinstance(item, Glob):
                pattern = item if "/" in item else f"*/{item}"
                matches = [name for name in self.layers if fnmatchcase(name, pattern) or item == "*"]
            else:
                matches = [name for name in self.layers if name == self._scoped(str(item))]
            if not matches:
                self._refuse(command, f"selects {item!s}, which is no layer of the network")
            found += matches
        return found

    def _normalization(self, command: Command) -> None:
        if len(command.args) not in (2, 3) or not all(map(_are_numbers, command.args[:2])):
            self._refuse(command, "takes [means], [standard deviations] and, optionally, an input layer")
            return
        mean, std = (tuple(map(float, cast(tuple[float, ...], values))) for values in command.args[:2])
        named = [self._scoped(str(command.args[2]))] if len(command.args) == 3 else list(self.inputs)
        if unknown := [name for name in named if name not in self.inputs and name not in self.merged]:
            self._refuse(command, f"names {unknown[0]}; the input layers are {', '.join(self.inputs)}")
        elif len(named) != len(command.targets):
            self._refuse(command, f"makes {len(command.targets)} layers for {len(named)} inputs")
        elif taken := [name for name in map(self._scoped, command.targets) if self.layers.count(name) > 1]:
            self._refuse(command, f"makes {taken[0]}, and there is a layer of that name")
        elif min(std, default=0) <= 0:
            self._refuse(command, "needs standard deviations above zero")
        else:
            for target, source in zip(command.targets, named, strict=True):
                self._add_normalization(command, Normalization(self._scoped(target), source, mean, std))

    def settle_merged_inputs(self) -> None:
        """Accept a normalization on an input that a join took away, where it repeats the survivor's."""
        for command, step in self.on_merged:
            survivor = self.merged[step.input]
            known = {item.input: (item.mean, item.std) for item in self.plan.normalizations}
            if known.get(survivor) != (step.mean, step.std):
                self._refuse(command, f"names {step.input}, which was joined into {survivor}, with other values")
            else:
                self.plan.warnings.append(
                    f"{step.input} was joined into {survivor}; its equal normalization is passed over here. "
                    "What the DFC does with such a line is not known: name the surviving input only."
                )

    def _add_normalization(self, command: Command, step: Normalization) -> None:
        if step.input in self.merged:
            self.on_merged.append((command, step))
        elif any(step.input == known.input for known in self.plan.normalizations):
            self._refuse(command, f"normalizes {step.input} a second time")
        else:
            self.plan.normalizations.append(step)

    def _quantization_param(self, command: Command) -> None:
        mode = command.get("precision_mode")
        others = [key for key, _ in command.kwargs if key != "precision_mode"]
        if others or len(command.args) != 1:
            self._refuse(command, f"is emulated for one selector and precision_mode only, not {', '.join(others)}")
        elif str(mode) not in MODES:
            self._refuse(command, f"has no precision_mode {mode}; Hailo-8 has {', '.join(MODES)}")
        else:
            selected = self._select(command, command.args[0])
            if mode != "a8_w8" and selected and all("/output_layer" in name for name in selected):
                self._refuse(command, "on an output layer is emulated for a8_w8 only")
            self.plan.modes.update(dict.fromkeys(selected, MODES[str(mode)]))

    def _model_optimization_config(self, command: Command) -> None:
        if command.args != ("calibration",):
            self._refuse(command, f"({', '.join(map(str, command.args))}, …) is not emulated yet")
            return
        size = command.get("calibset_size", self.plan.calibset_size)
        if others := [key for key, _ in command.kwargs if key not in ("calibset_size", "batch_size")]:
            self._refuse(command, f"(calibration, …) is not emulated with {', '.join(others)}")
        elif not isinstance(size, int) or size < 1:
            self._refuse(command, f"needs a calibset_size of at least 1, has {size}")
        else:
            self.plan.calibset_size = size

    def _model_optimization_flavor(self, command: Command) -> None:
        level = command.get("optimization_level")
        if command.get("compression_level", 0) != 0:
            self._refuse(command, "with a compression_level is not emulated yet")
        elif isinstance(level, int):
            self.plan.optimization_level = level

    def _context_switch_param(self, command: Command) -> None:
        self.plan.single_context = str(command.get("mode")) == "disabled"
        if not self.plan.single_context or len(command.kwargs) > 1:
            self.plan.not_emulated.append(str(command))

    def _set_seed(self, command: Command) -> None:
        self.plan.not_emulated.append(str(command))  # nothing here is random


def _are_numbers(value: Value) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, int | float) for item in value)
