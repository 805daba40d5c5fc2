"""Assemble the joined network's model script from the spec and from what the join left.

The rule: every name in it was read back from the joined network, none is assumed. What a person may not write there
is told before, by `script_check`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hefjoin.formats.model_script import Command, Script, layers, merge, parse, scoped
from hefjoin.formats.model_script_commands import COMMANDS
from hefjoin.formats.model_script_files import config_layers, named_file, read_config, scoped_config, with_files
from hefjoin.formats.model_script_parts import part_of
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined, Network
from hefjoin.spec import BuildSpec

REPLACE_OUTPUTS = ("nms_postprocess", "logits_layer")
"""Commands after which a model has other outputs than those that were joined."""
CHANGE_THE_INPUT = ("input_conversion", "resize")
"""Commands after which the network wants other frames."""

logger = logging.getLogger("hefjoin.stages")


def assemble(spec: BuildSpec, check: JoinCheck, joined: Joined) -> Script:
    """Return the whole script: normalization, the models' own scripts, the joint one, precision, compile.

    Raises:
        SpecError: A script is wrong, cannot be brought under its scope, or contradicts another.
    """
    head = parse(f"{_normalization(check, joined.input_layer)}\n{_optimization(spec, check)}", "hefjoin")
    return merge([head, compilation(spec), *_scoped_scripts(spec, joined)])


def assemble_alone(spec: BuildSpec, check: JoinCheck, joined: Joined, network: Network) -> Script:
    """Return what of the whole script is left for one model alone, without the commands for `compile`.

    That is its own script and, of the joint one, what steers the whole network or names its layers; what is said of
    the shared input is said of its own.

    Args:
        spec: The build.
        check: The shared input.
        joined: The joined network.
        network: The model's, its scope being its name.
    """
    (model,), own_input = network.scopes, network.inputs[0].layer
    head = parse(f"{_normalization(check, own_input)}\n{_optimization(spec, check)}", "hefjoin")
    parts = [head]
    for where, scope, text in scripts(spec):
        script = parse(text, where)
        if not scope:
            meant = Script(tuple(command for command in script.commands if _names_file_of(command, model)))
            script = part_of(meant, model, {joined.input_layer: own_input, **_names(network)})
        if scope in ("", model):
            parts.append(under_scope(script, scope, _feeding(joined, model)))
    return merge(parts)


def _names(network: Network) -> dict[str, str]:
    (model,) = network.scopes
    outputs = [f"{model}/output_layer{number}" for number in range(1, len(network.outputs) + 1)]
    return {name: name for name in (*(layer.name for layer in network.layers), *outputs)}


def _names_file_of(command: Command, model: str) -> bool:
    """Return whether a configuration that a command of the joint script refers to is for a model, if there is one."""
    path = named_file(command)
    return not path or any(layer.startswith(f"{model}/") for layer in config_layers(read_config(Path(path))))


def own_scripts(spec: BuildSpec, joined: Joined) -> Script:
    """Return only what the spec's scripts say, the models' own under their scopes."""
    return merge(_scoped_scripts(spec, joined))


def _scoped_scripts(spec: BuildSpec, joined: Joined) -> list[Script]:
    return [under_scope(parse(text, where), scope, _feeding(joined, scope)) for where, scope, text in scripts(spec)]


def under_scope(script: Script, scope: str, feeding: Sequence[str]) -> Script:
    """Return a script as it stands in the joined one: its layers under their scope, its files as `files` names them.

    Args:
        script: A model's own script, or the joint one.
        scope: The model; empty for the joint script, whose layers have their scopes.
        feeding: The layers that feed the model's outputs, without scope.

    Raises:
        SpecError: It cannot be brought under a scope.
    """
    names = {path: in_step(scope, path) for command in script.commands if (path := named_file(command))}
    script = with_files(script, names)
    return scoped(script, scope, feeding) if scope else script


def scripts(spec: BuildSpec) -> Iterator[tuple[str, str, str]]:
    """Yield (place in the spec, model, text) of every script; no model for the joint one."""
    for index, model in enumerate(spec.models):
        yield f"models[{index}].script", model.name, model.script
    yield "script", "", spec.script


def before_optimize(script: Script) -> str:
    """Return the commands for `optimize`: modifications first, as the DFC wants them."""
    return str(script.stage("modification")) + _without(script.stage("optimization"), script.stage("modification"))


def before_compile(script: Script) -> str:
    """Return the commands for `compile`."""
    return str(script.stage("compilation"))


def compilation(spec: BuildSpec) -> Script:
    """Return the compile commands that the spec's fields stand for."""
    performance: Mapping[str, object] = {
        **({"compiler_optimization_level": "max"} if spec.compile.performance_mode else {}),
        **({"fps": spec.compile.target_fps} if spec.compile.target_fps else {}),
    }
    lines = [f"performance_param({key}={value})" for key, value in performance.items()]
    if spec.compile.single_context:
        lines.append("context_switch_param(mode=disabled)")
    return parse("\n".join(lines), "compile")


