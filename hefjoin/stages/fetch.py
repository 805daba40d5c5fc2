"""Fetch: know every source of a build by content before anything is computed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from hefjoin.calibration import set_sha256
from hefjoin.errors import InputError, Problem, SpecError
from hefjoin.formats import onnx_file, onnx_weights
from hefjoin.results.sources import Fetched, FrameSource
from hefjoin.spec import BuildSpec
from hefjoin.stores import Store

PACKAGE = "package://"
S3 = "s3://"
WEIGHTS = "weights"
"""Media of a file beside a model."""


def fetch(spec: BuildSpec, store: Store, cache: Path) -> Fetched:
    """Bring the models into the store and the frame sets within reach.

    Requires: every source exists. Ensures: each model is an artifact of the store, and so is each file beside it that
    holds its weights; each set has a digest.

    Args:
        spec: What to build.
        store: Where the models go.
        cache: A folder for what comes from S3.

    Raises:
        SpecError: Sources that cannot be found, or weights beside a model that are not whole; all are listed.
        StoreError: S3 or the store cannot be reached.
    """
    paths = locate(spec)
    for where, source in _sources(spec).items():
        if source.startswith(S3):
            paths[where] = _from_s3(source, cache)
    sets = {
        field: FrameSource(uri=str(path), sha256=set_sha256(path), count=section.count)
        for field, section in (("calibration", spec.calibration), ("evaluation", spec.evaluation))
        if (path := paths.get(f"{field}.source"))
    }
    models = {model.name: paths[f"models[{index}].source"] for index, model in enumerate(spec.models)}
    weights = _weights(spec, models)
    further = sets["calibration"].model_copy(update={"count": spec.evaluation.count})
    return Fetched(
        models={name: store.put(path, path.suffix.lower().lstrip(".")) for name, path in models.items()},
        weights={
            name: {file: store.put(models[name].parent / file, WEIGHTS) for file in files}
            for name, files in weights.items()
        },
        calibration=sets["calibration"],
        evaluation=sets.get("evaluation", further),
    )


def locate(spec: BuildSpec) -> dict[str, Path]:
    """Return where the sources that are on this machine lie, by field; what is in S3 is left out.

    Raises:
        SpecError: Sources that are not there; all are listed.
    """
    problems: list[Problem] = []
    found = {
        where: _in_package(source, where, problems) if source.startswith(PACKAGE) else Path(source).expanduser()
        for where, source in _sources(spec).items()
        if not source.startswith(S3)
    }
    paths = {where: path for where, path in found.items() if path is not None}
    for where, path in paths.items():
        if not path.exists():
            problems.append(Problem(where, f"{path} does not exist"))
        elif path.is_dir() and where.startswith("models"):
            problems.append(Problem(where, f"{path} is a folder, not a model"))
    if problems:
        raise SpecError(problems, where=f"the spec of {spec.name}")
    return paths


def _sources(spec: BuildSpec) -> dict[str, str]:
    named = {f"models[{index}].source": model.source for index, model in enumerate(spec.models)}
    named |= {"calibration.source": spec.calibration.source, "evaluation.source": spec.evaluation.source}
    return {where: source for where, source in named.items() if source}


def _in_package(source: str, where: str, problems: list[Problem]) -> Path | None:
    package, _, file = source.removeprefix(PACKAGE).partition("/")
    found = find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        problems.append(
            Problem(
                where,
                f"the package {package!r} is not installed; the examples' packages come with hefjoin[examples]",
            )
        )
        return None
    root = Path(next(iter(found.submodule_search_locations))).resolve()
    path = (root / file).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        problems.append(Problem(where, f"the package {package!r} has no file {file!r}"))
        return None
    return path


def _weights(spec: BuildSpec, paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the files beside each model that hold weights of its, relative to its folder."""
    problems: list[Problem] = []
    found = {}
    for index, model in enumerate(spec.models):
        try:
            if files := _beside(paths[model.name], model.source):
                found[model.name] = files
        except InputError as error:
            problems.append(Problem(f"models[{index}].source", str(error)))
    if problems:
        raise SpecError(problems, where=f"the spec of {spec.name}")
    return found


def _beside(path: Path, source: str) -> list[str]:
    """Return the files that a model names, all of them whole; those of a model in S3 are brought from beside it."""
    if path.suffix.lower() != ".onnx":
        return []
    try:
        model = onnx_file.load(path)
    except InputError:
        return []  # `parse` says what is wrong with it
    try:
        files = onnx_weights.files(model)
    except ValueError as error:
        raise InputError(f"{path}: {error}; export the model again, with its weights beside it") from error
    if files and source.startswith(S3):
        from hefjoin.stores.s3 import fetch_objects

        fetch_objects({f"{source.rpartition('/')[0]}/{file}": path.parent / file for file in files})
    onnx_weights.refuse_unless_whole(model, path)
    return files


def _from_s3(source: str, cache: Path) -> Path:
    """Bring an object, or all objects below a prefix, to a folder of their own."""
    from hefjoin.stores.s3 import fetch_object, fetch_objects, list_objects

    folder = cache / hashlib.sha256(source.encode()).hexdigest()[:16]
    if not source.endswith("/"):
        folder.mkdir(parents=True, exist_ok=True)
        return fetch_object(source, folder / source.rpartition("/")[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fetch_objects({uri: folder / uri.removeprefix(source).replace("/", "__") for uri in list_objects(source)})
    return folder
