"""Check that the models may share one input."""

from prefect import State, task

from hefjoin.manifest import Fetched, JoinCheck, Network
from hefjoin.spec import BuildSpec
from hefjoin.stages.check import Branch, Check
from hefjoin.stages.contract import Outcome
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="check", task_run_name="check {spec.name}", **STAGE_TASK)
def check(site: Site, spec: BuildSpec, networks: dict[str, Network], fetched: Fetched) -> State[Outcome[JoinCheck]]:
    """Compare the models and prepare the frames."""
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
    stage = Check(branches=branches, calibration=fetched.calibration, evaluation=fetched.evaluation)
    return run_stage(stage, site)
