"""The main job: parse in parallel, check, forecast, join, quantize, repair, compile, benchmark, score, publish."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import uuid4

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import device as elsewhere
from flows.form import Like, build_name, rename
from flows.outcome import as_state
from flows.provenance import code_sha256, machine, versions
from flows.worker import end_with_worker
from hefjoin.builds.find import Build, latest_build
from hefjoin.builds.speed import change_since_promoted
from hefjoin.errors import HefJoinError, combined
from hefjoin.folders import STORE, work_folder
from hefjoin.manifest import Manifest
from hefjoin.results.measured import Measured
from hefjoin.results.timed import SpeedChange
from hefjoin.sdk.process import stop_running_steps
from hefjoin.sdk.toolchain import Choice, resolve
from hefjoin.spec import BuildSpec
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.cover import CoverStage, known
from hefjoin.stages.forecast import compared
from hefjoin.stages.gates import judge
from hefjoin.stores import open_store
from hefjoin.stores.claims import stop_waiting
from hefjoin.stores.pins import running
from tasks import (
    benchmark,
    check,
    compile_joined,
    couple,
    fetch,
    forecast,
    join,
    parse,
    publish,
    quantize,
    read,
    repair,
    score,
)
from tasks.log import keep_to_the_point
from tasks.site import Site, workplace
from tasks.summary import leave_failure

PARALLEL_PARSES = 4

logger = logging.getLogger("hefjoin.flows")


def results(futures: Sequence[PrefectFuture[Any]]) -> list[Any]:
    """Return what all gave; where several failed, one error that tells of each."""
    try:
        found = [future.result(raise_on_failure=False) for future in futures]
    except BaseException:  # a signal; on SIGTERM it is Prefect who hears it, and waits for the threads of all tasks
        stop_waiting()
        stop_running_steps()
        raise
    failures = [result for result in found if isinstance(result, BaseException)]
    if own := [error for error in failures if isinstance(error, HefJoinError)]:
        raise combined(own)
    if failures:
        raise failures[0]
    return found


FLOW: dict[str, Any] = {
    "name": "join-and-compile",
    "flow_run_name": build_name,
    "task_runner": ThreadPoolTaskRunner(max_workers=PARALLEL_PARSES),
    "persist_result": False,
}
"""Two doors, one flow: a form that fills in a spec, and one that names a file."""


@flow(**FLOW)
def join_and_compile(
    spec: Annotated[Any, Like(BuildSpec)] = None,
    spec_file: str = "",
    store: str = STORE,
    sdk: Choice = "auto",
    device: elsewhere.Choice = "inline",
    force: bool = False,
) -> Build:
    """Join networks that share one image, quantize them, compile them to one HEF, measure it, publish it.

    Args:
        spec: What to build.
        spec_file: Instead of spec, which is then left out: a YAML or JSON file with it, a path or s3://bucket/key.
        store: Where artifacts go: a folder or s3://bucket/prefix.
        sdk: Which compiler: the DFC, the emulator, or auto: the DFC where one is configured.
        device: Where the HEF is measured: inline, on the machine that builds it; pool, on one of the pool hailo8.
        force: Build everything anew, though nothing changed.
    """
    built: Build = _told(spec, spec_file, store, sdk, device, force)
    return built


@flow(**FLOW)
def join_and_compile_file(
    spec_file: str,
    store: str = STORE,
    sdk: Choice = "auto",
    device: elsewhere.Choice = "inline",
    force: bool = False,
) -> Build:
    """Do what join_and_compile does with a spec that lies in a file: the form of a person who has one.

    Args:
        spec_file: A YAML or JSON file that says what to build: a path or s3://bucket/key.
        store: Where artifacts go: a folder or s3://bucket/prefix.
        sdk: Which compiler: the DFC, the emulator, or auto: the DFC where one is configured.
        device: Where the HEF is measured: inline, on the machine that builds it; pool, on one of the pool hailo8.
        force: Build everything anew, though nothing changed.
    """
    built: Build = _told(None, spec_file, store, sdk, device, force)
    return built


def _told(spec: Any, spec_file: str, store: str, sdk: Choice, device: elsewhere.Choice, force: bool) -> Any:
    """Build, and say in the run's last state what came of it, in the UI also why it failed; Prefect gives the build."""
    end_with_worker()
    keep_to_the_point()
    name = ""
    try:
        wanted = read(spec, spec_file, store)
        name = wanted.name
        rename(f"build {name}")
        return as_state(_at_home(wanted, store, sdk, device, force))
    except HefJoinError as error:
        leave_failure(error, name)
        return Failed(message=error.message, data=error)


