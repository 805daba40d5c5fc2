"""What is wrong with the model scripts of a build, told in seconds: before the join, and before hours of compiling.

The rule: all mistakes of all scripts at once, each with its place in the spec: `models[1].script:3:1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.formats.model_script import Command, Glob, Script, layers, merge, nearest, parse
from hefjoin.formats.model_script_commands import COMMANDS, EMULATED_DETECTORS
from hefjoin.formats.model_script_files import config_layers, named_file, read_config
from hefjoin.results.networks import Network
from hefjoin.results.sources import Provider
from hefjoin.spec import BuildSpec
from hefjoin.stages.ladder import ladder
from hefjoin.stages.script import (
    CHANGE_THE_INPUT,
    REPLACE_OUTPUTS,
    before_compile,
    compilation,
    in_step,
    scripts,
    under_scope,
)

NOT_YET_THERE = ("input_layer1", "normalization1")
"""What patterns may mean that no parsed network has, or that it shares."""
_INPUT = re.compile(r"(?:[^/]+/)?input_layer\d+")


def require_sound(spec: BuildSpec, networks: Mapping[str, Network], provider: Provider) -> None:
    """Check every script, every file one refers to, and every attempt to compile.

    Args:
        spec: What is built.
        networks: The parsed network of each model.
        provider: Whose compiler reads the scripts.

    Raises:
        SpecError: With every problem of every script.
    """
    problems: list[Problem] = []
    sound: list[Script] = []
    plain = {name: _layers(network) for name, network in networks.items()}
    joint = [f"{name}/{layer}" for name, found in plain.items() for layer in (*found, "input_layer1")]
    for where, scope, text in scripts(spec):
        script, wrong = _parsed(text, where)
        names = [*plain[scope], *(f"{scope}/{layer}" for layer in plain[scope])] if scope else joint
        problems += [*wrong, *_two_of_one_name(script, scope)]
        for command in script.commands:
            problems += _not_to_be_said(command, scope, provider)
            problems += _unknown_layers(command, scope, [*names, *_made(script)])
            problems += _wrong_file(command, scope, names)
        feeding = [tensor.layer.partition("/")[2] for tensor in networks[scope].outputs] if scope else []
        try:
            sound.append(under_scope(script, scope, feeding))
        except SpecError as error:
            problems += error.problems
    problems += _together(spec, sound)
    if problems:
        raise SpecError(problems, where=f"the spec of {spec.name}")


def _layers(network: Network) -> list[str]:
    """Return the names by which a network's own script may call its layers; its input is another's, once joined."""
    outputs = [f"output_layer{number}" for number in range(1, len(network.outputs) + 1)]
    return [*(layer.name.partition("/")[2] for layer in network.layers), *outputs]


def _parsed(text: str, where: str) -> tuple[Script, Sequence[Problem]]:
    try:
        return parse(text, where), ()
    except SpecError as error:
        return Script(), error.problems


def _together(spec: BuildSpec, sound: Sequence[Script]) -> Iterator[Problem]:
    """Yield where scripts contradict each other or the spec, and attempts to compile that cannot be made."""
    base = compilation(spec)
    try:
        base = merge([base, *sound])
    except SpecError as error:
        yield from error.problems
    if spec.compile.attempts and not spec.compile.single_context:
        message = "are made only where a single context is required; set compile.single_context, or remove them"
        yield Problem("compile.attempts", message)
    try:
        ladder(before_compile(base), spec.compile.attempts)
    except SpecError as error:
        yield from error.problems


def _not_to_be_said(command: Command, scope: str, provider: Provider) -> Iterator[Problem]:
    """Yield what has a field of the spec, what only the joint script may say, and what the provider cannot do."""
    if command.name == "normalization":
        yield Problem(command.where, "set mean and std of the model instead; the joined network has one normalization")
    elif command.get("calibset_size") is not None:
        yield Problem(command.where, "set calibration.count instead of calibset_size")
    elif command.get("optimization_level") is not None and command.name == "model_optimization_flavor":
        yield Problem(command.where, "set quantization.optimization_level instead")
    elif command.name == "nms_postprocess" and scope and not named_file(command):
        yield Problem(command.where, "name its configuration file: without one it is not said whose outputs are meant")
    elif command.name in CHANGE_THE_INPUT and scope:
        yield Problem(
            command.where, f"`{command.name}` changes the input that all models share; write it in the joint `script`"
        )
    elif command.name == "resize" or (command.name == "input_conversion" and command.get("emulator_support") is True):
        dropped = "it" if command.name == "resize" else "emulator_support"
        yield Problem(
            command.where, f"`{command.name}` wants other frames than a build prepares, RGB images; leave {dropped} out"
        )
    elif provider == "emulator" and command.name in REPLACE_OUTPUTS and (missing := _beyond_the_emulator(command)):
        yield Problem(command.where, f"the emulator has {missing}; do it on the host, or build with the DFC")


def _beyond_the_emulator(command: Command) -> str:
    """Return what keeps the emulator from replacing outputs as a command says; empty where nothing does."""
    words = [*map(str, command.args), *(str(value) for _, value in command.kwargs)]
    if "nn_core" in words:
        return f"no `{command.name}` on nn_core, only on the cpu"
    if command.name == "nms_postprocess" and not named_file(command):
        return "no boxes without a configuration"
    if command.name == "nms_postprocess" and not set(EMULATED_DETECTORS) & set(words):
        return f"boxes of {', '.join(EMULATED_DETECTORS)} only"
    return ""


def _unknown_layers(command: Command, scope: str, names: Sequence[str]) -> Iterator[Problem]:
    """Yield the layers that the network does not have.

    The compiler splits layers and gives the parts names of its own, so only what acts before it can be checked.
    """
    is_refused = command.name == "normalization" or (scope and command.name in CHANGE_THE_INPUT)
    if is_refused or COMMANDS[command.name].stage not in ("modification", "optimization"):
        return
    for item in layers(command):
        if scope and _INPUT.fullmatch(item):
            yield Problem(command.where, f"{item} is the input that all models share; write it in the joint `script`")
        elif isinstance(item, Glob):
            if not any(fnmatchcase(f"/{name}", f"*/{item}") for name in (*names, *NOT_YET_THERE)):
                yield Problem(command.where, f"`{command.name}` selects {{{item}}}, which no layer matches")
        elif item not in names:
            owner = f"`{scope}`" if scope else "the joined network"
            yield Problem(
                command.where, f"`{command.name}` names {item}, which is no layer of {owner}{nearest(item, names)}"
            )


def _made(script: Script) -> Iterator[str]:
    for command in script.commands:
        yield from command.targets


def _wrong_file(command: Command, scope: str, names: Sequence[str]) -> Iterator[Problem]:
    path = named_file(command)
    if not path:
        return
    try:
        found = list(config_layers(read_config(Path(path))))
    except InputError as error:
        yield Problem(command.where, str(error))
        return
    for layer in found:
        if layer not in names:
            owner = f"`{scope}`" if scope else "the joined network, where each is named with its scope"
            yield Problem(command.where, f"{path} names {layer}, which is no layer of {owner}{nearest(layer, names)}")


def _two_of_one_name(script: Script, scope: str) -> Iterator[Problem]:
    """Yield the files that would lie in one place in the step's directory."""
    seen: dict[str, str] = {}
    for command in script.commands:
        path = named_file(command)
        other = seen.setdefault(in_step(scope, path), path)
        if other != path:
            yield Problem(command.where, f"{path} and {other} would have one name beside the script; rename one")
