"""What a model script asks of the emulator.

The rule: a command either acts here, or steers only how the real compiler places layers and is listed as not
emulated, or is refused. None that would change numbers is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hefjoin.emulator import exceptions, hn
from hefjoin.emulator.exposed_definitions import States
from hefjoin.emulator.host import HostStep
from hefjoin.emulator.log import say
from hefjoin.emulator.modifications import Modifications
from hefjoin.emulator.modify import Modification
from hefjoin.emulator.quantize import MODES, Mode
from hefjoin.emulator.reader import Reader, numbers
from hefjoin.formats.model_script import Command, Script
from hefjoin.formats.model_script_commands import COMMANDS

DEFAULT_CALIBSET_SIZE = 64
"""Entries used when the script names no number (DFC 3.28–3.33 behave so)."""
LOWEST_LEVEL, HIGHEST_LEVEL = -100, 4
MOST_COMPRESSION = 5


@dataclass(frozen=True)
class Clipping:
    """How a layer's range is to be chosen."""

    mode: str
    """`percentile`: the values are percentages of the layer's values, 0–100; `manual`: they are the range itself."""
    low: float
    high: float


@dataclass
class Plan:
    """The effective content of a script."""

    modifications: list[Modification] = field(default_factory=list)
    """In the order of the script."""
    host_steps: list[HostStep] = field(default_factory=list)
    modes: dict[str, Mode] = field(default_factory=dict)
    """Bits by layer name."""
    clipping: dict[str, Clipping] = field(default_factory=dict)
    """By layer name."""
    calibset_size: int = DEFAULT_CALIBSET_SIZE
    batch_size: int | None = None
    optimization_level: int | None = None
    compression_level: int = 0
    """Twenty percent of the weights in 4 bits for each."""
    four_bit_ratio: float | None = None
    """Share of the weights in 4 bits, 0–1; it goes before `compression_level`."""
    output_encoding_vector: bool = False
    """Whether each feature of an output has a scale of its own."""
    equalization: bool | None = None
    bias_correction: bool | None = None
    """Said by name, whatever the level; None leaves it to the level."""
    seed: int | None = None
    single_context: bool = False
    not_emulated: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan(
    script: Script, view: hn.Hn, merged: Mapping[str, str] | None = None, files: Mapping[str, Any] | None = None
) -> Plan:
    """Return what a script asks for.

    Args:
        script: The commands.
        view: The HN of the network, without what the script makes of it.
        merged: Input layers that a join took away, each with the one that now serves for it.
        files: Content of the configurations that the script names, by the path it gives.

    Raises:
        exceptions.AllocatorScriptParserException: A command names what is not there, or changes numbers in a way
            that is not emulated. All such commands are listed.
    """
    modifications = Modifications(view, merged or {}, files or {})
    modifications.add_layers(script)
    steering = _Steering(view, merged or {})
    steering.layers, steering.problems = modifications.layers, modifications.problems
    for command in script.commands:
        if not modifications.acts(command) and not steering.acts(command):
            steering.keep(command)
    modifications.settle_merged_inputs()
    if steering.problems:
        raise exceptions.AllocatorScriptParserException("\n".join(steering.problems))
    found = steering.plan
    found.modifications, found.host_steps = modifications.steps, modifications.host_steps
    found.warnings += modifications.warnings
    found.not_emulated += modifications.not_emulated
    return found


def after_optimization(script: Script, applied: Script, state: States) -> Script:
    """Return the script as a runner keeps it that has optimized by another one already.

    Args:
        script: What is to be loaded.
        applied: What the network was optimized by; empty before that.
        state: Of the runner.

    Raises:
        exceptions.AllocatorScriptParserException: Commands that are not among those applied would change numbers.
    """
    if state is States.HAILO_MODEL:
        return script
    is_done = ("modification",) if state is States.FP_OPTIMIZED_MODEL else ("modification", "optimization")
    late = [command for command in script.commands if COMMANDS[command.name].stage in is_done]
    if new := [command for command in late if command not in applied.commands]:
        raise exceptions.AllocatorScriptParserException(
            "\n".join(f"{c.where}: `{c}` comes too late, the model is a {state.value}; load it before" for c in new)
        )
    if late:
        say(f"{len(late)} commands have acted already and are not applied again, `{late[0]}` first", "warning")
    if state is not States.FP_OPTIMIZED_MODEL:
        return script
    kept = applied.stage("modification").commands
    return Script((*kept, *(command for command in script.commands if command not in kept)))


