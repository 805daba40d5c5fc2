"""Forecast without a build: parse models as one does, in a folder that is gone afterwards, and add up what they take.

The rule: what is foretold is foretold of the very networks that a build would join, counted as a build counts them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

from hefjoin.artifacts import Ref
from hefjoin.errors import Problem, SpecError
from hefjoin.forecast.limits import default_limits
from hefjoin.results.checked import Forecast
from hefjoin.results.networks import Network
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import MODEL_SUFFIXES, BuildSpec, HwArch, ModelSpec
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.fetch import Models, fetch_models
from hefjoin.stages.forecast import ForecastStage
from hefjoin.stages.network import describe
from hefjoin.stages.parse import Parse
from hefjoin.stores import open_store

AT_ONCE = 4
NAME_CHARACTERS = 30


def of_spec(spec: BuildSpec, toolchain: Toolchain, cache: Path) -> Forecast:
    """Forecast what a spec builds; its frames are not looked at.

    Args:
        spec: What would be built.
        toolchain: Who parses the models.
        cache: The folder of the cache of what comes from S3.

    Raises:
        SpecError: Sources that are not there or cannot be parsed; all are listed.
        HefJoinError: What the parse of a build raises.
    """
    with TemporaryDirectory(prefix="hefjoin-forecast-") as folder:
        place = _place(Path(folder), toolchain)
        models = fetch_models(f"the spec of {spec.name}", spec.models, place.put, cache)
        stages = [
            Parse.of(spec, model, models.models[model.name], toolchain.sdk, models.weights.get(model.name))
            for model in spec.models
        ]
        return perform(ForecastStage.of(spec, _parsed(stages, place)), place).value


def of_files(paths: Sequence[Path], hw_arch: HwArch, toolchain: Toolchain, cache: Path) -> Forecast:
    """Forecast model files, joined if they are several, as a script that says nothing compiles them.

    Args:
        paths: ONNX files and HARs.
        hw_arch: The chip.
        toolchain: Who parses them.
        cache: As of `of_spec`.

    Raises:
        SpecError: Files that are not there, or no models.
        HefJoinError: What the parse of a build raises.
    """
    with TemporaryDirectory(prefix="hefjoin-forecast-") as folder:
        place = _place(Path(folder), toolchain)
        models = _models(paths)
        found = fetch_models("the list of models", models, place.put, cache)
        networks = _parsed([_parse(model, found, hw_arch, toolchain) for model in models], place)
        return perform(ForecastStage(networks=networks, hw_arch=hw_arch, limits=default_limits()), place).value


def _place(folder: Path, toolchain: Toolchain) -> Workplace:
    return Workplace(open_store(str(folder / "store")), folder / "work", toolchain)


def _parsed(stages: Sequence[Parse], place: Workplace) -> dict[str, Network]:
    """Parse what is an ONNX file; a HAR is read as it is, whoever made it and in whichever state."""

    def network(stage: Parse) -> Network:
        if stage.source.media != "har":
            return perform(stage, place).value
        return describe(place.store.get(stage.source, place.root / stage.name / "model.har"), stage.source)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(network, stages))
    return {stage.name: network for stage, network in zip(stages, found, strict=True)}


def _parse(model: ModelSpec, found: Models, hw_arch: HwArch, toolchain: Toolchain) -> Parse:
    source: Ref = found.models[model.name]
    return Parse(
        name=model.name,
        source=source,
        weights=found.weights.get(model.name, {}),
        hw_arch=hw_arch,
        input_shape=(),
        start_nodes=(),
        end_nodes=(),
        sdk=toolchain.sdk,
    )


def _models(paths: Sequence[Path]) -> list[ModelSpec]:
    """Return the files as models, named after themselves; a name that is taken gets a number."""
    problems = [
        Problem(f"models[{index}].source", f"{path} is neither an .onnx nor a .har file")
        for index, path in enumerate(paths)
        if not path.name.lower().endswith(MODEL_SUFFIXES)
    ]
    if problems:
        raise SpecError(problems, where="the list of models")
    found: list[ModelSpec] = []
    for path in paths:
        found.append(ModelSpec(name=_name(path, {model.name.lower() for model in found}), source=str(path)))
    return found


def _name(path: Path, taken: Container[str]) -> str:
    """Return a scope made of a file's name."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_")[:NAME_CHARACTERS] or "model"
    name = name if name[0].isalpha() else f"model_{name}"
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(each for each in names if each.lower() not in taken)