def _at_home(spec: BuildSpec, store: str, sdk: Choice, device: elsewhere.Choice, force: bool) -> Build:
    """Build in a store, and keep there what the build needs."""
    if device == "pool":
        elsewhere.require_pool()
    toolchain, place = resolve(sdk, spec.dfc_python), open_store(store)
    with running(place, f"build {spec.name}") as build:
        before = latest_build(place, toolchain.sdk.provider, spec.name)
        site = Site(
            store=store,
            work=str(work_folder()),
            toolchain=toolchain,
            force=force,
            earlier_keys=before.manifest.stage_keys if before else {},
            build=build,
        )
        return _built(site, spec, device)


def _built(site: Site, spec: BuildSpec, device: elsewhere.Choice) -> Build:
    """Take all steps, in their order."""
    begun = time.monotonic()
    fetched = fetch(site, spec)
    parsing = [parse.submit(site, spec, model, fetched) for model in spec.models]
    parsed = dict(zip((model.name for model in spec.models), results(parsing), strict=True))
    networks = {name: outcome.value for name, outcome in parsed.items()}
    checked = check(site, spec, networks, fetched).result()
    foreseen = forecast(site, spec, networks).result()
    joined = join(site, spec, networks, checked.value).result()
    quantized = quantize(site, spec, checked.value, joined.value).result()
    repaired = repair(site, spec, checked.value, joined.value, quantized.value).result()
    coupled = couple(site, spec, networks, checked.value, joined.value, repaired.value).result()
    final = repaired.value.quantized
    compiled = compile_joined(site, spec, checked.value, joined.value, final).result()
    stage = Benchmark.of(spec, checked.value, final, compiled.value)
    handed_over = elsewhere.benchmark_elsewhere(site, stage) if device == "pool" else None
    measured = handed_over.outcome if handed_over else benchmark(site, stage).result()
    host = handed_over.by.machine.host if handed_over and handed_over.by else machine().host
    scored = score(site, spec, checked.value, joined.value, final, measured.value).result()

    covered = known(CoverStage.of(spec, fetched, checked.value, resolve("emulator").sdk), workplace(site))
    measured_before = [covered] if covered else []

    before_compile: list[Any] = [*parsed.values(), checked, foreseen, joined, quantized, repaired, coupled]
    manifest = Manifest(
        build_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid4().hex[:8]}",
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=round(time.monotonic() - begun, 3),
        sdk=site.toolchain.sdk,
        spec=spec,
        fetched=fetched,
        models=networks,
        check=checked.value,
        forecast=foreseen.value,
        joined=joined.value,
        quantized=final,
        mends=repaired.value.mends,
        repair=repaired.value.repair,
        coupled=coupled.value,
        compiled=compiled.value,
        compared=compared(foreseen.value, compiled.value),
        measured=measured.value,
        scored=scored.value,
        covered=covered.value if covered else None,
        gates=judge(spec.gates, final, measured.value, scored.value, _speed(site, spec, measured.value, host)),
        stages=tuple(outcome.run for outcome in (*before_compile, compiled, measured, scored, *measured_before)),
        machine=machine(),
        measured_by=handed_over.by if handed_over else None,
        versions=versions(),
        code_sha256=code_sha256(),
    )
    built: Build = publish(site, manifest).result()
    if handed_over:
        handed_over.handover.forget()
    return built


def _speed(site: Site, spec: BuildSpec, measured: Measured, host: str) -> SpeedChange | None:
    """Return how the HEF compares with the build before it; what no gate asks for is not looked up."""
    if spec.gates.max_regression_percent >= 100:
        return None
    return change_since_promoted(workplace(site).store, site.toolchain.sdk.provider, spec.name, measured, host)
