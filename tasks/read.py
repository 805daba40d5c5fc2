"""Read the spec."""

from typing import Any

from prefect import task

from hefjoin.spec import BuildSpec
from hefjoin.spec_file import one_spec
from hefjoin.stages.confine import require_allowed
from hefjoin.stages.preflight import preflight
from tasks.site import STAGE_TASK


@task(name="read", task_run_name="read spec", **STAGE_TASK)
def read(spec: Any, spec_file: str, store: str) -> BuildSpec:
    """Take the spec from where it was given; refuse it with all its problems before anything is started."""
    found = one_spec(spec, spec_file)
    require_allowed(found, store)
    preflight(found)
    return found
