"""Publish the build."""

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from hefjoin.manifest import Manifest, Published
from hefjoin.report import summary_markdown
from hefjoin.stages import publish as stage
from tasks.site import STAGE_TASK, Site, workplace


@task(name="publish", task_run_name="publish {manifest.spec.name}", **STAGE_TASK)
def publish(site: Site, manifest: Manifest) -> Published:
    """Leave manifest, report and name in the store, and a summary in the Prefect UI."""
    published = stage.publish(manifest, workplace(site))
    key = manifest.spec.name.replace(".", "-").replace("_", "-")
    create_markdown_artifact(summary_markdown(manifest, published.report.uri), key=f"build-{key}")
    create_link_artifact(published.report.uri, "report", key=f"report-{key}")
    return published
