"""Fetch: know every source of a build by content before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hefjoin.artifacts import Ref
from hefjoin.calibration import set_sha256
from hefjoin.errors import InputError, Problem, SpecError, StoreError
from hefjoin.formats import onnx_file, onnx_weights
from hefjoin.results.sources import Fetched, FrameSource
from hefjoin.sdk.log import Progress
from hefjoin.service import source_refusal
from hefjoin.sources import held
from hefjoin.sources.bucket import Server, Version
from hefjoin.sources.cache import Cache
from hefjoin.sources.find import Found, beside, find, is_afar
from hefjoin.spec import BuildSpec, ModelSpec

PACKAGE = "package://"
WEIGHTS = "weights"
"""Media of a file beside a model."""


def fetch(
    spec: BuildSpec,
    put: Callable[[Path, str], Ref],
    cache: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> Fetched:
    """Bring the models into the store and the frame sets within reach.

    Requires: every source exists. Ensures: each model is an artifact of the store, and so is each file beside it that
    holds its weights; each set has a digest. A set from S3 lies in a folder that this process holds until it is
    released (`hefjoin.sources.held`) or the process ends.

    Args:
        spec: What to build.
        put: Leaves a file of a media in the store, as `Workplace.put` does.
        cache: The folder of the cache of what comes from S3.
        on_progress: Told how many objects from S3 are there.

    Raises:
        SpecError: Sources that cannot be found, or weights beside a model that are not whole; all are listed.
        StoreError: S3 or the store cannot be reached.
    """
    located = locate(spec)
    afar = Afar(located, cache, on_progress)
    try:
        paths = located.paths | afar.brought()
        models = {model.name: paths[f"models[{index}].source"] for index, model in enumerate(spec.models)}
        weights = _weights(f"the spec of {spec.name}", spec.models, models, afar)
        sets = {
            field: FrameSource(uri=str(path), sha256=set_sha256(path), count=section.count)
            for field, section in (("calibration", spec.calibration), ("evaluation", spec.evaluation))
            if (path := paths.get(f"{field}.source"))
        }
        fetched = Fetched(
            **_put(models, weights, put)._asdict(),
            calibration=sets["calibration"],
            evaluation=sets.get("evaluation", sets["calibration"].model_copy(update={"count": spec.evaluation.count})),
        )
    except BaseException:
        afar.release()
        raise
    for where in located.found:
        if where.startswith("models"):
            afar.release(where)
    return fetched


class Models(NamedTuple):
    """Models in a store."""

    models: dict[str, Ref]
    weights: dict[str, dict[str, Ref]]
    """The files beside each that hold its weights, by path below its folder."""


def fetch_models(name: str, models: Sequence[ModelSpec], put: Callable[[Path, str], Ref], cache: Path) -> Models:
    """Bring models alone into a store, for what needs no frames.

    Args:
        name: What they are for, in messages.
        models: Where they lie.
        put: As of `fetch`.
        cache: The same.

    Raises:
        SpecError: As `fetch` does.
        StoreError: The same.
    """
    located = _located(name, _model_sources(models))
    afar = Afar(located, cache, None)
    try:
        paths = located.paths | afar.brought()
        found = {model.name: paths[where] for model, where in zip(models, _model_sources(models), strict=True)}
        return _put(found, _weights(name, models, found, afar), put)
    finally:
        afar.release()


@dataclass(frozen=True)
class Reached:
    """Those of the sources that are there, on this machine."""

    paths: dict[str, Path]
    """By field."""
    weights: dict[str, list[str]]
    """By field of a model: the files beside it that hold its weights, relative to its folder."""
    problems: list[Problem]
    """With those that are not, and with weights that are not whole."""
    afar: Afar
    """To be released in the end."""


def reach(spec: BuildSpec, cache: Path) -> Reached:
    """Bring what is there of the sources within reach, and tell what is not; the store is not touched.

    Args:
        spec: What would be built.
        cache: The folder of the cache of what comes from S3.

    Raises:
        StoreError: S3 cannot be reached.
    """
    wanted = _sources(spec)
    problems: list[Problem] = []
    while True:
        try:
            located = _located(spec.name, wanted)
            break
        except SpecError as error:
            problems += error.problems
            missing = {problem.path.partition("source")[0] for problem in error.problems}
            wanted = {where: source for where, source in wanted.items() if where.partition("source")[0] not in missing}
    afar = Afar(located, cache, None)
    paths = located.paths | afar.brought()
    weights = {}
    for where, path in paths.items():
        try:
            weights[where] = _beside(path, where, afar, problems) if where.startswith("models") else []
        except InputError as error:
            problems.append(Problem(where, str(error)))
    return Reached(paths, weights, problems, afar)


def _put(models: Mapping[str, Path], weights: Mapping[str, Sequence[str]], put: Callable[[Path, str], Ref]) -> Models:
    return Models(
        models={name: put(path, path.suffix.lower().lstrip(".")) for name, path in models.items()},
        weights={
            name: {file: put(models[name].parent / file, WEIGHTS) for file in files} for name, files in weights.items()
        },
    )


def release(fetched: Fetched) -> None:
    """Give up the folders of sets that came from S3; those of other sets stay as they are."""
    for each in (fetched.calibration, fetched.evaluation):
        held.release(Path(each.uri))


@dataclass(frozen=True)
class Located:
    """Where the sources lie, by field."""

    paths: dict[str, Path]
    """Of those on this machine."""
    found: dict[str, Found]
    """Of those in S3."""
    server: Server | None
    """Where these lie; None where there are none."""


def locate(spec: BuildSpec, *, with_entries: bool = True, ask: Callable[..., Found | None] = find) -> Located:
    """Return where the sources lie.

    Args:
        spec: What to build.
        with_entries: Ask also for each entry of a list of objects in S3.
        ask: What asks the server for a source; who locates many sources may remember some.

    Raises:
        SpecError: Sources that are not there; all are listed.
        StoreError: S3 cannot be reached, and nothing else was wrong.
    """
    return _located(f"the spec of {spec.name}", _sources(spec), with_entries=with_entries, ask=ask)


def _located(
    name: str, sources: Mapping[str, str], *, with_entries: bool = True, ask: Callable[..., Found | None] = find
) -> Located:
    problems: list[Problem] = []
    paths = _on_this_machine(sources, problems)
    afar = {where: source for where, source in sources.items() if is_afar(source)}
    found: dict[str, Found] = {}
    server, failure = None, None
    try:
        server = Server(next(iter(afar.values())).split("\n")[0]) if afar else None
        for where, source in afar.items():
            if server and (each := ask(where, source, server, problems, with_entries=with_entries)):
                found[where] = each
    except StoreError as error:
        failure = error
    if problems:
        raise SpecError(problems, where=name) from failure
    if failure:
        raise failure
    return Located(paths, found, server)


def _on_this_machine(sources: Mapping[str, str], problems: list[Problem]) -> dict[str, Path]:
    found = {
        where: _in_package(source, where, problems) if source.startswith(PACKAGE) else Path(source).expanduser()
        for where, source in sources.items()
        if not is_afar(source)
    }
    paths = {where: path for where, path in found.items() if path is not None}
    for where, path in paths.items():
        if not path.exists():
            problems.append(Problem(where, f"{path} does not exist"))
        elif path.is_dir() and where.startswith("models"):
            problems.append(Problem(where, f"{path} is a folder, not a model"))
    return paths


class Afar:
    """The sources of one build that lie in S3, on their way through the cache."""

    def __init__(self, located: Located, folder: Path, on_progress: Callable[[Progress], None] | None) -> None:
        """Bring what was located through the cache in `folder`; nothing is touched where there is none."""
        self.found, self.server = located.found, located.server
        self._on_progress = on_progress
        self._cache = Cache(folder) if self.server else None
        self._own = {where: self._cache.own_folder() for where in self.found} if self._cache else {}

    def brought(self) -> dict[str, Path]:
        """Bring all objects here and return the file, or the folder of the set, of each field."""
        for where, each in self.found.items():
            self.take(where, each.files, each.source)
        return {
            where: self._own[where] if each.is_folder else self._own[where] / next(iter(each.files))
            for where, each in self.found.items()
        }

    def take(self, where: str, files: dict[str, Version], source: str) -> None:
        """Bring further objects to the folder of a field."""
        if self._cache and self.server:
            self._cache.take(files, self._own[where], self.server, source, self._on_done)

    def _on_done(self, done: int, total: int) -> None:
        if self._on_progress:
            self._on_progress(Progress("object", done, total))

    def release(self, *fields: str) -> None:
        """Give up the folders of these fields; of all where none is named."""
        for where in fields or self._own:
            held.release(self._own[where])


def _sources(spec: BuildSpec) -> dict[str, str]:
    named = _model_sources(spec.models)
    named |= {"calibration.source": spec.calibration.source, "evaluation.source": spec.evaluation.source}
    return {where: source for where, source in named.items() if source}


def _model_sources(models: Sequence[ModelSpec]) -> dict[str, str]:
    return {f"models[{index}].source": model.source for index, model in enumerate(models)}


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


def _weights(name: str, models: Sequence[ModelSpec], paths: Mapping[str, Path], afar: Afar) -> dict[str, list[str]]:
    """Return the files beside each model that hold weights of its, relative to its folder."""
    problems: list[Problem] = []
    found = {}
    for index, model in enumerate(models):
        where = f"models[{index}].source"
        try:
            if files := _beside(paths[model.name], where, afar, problems):
                found[model.name] = files
        except InputError as error:
            problems.append(Problem(where, str(error)))
    if problems:
        raise SpecError(problems, where=name)
    return found


def _beside(path: Path, where: str, afar: Afar, problems: list[Problem]) -> list[str]:
    """Return the files that a model names, all of them whole; those of a model in S3 are brought from beside it."""
    if path.suffix.lower() != ".onnx":
        return []
    try:
        if not onnx_weights.may_name_files(path):
            return []
        model = onnx_file.load(path)
    except (InputError, OSError):
        return []  # `parse` says what is wrong with it
    try:
        files = onnx_weights.files(model)
    except ValueError as error:
        raise InputError(f"{path}: {error}; export the model again, with its weights beside it") from error
    if files and afar.server and (each := afar.found.get(where)):
        known = len(problems)
        there = beside(each.source, files, afar.server, lambda _, text: problems.append(Problem(where, text)))
        if len(problems) > known:
            return []
        afar.take(where, there, each.source)
    elif files and (outside := [file for file in files if not _is_allowed(path.parent, file)]):
        raise InputError(f"{', '.join(outside)} beside {path} leads out of its folder, by a link")
    onnx_weights.refuse_unless_whole(model, path)
    return files


def _is_allowed(folder: Path, file: str) -> bool:
    """Return whether a service may read a file that a model names, its links followed."""
    found = (folder / file).resolve()
    return found.is_relative_to(folder.resolve()) or not source_refusal(str(found))
