"""What can be told of a spec before anything is started: sources that are not there, scripts and metrics that fail."""

from __future__ import annotations

from hefjoin.errors import InputError, Problem, SpecError, StoreError
from hefjoin.formats.model_script import parse
from hefjoin.metrics.metric import metric
from hefjoin.spec import BuildSpec
from hefjoin.stages.fetch import locate
from hefjoin.stages.ladder import ladder
from hefjoin.stages.script import compilation, scripts


def preflight(spec: BuildSpec) -> None:
    """Check what needs no model to be opened; `check` does the rest.

    Raises:
        SpecError: With every problem.
        StoreError: S3 refuses to say what lies there.
    """
    problems: list[Problem] = []
    try:
        locate(spec, with_entries=False)
    except SpecError as error:
        problems += error.problems
    except StoreError as error:
        if not error.is_transient:  # what may pass is asked again by the task
            raise
    for index, model in enumerate(spec.models):
        try:
            metric(model.metric)
        except InputError as error:
            problems.append(Problem(f"models[{index}].metric", error.message))
    problems += script_problems(spec)
    if problems:
        raise SpecError(problems, where=f"the spec of {spec.name}")


def script_problems(spec: BuildSpec) -> list[Problem]:
    """Return what is wrong with the text of the scripts, which can be told on any machine."""
    problems: list[Problem] = []
    for where, _, text in scripts(spec):
        try:
            parse(text, where)
        except SpecError as error:
            problems += error.problems
    try:
        ladder(str(compilation(spec)), spec.compile.attempts)
    except SpecError as error:
        problems += error.problems
    return problems