class _Steering(Reader):
    """Reads the commands that steer quantization, and the few of the compiler's that mean something here."""

    def __init__(self, view: hn.Hn, merged: Mapping[str, str]) -> None:
        super().__init__(view, merged)
        self.plan = Plan()

    def keep(self, command: Command) -> None:
        """List a command that is for the real compiler only, and refuse any other."""
        if COMMANDS[command.name].stage == "compilation":
            self.plan.not_emulated.append(str(command))
        else:
            self.refuse(command, "changes numbers in a way that the emulator does not know yet")

    def _quantization_param(self, command: Command) -> None:
        if len(command.args) != 1 or not command.kwargs:
            self.refuse(command, "takes one selector, and what to set for it")
            return
        selected = self.select(command, command.args[0])
        for keyword, value in command.kwargs:
            if keyword == "precision_mode":
                self._precision(command, selected, str(value))
            elif keyword == "force_range_out":
                self._force_range(command, selected)
            elif keyword == "bias_mode":
                self.plan.not_emulated.append(f"{command}: biases have 32 bits here in any mode")
            else:
                self.refuse(command, f"is not emulated with {keyword}")

    def _precision(self, command: Command, selected: list[str], mode: str) -> None:
        if mode not in MODES:
            self.refuse(command, f"has no precision_mode {mode}; Hailo-8 has {', '.join(MODES)}")
            return
        if mode != "a8_w8" and selected and all("/output_layer" in name for name in selected):
            self.refuse(command, "on an output layer is emulated for a8_w8 only")
        self.plan.modes.update(dict.fromkeys(selected, MODES[mode]))

    def _force_range(self, command: Command, selected: list[str]) -> None:
        self._clip(command, selected, "manual", numbers(command.get("force_range_out")), "force_range_out")

    def _clip(self, command: Command, selected: list[str], mode: str, values: tuple[float, ...], keyword: str) -> None:
        is_percentile = mode == "percentile"
        if len(values) != 2 or values[0] >= values[1]:
            self.refuse(command, f"needs {keyword}=[low, high], low below high; has {list(values)}")
        elif is_percentile and not 0 <= values[0] < values[1] <= 100:
            self.refuse(command, f"needs percentages of 0–100 in {keyword}, has {list(values)}")
        else:
            self.plan.clipping.update(dict.fromkeys(selected, Clipping(mode, *values)))

    def _model_optimization_config(self, command: Command) -> None:
        match command.args:
            case ("calibration",):
                self._calibration(command)
            case ("compression_params",):
                self._compression(command)
            case ("checker_cfg",):
                self.plan.not_emulated.append(str(command))  # it judges, and changes nothing
            case ("globals",):
                self._globals(command)
            case ("negative_exponent",) if self._is_neutral(command, layers=None, rank="0"):
                self.plan.not_emulated.append(f"{command}: the emulator has no negative exponents")
            case ("negative_exponent",):
                self.refuse(command, "(negative_exponent, …) is not emulated with these values")
            case _:
                self.refuse(command, f"({', '.join(map(str, command.args))}, …) is not emulated")

    def _is_neutral(self, command: Command, **neutral: str | None) -> bool:
        """Return whether every keyword is one of `neutral` and has the value that changes nothing; None is any."""
        return all(
            key in neutral and (neutral[key] is None or str(value) == neutral[key]) for key, value in command.kwargs
        )

    def _globals(self, command: Command) -> None:
        if not self.only(command, "multiproc_policy", "output_encoding_vector"):
            return
        policy = command.get("output_encoding_vector")
        if policy in ("enabled", "disabled"):
            self.plan.output_encoding_vector = policy == "enabled"
        elif policy is not None:
            self.refuse(command, f"needs output_encoding_vector=enabled or disabled, has {policy}")
        if command.get("multiproc_policy") is not None:
            self.plan.not_emulated.append(str(command))

    def _calibration(self, command: Command) -> None:
        if self.only(command, "calibset_size", "batch_size"):
            self.plan.calibset_size = self.whole(command, "calibset_size", 1) or self.plan.calibset_size
            self.plan.batch_size = self.whole(command, "batch_size", 1) or self.plan.batch_size

    def _compression(self, command: Command) -> None:
        if not self.only(command, "auto_4bit_weights_ratio"):
            return
        ratio = command.get("auto_4bit_weights_ratio")
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
            self.refuse(command, f"needs an auto_4bit_weights_ratio of 0–1, has {ratio}")
        else:
            self.plan.four_bit_ratio = float(ratio)

    def _model_optimization_flavor(self, command: Command) -> None:
        level = self.whole(command, "optimization_level", LOWEST_LEVEL, HIGHEST_LEVEL)
        compression = self.whole(command, "compression_level", 0, MOST_COMPRESSION)
        batch_size = self.whole(command, "batch_size", 1)
        plan = self.plan
        plan.optimization_level = plan.optimization_level if level is None else level
        plan.compression_level = plan.compression_level if compression is None else compression
        plan.batch_size = plan.batch_size if batch_size is None else batch_size

    def _pre_quantization_optimization(self, command: Command) -> None:
        feature = str(command.args[0]) if len(command.args) == 1 else ""
        if feature == "equalization":
            if self.only(command, "policy"):
                self.plan.equalization = self.is_enabled(command)
        elif feature == "activation_clipping":
            self._activation_clipping(command)
        elif not self._is_switched_off(command):
            self.refuse(command, f"({feature or '?'}, …) is not emulated; policy=disabled and mode=disabled are")

    def _activation_clipping(self, command: Command) -> None:
        if not self.only(command, "layers", "mode", "clipping_values"):
            return
        mode = str(command.get("mode"))
        selected = self.select(command, command.get("layers") or ())
        if mode == "disabled":
            for layer in selected:
                self.plan.clipping.pop(layer, None)
        elif mode not in ("percentile", "manual"):
            self.refuse(command, f"(activation_clipping, …) is emulated in percentile and manual mode, not in {mode}")
        elif command.get("layers") is None:
            self.refuse(command, "(activation_clipping, …) needs layers=[…]")
        else:
            self._clip(command, selected, mode, numbers(command.get("clipping_values")), "clipping_values")

    def _post_quantization_optimization(self, command: Command) -> None:
        feature = str(command.args[0]) if len(command.args) == 1 else ""
        if feature == "bias_correction":
            if self.only(command, "policy"):
                self.plan.bias_correction = self.is_enabled(command)
        elif not self._is_switched_off(command):
            self.refuse(
                command,
                f"({feature or '?'}, …) trains, which the emulator does not; for its own reconstruction set "
                "model_optimization_flavor(optimization_level=2)",
            )

    def _is_switched_off(self, command: Command) -> bool:
        """Return whether a command switches off what the emulator does not do; it is listed then."""
        is_off = len(command.args) == 1 and "disabled" in (command.get("policy"), command.get("mode"))
        if is_off:
            self.plan.not_emulated.append(str(command))
        return is_off

    def _context_switch_param(self, command: Command) -> None:
        self.plan.single_context = str(command.get("mode")) == "disabled"
        if not self.plan.single_context or len(command.kwargs) > 1:
            self.plan.not_emulated.append(str(command))

    def _set_seed(self, command: Command) -> None:
        if command.get("seed") is None:
            self.refuse(command, "needs seed=<whole number>")
        self.plan.seed = self.whole(command, "seed", 0)
