"""Publish the build."""

from prefect import State, task
from prefect.events import emit_event
from prefect.states import Completed

from hefjoin.builds.find import Build
from hefjoin.manifest import Manifest
from hefjoin.report.summary import failed_gates
from hefjoin.stages import publish as stage
from tasks.site import STAGE_TASK, Site, workplace
from tasks.summary import leave_summary

GATE_FAILED = "hefjoin.gate.failed"


@task(name="publish", task_run_name="publish {manifest.spec.name}", **STAGE_TASK)
def publish(site: Site, manifest: Manifest) -> State[Build]:
    """Leave manifest, report and name in the store, and a summary in the Prefect UI; tell of a failed gate."""
    place = workplace(site)
    build = stage.publish(manifest, place)
    leave_summary(build, place.store)
    if build.manifest.build_id != manifest.build_id:
        return Completed(name="Reused", message=f"same as build {build.manifest.build_id}", data=build)
    if not build.manifest.is_promotable:
        name, gates = manifest.spec.name, failed_gates(build.manifest)
        resource = {"prefect.resource.id": f"hefjoin.build.{name}", "prefect.resource.name": name}
        payload = {"build": manifest.build_id, "store": site.store, "gates": gates, "text": "; ".join(gates)}
        emit_event(GATE_FAILED, resource, payload=payload)
    return Completed(data=build)
