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
    from flows.provenance import latest_build, machine, versions
    from hefjoin.manifest import Manifest
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec import load_spec
    from hefjoin.stages.contract import Workplace
    from hefjoin.stages.fetch import fetch
    from hefjoin.stages.publish import judge, publish
    from hefjoin.stores import open_store

    spec, store, toolchain = load_spec(Path(spec_path)), open_store(store_uri), resolve("emulator")
    before = latest_build(store, toolchain.sdk.provider, spec.name)
    root = Path(os.environ["HEFJOIN_WORK"])
    place = Workplace(store=store, root=root, toolchain=toolchain, earlier_keys=before.keys if before else {})
    fetched = fetch(spec, store, root / "cache" / spec.name)
    parsed = _parse(spec, fetched, place)
    networks = {name: outcome.value for name, outcome in parsed.items()}
    rest = _from_check_to_benchmark(spec, fetched, networks, place)
    results = {name: outcome.value for name, outcome in rest.items()}
    outcomes = [*parsed.values(), *rest.values()]
    manifest = Manifest(
        build_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid4().hex[:8]}",
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        sdk=toolchain.sdk,
        spec=spec,
        fetched=fetched,
        models=networks,
        **results,
        gates=judge(spec.gates, results["quantized"].accuracy, results["measured"]),
        stages=tuple(outcome.run for outcome in outcomes),
        machine=machine(),
        versions=versions(),
    )
    if before is None or not manifest.repeats(before.manifest):
        publish(manifest, place)
    return [outcome.run.is_reused for outcome in outcomes]


def _parse(spec: Any, fetched: Any, place: Any) -> dict[str, Any]:
    from hefjoin.stages.contract import perform
    from hefjoin.stages.parse import Parse

    def parse(model: Any) -> Any:
        stage = Parse(
            name=model.name,
            source=fetched.models[model.name],
            hw_arch=spec.hw_arch,
            input_shape=tuple(model.input_shape),
            start_nodes=tuple(model.start_nodes),
            end_nodes=tuple(model.end_nodes),
            sdk=place.toolchain.sdk,
        )
        return perform(stage, place)

    with ThreadPoolExecutor(len(spec.models)) as threads:
        return dict(zip((model.name for model in spec.models), threads.map(parse, spec.models), strict=True))


def _from_check_to_benchmark(spec: Any, fetched: Any, networks: dict[str, Any], place: Any) -> dict[str, Any]:
    """Return the outcomes under the manifest's names."""
    from hefjoin.stages.check import Branch, Check
    from hefjoin.stages.contract import perform
    from hefjoin.stages.forecast import ForecastStage
    from hefjoin.stages.join import Join
    from hefjoin.stages.script import assemble

    sdk = place.toolchain.sdk
    branches = tuple(
        Branch(
            name=model.name,
            network=networks[model.name],
            mean=tuple(model.mean),
            std=tuple(model.std),
            color=model.color,
        )
        for model in spec.models
    )
    check = perform(Check(branches=branches, calibration=fetched.calibration, evaluation=fetched.evaluation), place)
    checked = check.value
    forecast = perform(ForecastStage(networks=networks, hw_arch=spec.hw_arch), place)
    join = perform(
        Join(
            networks=tuple((model.name, networks[model.name]) for model in spec.models),
            frames=checked.calibration.npy,
            mean=checked.mean,
            std=checked.std,
            sdk=sdk,
        ),
        place,
    )
    script = assemble(spec, checked, join.value)
    return {
        "check": check,
        "forecast": forecast,
        "joined": join,
        **_from_quantize_to_benchmark(spec, checked, join.value, script, place),
    }


def _from_quantize_to_benchmark(spec: Any, checked: Any, joined: Any, script: Any, place: Any) -> dict[str, Any]:
    from hefjoin.stages.benchmark import Benchmark
    from hefjoin.stages.compile import Compile
    from hefjoin.stages.contract import perform
    from hefjoin.stages.quantize import Quantize
    from hefjoin.stages.script import before_compile, before_optimize

    sdk = place.toolchain.sdk
    quantize = perform(
        Quantize(
            name=joined.name,
            har=joined.network.har,
            output_layers=joined.output_layers,
            script=before_optimize(script),
            requested_level=spec.quantization.optimization_level,
            calibration=checked.calibration.npy,
            evaluation=checked.evaluation,
            sdk=sdk,
        ),
        place,
    )
    compiled = perform(
        Compile(
            name=joined.name,
            har=quantize.value.har,
            script=before_compile(script),
            single_context=spec.compile.single_context,
            outputs=joined.output_layers,
            sdk=sdk,
        ),
        place,
    )
    benchmark = perform(
        Benchmark(
            name=spec.name,
            hef=compiled.value.hef,
            is_emulated=compiled.value.is_emulated,
            frames=checked.evaluation.npy,
            batch_sizes=tuple(spec.benchmark.batch_sizes),
            seconds=spec.benchmark.seconds,
            device=spec.benchmark.device,
            host=Benchmark.this_host(),
        ),
        place,
    )
    return {"quantized": quantize, "compiled": compiled, "measured": benchmark}