def post_processed(spec: BuildSpec) -> tuple[str, ...]:
    """Return the models whose outputs a script replaces; all of them where the joint script does."""
    own = {scope for _, scope, text in scripts(spec) if any(c.name in REPLACE_OUTPUTS for c in parse(text).commands)}
    return tuple(model.name for model in spec.models if model.name in own or "" in own)


def changed_by_script(spec: BuildSpec) -> dict[str, str]:
    """Return the models that a script makes another network of, whose native outputs compare with nothing, and why.

    What replaces a model's outputs is left out: such outputs are not judged at all.
    """
    found: dict[str, str] = {}
    for where, scope, text in scripts(spec):
        for command in parse(text, where).commands:
            if COMMANDS[command.name].stage != "modification" or command.name in REPLACE_OUTPUTS:
                continue
            named = {scope} if scope else {layer.partition("/")[0] for layer in layers(command)}
            is_joint = command.name in CHANGE_THE_INPUT or not named <= {model.name for model in spec.models}
            for model in spec.models:
                if is_joint or model.name in named:
                    found.setdefault(model.name, f"`{command.name}` in {where} changes the network after parsing")
    return found


def files(spec: BuildSpec, folder: Path) -> dict[str, Path]:
    """Write the files that the scripts refer to into `folder`, with scoped layers, and return them.

    They are known by the names that the assembled script gives them, so a step finds them in its own directory,
    on whichever machine it runs.

    Raises:
        InputError: One is missing or no JSON.
    """
    found = {}
    for where, scope, text in scripts(spec):
        for path in filter(None, map(named_file, parse(text, where).commands)):
            config = read_config(Path(path))
            changed = scoped_config(config, scope) if scope else config
            if changed != config:
                logger.info("%s: the layers in %s were put under %s/", where, path, scope)
            name = in_step(scope, path)
            found[name] = folder / name
            found[name].write_text(json.dumps(changed, indent=1), encoding="utf-8")
    return found


def in_step(scope: str, path: str) -> str:
    """Return the name that a file has in a step's directory: two models may have files of one name."""
    return f"{scope}.{Path(path).name}" if scope else Path(path).name


def _without(script: Script, other: Script) -> str:
    return str(Script(tuple(command for command in script.commands if command not in other.commands)))


def _feeding(joined: Joined, model: str) -> list[str]:
    return [layer.removeprefix(f"{model}/") for layer, owner in joined.model_of_output.items() if owner == model]


def _normalization(check: JoinCheck, input_layer: str) -> str:
    if not check.std:
        return ""
    scope = input_layer.split("/")[0]
    mean, std = (f"[{', '.join(map(repr, values))}]" for values in (check.mean, check.std))
    return f"{scope}/normalization1 = normalization({mean}, {std}, {input_layer})"


def _optimization(spec: BuildSpec, check: JoinCheck) -> str:
    lines = [
        f"model_optimization_config(calibration, calibset_size={check.calibration.health.count})",
        f"model_optimization_flavor(optimization_level={spec.quantization.optimization_level})",
    ]
    if spec.quantization.precision != "a8_w8":
        lines.append(f"quantization_param({{*}}, precision_mode={spec.quantization.precision})")
    return "\n".join(lines)
