"""What of a spec a service must not touch, found before any of it is read, imported or started.

The rule: every field that names a place or code is looked at here, and all that is refused is told at once. What only
an allowed file can name, an entry of a list or weights beside a model, is looked at where that file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from hefjoin import service
from hefjoin.errors import Problem, SpecError
from hefjoin.formats.model_script import Command, Glob, Script, Word, parse
from hefjoin.formats.model_script_files import named_file
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.spec import BuildSpec
from hefjoin.stages.script import scripts

LINKS_SHOWN = 10


def require_allowed(spec: BuildSpec, store: str) -> None:
    """Check that a service may build this, into that store; whoever builds for himself may build anything.

    Raises:
        SpecError: With every place and every function that the allow-lists of `hefjoin.service` do not have.
    """
    if not service.is_on():
        return
    problems = [Problem("store", refusal)] if (refusal := service.store_refusal(store)) else []
    problems += [problem for where, source in _sources(spec) for problem in _of_source(where, source)]
    for index, model in enumerate(spec.models):
        if ":" in model.metric and (refusal := service.metric_refusal(model.metric)):
            problems.append(Problem(f"models[{index}].metric", refusal))
    problems += _of_scripts(spec)
    if spec.dfc_python and spec.dfc_python != os.environ.get(DFC_PYTHON):
        message = f"a service starts no interpreter but its own, {DFC_PYTHON}; leave it empty"
        problems.append(Problem("dfc_python", message))
    if problems:
        raise SpecError(problems, where=f"the spec of {spec.name}")


def _sources(spec: BuildSpec) -> Iterator[tuple[str, str]]:
    yield from ((f"models[{index}].source", model.source) for index, model in enumerate(spec.models))
    yield "calibration.source", spec.calibration.source
    yield "evaluation.source", spec.evaluation.source


def _of_source(where: str, source: str) -> Iterator[Problem]:
    """Yield why a source is refused, each line of a list by itself; and links that lead out of a folder."""
    is_list = "\n" in source
    for index, line in enumerate(source.split("\n")):
        place = line.strip() if is_list else line
        if not place:
            continue
        if refusal := service.source_refusal(place):
            yield Problem(f"{where}[{index}]" if is_list else where, refusal)
        elif "://" not in place:
            yield from islice(_links_out(where, Path(place).expanduser()), LINKS_SHOWN)


def _links_out(where: str, folder: Path) -> Iterator[Problem]:
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink() and (refusal := service.source_refusal(str(path))):
                yield Problem(where, f"{refusal}; it is a link to {path.readlink()}")


def _of_scripts(spec: BuildSpec) -> Iterator[Problem]:
    """Yield the files that model scripts may not name."""
    texts = [(where, text) for where, _, text in scripts(spec)]
    texts += [(f"compile.attempts[{index}]", text) for index, text in enumerate(spec.compile.attempts)]
    for where, text in texts:
        for command in _parsed(text, where).commands:
            for path in _paths(command):
                if refusal := service.source_refusal(path):
                    yield Problem(command.where, refusal)


def _parsed(text: str, where: str) -> Script:
    try:
        return parse(text, where)
    except SpecError:
        return Script()  # the checks to come say what is wrong with it, and no compiler sees it


def _paths(command: Command) -> Iterator[str]:
    """Yield the file that a command names, and whatever else in quotes could be one for the compiler."""
    file = named_file(command)
    values = (*command.args, *(value for _, value in command.kwargs))
    for each in (part for value in values for part in (value if isinstance(value, tuple) else (value,))):
        if isinstance(each, str) and not isinstance(each, Word | Glob) and (each == file or set("/\\.~") & set(each)):
            yield each
