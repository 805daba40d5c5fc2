"""The benchmark on the machine where it runs: for a build that hands it over, or for a person who wants it anew.

The rule: what is measured is a stage's result like any other. A hand-over is taken from the store and given back there.
"""

from __future__ import annotations

import logging
import re

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.provenance import machine, versions
from flows.worker import end_with_worker
from hefjoin.builds.find import find_published, read_manifest
from hefjoin.errors import HefJoinError
from hefjoin.folders import STORE, work_folder
from hefjoin.manifest import DeviceHost
from hefjoin.report import measured_markdown
from hefjoin.results.measured import Measured
from hefjoin.sdk.toolchain import resolve
from hefjoin.service import require_store
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.contract import Outcome
from hefjoin.stages.handover import Given, Handover, Wanted
from hefjoin.stores import Store, open_store
from hefjoin.stores.claims import claimed
from hefjoin.stores.pins import HANDED_OVER, running
from tasks import benchmark as perform
from tasks.site import Site, workplace

logger = logging.getLogger("hefjoin.flows")


def run_name() -> str:
    """Return the name of a run: after the build that a person named; the one that a build gave it stays."""
    build = str(flow_run.parameters["build"])
    return str(flow_run.name) if build.startswith(f"{HANDED_OVER}/") else f"benchmark {build}"


@flow(name="benchmark", flow_run_name=run_name, persist_result=False)
def benchmark(build: str, store: str = STORE) -> Measured | None:
    """Run a build's HEF on the device of the worker's machine, and time it.

    Args:
        build: Whose HEF: a build's id or how it begins, a name for its latest build, name@3 for its third. A build that
            hands its benchmark over puts handover/… here.
        store: Where the build lies: a folder or s3://bucket/prefix.
    """
    end_with_worker()
    require_store(store)
    place = open_store(store)
    if build.startswith(f"{HANDED_OVER}/"):
        return _handed_over(place, build)
    return _anew(place, build)


def _handed_over(place: Store, key: str) -> Measured | None:
    handover = Handover(place, key)
    with claimed(place, key, "benchmark"):
        wanted = handover.wanted()
        if wanted is None:
            logger.info("nobody waits for %s in %s", key, place.uri)
            return None
        try:
            outcome = _performed(place, wanted)
        except HefJoinError as error:
            handover.refuse(error)
            raise
        handover.give(Given(value=outcome.value, run=outcome.run, by=_here()))
        return outcome.value


def _performed(place: Store, wanted: Wanted) -> Outcome[Measured]:
    site = _site(place, wanted.build, force=wanted.force)
    return perform(site.model_copy(update={"earlier_keys": wanted.earlier_keys}), wanted.here()).result()


def _anew(place: Store, build: str) -> Measured:
    """Measure again, though it was measured; the figure is what the next build of this machine reuses."""
    manifest = read_manifest(place, find_published(build, place))
    stage = Benchmark.of(manifest.spec, manifest.check, manifest.quantized, manifest.compiled)
    with running(place, f"benchmark {manifest.build_id}") as pinning:
        site = _site(place, pinning, force=True)
        workplace(site).pin([stage.hef, stage.evaluation.npy, stage.outputs])
        measured: Measured = perform(site, stage).result().value
    key = f"benchmark-{re.sub('[^a-z0-9]+', '-', manifest.spec.name)}"
    create_markdown_artifact(measured_markdown(manifest, measured, machine()), key=key)
    return measured


def _site(place: Store, build: str, *, force: bool) -> Site:
    """Return where the stage works; it asks no compiler anything."""
    return Site(store=place.uri, work=str(work_folder()), toolchain=resolve("emulator"), force=force, build=build)


def _here() -> DeviceHost:
    return DeviceHost(machine=machine(), versions=versions())
