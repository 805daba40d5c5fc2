"""Join the models."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined, Network
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.join import Join
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="join", task_run_name="join {spec.name}", **STAGE_TASK)
def join(site: Site, spec: BuildSpec, networks: dict[str, Network], checked: JoinCheck) -> State[Outcome[Joined]]:
    """Join on one shared input and prove that it changed nothing."""
    return run_stage(Join.of(spec, networks, checked, site.toolchain.sdk), site)
