"""Fetch the sources of a build."""

from prefect import task

from hefjoin.folders import sources_folder
from hefjoin.results.sources import Fetched
from hefjoin.spec import BuildSpec
from hefjoin.stages import fetch as stage
from tasks.site import STAGE_TASK, ProgressReport, Site, workplace


@task(name="fetch", task_run_name="fetch", **STAGE_TASK)
def fetch(site: Site, spec: BuildSpec) -> Fetched:
    """Know every source by content."""
    return stage.fetch(spec, workplace(site).put, sources_folder(), ProgressReport("fetch"))
