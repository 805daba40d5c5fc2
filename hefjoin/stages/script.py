"""Assemble the joined network's model script from the spec and from what the join left.

The rule: every name in it was read back from the joined network, none is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hefjoin.errors import Problem, SpecError
from hefjoin.formats.model_script import Script, merge, parse, scoped
from hefjoin.manifest import JoinCheck, Joined
from hefjoin.spec import BuildSpec


def assemble(spec: BuildSpec, check: JoinCheck, joined: Joined) -> Script:
    """Return the whole script: normalization, the models' own scripts, the joint one, precision, compile.

    Raises:
        SpecError: A script is wrong, cannot be brought under its scope, or contradicts another.
    """
    generated = "\n".join((_normalization(check, joined), _optimization(spec, check), _compilation(spec)))
    own = [parse(model.script, f"models[{index}].script") for index, model in enumerate(spec.models)]
    joint = parse(spec.script, "script")
    if problems := [problem for script in (*own, joint) for problem in _said_in_the_spec(script)]:
        raise SpecError(problems)
    qualified = [
        scoped(script, model.name, _feeding(joined, model.name)) for script, model in zip(own, spec.models, strict=True)
    ]
    return merge([parse(generated, "hefjoin"), *qualified, joint])


def _said_in_the_spec(script: Script) -> Iterator[Problem]:
    """Yield the commands of a person's script that have a field of the spec, or that the stages cannot judge yet."""
    for command in script.commands:
        if command.name == "normalization":
            yield Problem(
                command.where, "set mean and std of the model instead; the joined network has one normalization"
            )
        elif command.get("calibset_size") is not None:
            yield Problem(command.where, "set calibration.count instead of calibset_size")
        elif command.get("optimization_level") is not None and command.name == "model_optimization_flavor":
            yield Problem(command.where, "set quantization.optimization_level instead")
        elif command.name in ("nms_postprocess", "logits_layer"):
            yield Problem(
                command.where,
                f"`{command.name}` changes the outputs, which are judged as they were joined; leave it out for now, "
                "and do it on the host",
            )


def before_optimize(script: Script) -> str:
    """Return the commands for `optimize`: modifications first, as the DFC wants them."""
    return str(script.stage("modification")) + _without(script.stage("optimization"), script.stage("modification"))


def before_compile(script: Script) -> str:
    """Return the commands for `compile`."""
    return str(script.stage("compilation"))


def _without(script: Script, other: Script) -> str:
    return str(Script(tuple(command for command in script.commands if command not in other.commands)))


def _feeding(joined: Joined, model: str) -> list[str]:
    return [layer.removeprefix(f"{model}/") for layer, owner in joined.model_of_output.items() if owner == model]


def _normalization(check: JoinCheck, joined: Joined) -> str:
    if not check.std:
        return ""
    scope = joined.input_layer.split("/")[0]
    mean, std = (f"[{', '.join(map(repr, values))}]" for values in (check.mean, check.std))
    return f"{scope}/normalization1 = normalization({mean}, {std}, {joined.input_layer})"


def _optimization(spec: BuildSpec, check: JoinCheck) -> str:
    lines = [
        f"model_optimization_config(calibration, calibset_size={check.calibration.health.count})",
        f"model_optimization_flavor(optimization_level={spec.quantization.optimization_level})",
    ]
    if spec.quantization.precision != "a8_w8":
        lines.append(f"quantization_param({{*}}, precision_mode={spec.quantization.precision})")
    return "\n".join(lines)


def _compilation(spec: BuildSpec) -> str:
    performance: Mapping[str, object] = {
        **({"compiler_optimization_level": "max"} if spec.compile.performance_mode else {}),
        **({"fps": spec.compile.target_fps} if spec.compile.target_fps else {}),
    }
    lines = [f"performance_param({key}={value})" for key, value in performance.items()]
    if spec.compile.single_context:
        lines.append("context_switch_param(mode=disabled)")
    return "\n".join(lines)
