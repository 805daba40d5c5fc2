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
    from flows.provenance import earlier_keys, machine, versions
    from hefjoin.manifest import Manifest
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec import load_spec
    from hefjoin.stages.contract import Workplace
    from hefjoin.stages.fetch import fetch
    from hefjoin.stages.publish import judge, latest, publish
    from hefjoin.stores import open_store

    spec, store, toolchain = load_spec(Path(spec_path)), open_store(store_uri), resolve("emulator")
    before = latest(store, toolchain.sdk.provider, spec.name)
    root = Path(os.environ["HEFJOIN_WORK"])
    place = Workplace(store=store, root=root, toolchain=toolchain, earlier_keys=earlier_keys(store, before))
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
