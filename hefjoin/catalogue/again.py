"""The stages of a build once more, from the results that it left: were it built again, which would do other work?

The rule: a stage is judged by its key alone, made of what this version of hefjoin would read. Nothing is run and
nothing is stored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hefjoin.artifacts import Ref, file_sha256
from hefjoin.errors import HefJoinError
from hefjoin.manifest import Manifest
from hefjoin.results.quantized import Quantized, Repaired
from hefjoin.results.sources import Fetched
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import BuildSpec
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.check import Check
from hefjoin.stages.compile import Compile
from hefjoin.stages.contract import NO_KEY, Stage, Workplace, earlier_run, what_changed
from hefjoin.stages.couple import Couple
from hefjoin.stages.forecast import ForecastStage
from hefjoin.stages.join import Join
from hefjoin.stages.parse import Parse
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.repair import RepairStage
from hefjoin.stages.score import Score
from hefjoin.stores import Store


class Look(Workplace):
    """A workplace that stores nothing: a file gets the reference that it would have."""

    def put(self, path: Path, media: str) -> Ref:
        """Return the reference of a file."""
        return Ref(uri="", sha256=file_sha256(path), size_bytes=path.stat().st_size, media=media)


def other_work(
    spec: BuildSpec, earlier: Manifest, fetched: Fetched, toolchain: Toolchain, store: Store
) -> tuple[list[str], list[str]]:
    """Return why stages would not be reused, in words, and of which that cannot be told here.

    Args:
        spec: The spec, in which nothing changed since.
        earlier: The build.
        fetched: The sources now.
        toolchain: The compiler now.
        store: Where the build is.

    Raises:
        StoreError: The store cannot be read.
    """
    reasons: list[str] = []
    unknown: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        look = Look(store=store, root=Path(folder), toolchain=toolchain, earlier_keys=earlier.stage_keys)
        for title, make in _stages(spec, earlier, fetched, look):
            try:
                stage = make()
            except HefJoinError as error:
                unknown.append(f"whether {title} would do other work: {error}")
                continue
            if stage is not None and stage.key != look.earlier_keys.get(title, NO_KEY):
                reasons.append(f"{title}: {what_changed(stage, look)}")
    return reasons, unknown


def _stages(spec: BuildSpec, earlier: Manifest, fetched: Fetched, look: Look) -> Iterator[tuple[str, Any]]:
    """Yield the title of each stage, and what makes it: the stage, or None where too little is left to say."""
    sdk, networks, checked, joined = look.toolchain.sdk, earlier.models, earlier.check, earlier.joined
    final, measured = earlier.quantized, earlier.measured
    for model in spec.models:
        source, weights = fetched.models[model.name], fetched.weights.get(model.name)
        yield f"parse {model.name}", lambda m=model, s=source, w=weights: Parse.of(spec, m, s, sdk, w)
    yield "check", lambda: Check.of(spec, networks, fetched)
    yield "forecast", lambda: ForecastStage.of(spec, networks)
    yield "join", lambda: Join.of(spec, networks, checked, sdk)
    yield "quantize", lambda: Quantize.of(spec, checked, joined, look)
    yield "repair", lambda: _repair(spec, earlier, look)
    repaired = Repaired(quantized=final, repair=earlier.repair, mends=earlier.mends)
    yield "couple", lambda: Couple.of(spec, networks, checked, joined, repaired, look)
    yield "compile", lambda: Compile.of(spec, checked, joined, final, sdk)
    yield "benchmark", lambda: _benchmark(spec, earlier, look)
    yield "score", lambda: Score.of(spec, checked, joined, final, measured)


def _repair(spec: BuildSpec, earlier: Manifest, look: Look) -> Stage[Any] | None:
    """Return the repair of the network as it was first quantized; of that the store knows, where layers were raised."""
    first: Quantized | None = earlier.quantized
    if earlier.repair is not None and earlier.repair.rounds:
        found, _ = earlier_run(Quantize.stage, look.earlier_keys.get(Quantize.stage, NO_KEY), look)
        try:
            first = None if found is None else Quantized.model_validate(found.result)
        except ValidationError:
            first = None
    return None if first is None else RepairStage.of(spec, earlier.check, earlier.joined, first, look)


def _benchmark(spec: BuildSpec, earlier: Manifest, look: Look) -> Stage[Any] | None:
    """Return the benchmark as it was done on the machine that did it; one that found no device is not repeated."""
    found, _ = earlier_run(Benchmark.stage, look.earlier_keys.get(Benchmark.stage, NO_KEY), look)
    if found is None:
        return None
    stage = Benchmark.of(spec, earlier.check, earlier.quantized, earlier.compiled)
    return stage.model_copy(update={"host": found.inputs.get("host", stage.host)})
