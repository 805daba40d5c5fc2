"""Publish the build."""

from prefect import State, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.states import Completed

from hefjoin.builds.find import Build
from hefjoin.manifest import Manifest
from hefjoin.report import summary_markdown
from hefjoin.stages import publish as stage
from tasks.site import STAGE_TASK, Site, workplace


@task(name="publish", task_run_name="publish {manifest.spec.name}", **STAGE_TASK)
def publish(site: Site, manifest: Manifest) -> State[Build]:
    """Leave manifest, report and name in the store, and a summary in the Prefect UI."""
    build = stage.publish(manifest, workplace(site))
    report = build.published.report.uri
    key = manifest.spec.name.replace(".", "-").replace("_", "-")
    create_markdown_artifact(summary_markdown(build.manifest, report), key=f"build-{key}")
    create_link_artifact(report, "report", key=f"report-{key}")
    if build.manifest.build_id != manifest.build_id:
        return Completed(name="Reused", message=f"same as build {build.manifest.build_id}", data=build)
    return Completed(data=build)
