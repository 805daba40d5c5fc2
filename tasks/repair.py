"""Repair the quantized network."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized, Repaired
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.repair import RepairStage
from tasks.site import STAGE_TASK, Site, run_stage, workplace


@task(name="repair", task_run_name="repair {joined.name}", **STAGE_TASK)
def repair(
    site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized
) -> State[Outcome[Repaired]]:
    """Raise layers until every output reaches the floor."""
    return run_stage(RepairStage.of(spec, checked, joined, quantized, workplace(site)), site)
