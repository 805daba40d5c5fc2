"""The main job without Prefect: the same stages in the same order, called by a plain script."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4


def build(spec_path: str, store_uri: str) -> list[bool]:
    """Build a spec; returns for every stage whether it was reused."""
    from flows.provenance import code_sha256, machine, versions
    from hefjoin.builds.find import latest_build
    from hefjoin.manifest import Manifest
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages.contract import Workplace
    from hefjoin.stages.fetch import fetch
    from hefjoin.stages.gates import judge
    from hefjoin.stages.publish import publish
    from hefjoin.stores import open_store

    begun = time.monotonic()
    spec, store, toolchain = read_spec(Path(spec_path)), open_store(store_uri), resolve("emulator")
    before = latest_build(store, toolchain.sdk.provider, spec.name)
    root = Path(os.environ["HEFJOIN_WORK"])
    place = Workplace(
        store=store, root=root, toolchain=toolchain, earlier_keys=before.manifest.stage_keys if before else {}
    )
    fetched = fetch(spec, place.put, root / "cache" / spec.name)
    parsed = _parse(spec, fetched, place)
    networks = {name: outcome.value for name, outcome in parsed.items()}
    rest = _from_check_to_score(spec, fetched, networks, place)
    results = {name: outcome.value for name, outcome in rest.items()}
    repaired = results.pop("repaired")
    results |= {"quantized": repaired.quantized, "repair": repaired.repair, "mends": repaired.mends}
    outcomes = [*parsed.values(), *rest.values()]
    manifest = Manifest(
        build_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid4().hex[:8]}",
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=round(time.monotonic() - begun, 3),
        sdk=toolchain.sdk,
        spec=spec,
        fetched=fetched,
        models=networks,
        **results,
        gates=judge(spec.gates, results["quantized"], results["measured"], results["scored"]),
        stages=tuple(outcome.run for outcome in outcomes),
        machine=machine(),
        versions=versions(),
        code_sha256=code_sha256(),
    )
    publish(manifest, place)
    return [outcome.run.is_reused for outcome in outcomes]


def _parse(spec: Any, fetched: Any, place: Any) -> dict[str, Any]:
    from hefjoin.stages.contract import perform
    from hefjoin.stages.parse import Parse

    def parse(model: Any) -> Any:
        return perform(Parse.of(spec, model, fetched.models[model.name], place.toolchain.sdk), place)

    with ThreadPoolExecutor(len(spec.models)) as threads:
        return dict(zip((model.name for model in spec.models), threads.map(parse, spec.models), strict=True))


def _from_check_to_score(spec: Any, fetched: Any, networks: dict[str, Any], place: Any) -> dict[str, Any]:
    """Return the outcomes, in their order, under the manifest's names."""
    from hefjoin.stages.benchmark import Benchmark
    from hefjoin.stages.check import Check
    from hefjoin.stages.compile import Compile
    from hefjoin.stages.contract import perform
    from hefjoin.stages.couple import Couple
    from hefjoin.stages.forecast import ForecastStage
    from hefjoin.stages.join import Join
    from hefjoin.stages.quantize import Quantize
    from hefjoin.stages.repair import RepairStage
    from hefjoin.stages.score import Score

    sdk = place.toolchain.sdk
    check = perform(Check.of(spec, networks, fetched), place)
    forecast = perform(ForecastStage.of(spec, networks), place)
    join = perform(Join.of(spec, networks, check.value, sdk), place)
    quantize = perform(Quantize.of(spec, check.value, join.value, place), place)
    repair = perform(RepairStage.of(spec, check.value, join.value, quantize.value, place), place)
    couple = perform(Couple.of(spec, networks, check.value, join.value, repair.value, place), place)
    final = repair.value.quantized
    compiled = perform(Compile.of(spec, check.value, join.value, final, sdk), place)
    measured = perform(Benchmark.of(spec, check.value, final, compiled.value), place)
    scored = perform(Score.of(spec, check.value, join.value, final, measured.value), place)
    return {
        "check": check,
        "forecast": forecast,
        "joined": join,
        "quantized": quantize,
        "repaired": repair,
        "coupled": couple,
        "compiled": compiled,
        "measured": measured,
        "scored": scored,
    }
