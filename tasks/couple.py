"""Quantize each model alone."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined, Network
from hefjoin.results.quantized import Coupled, Repaired
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.couple import Couple
from tasks.site import STAGE_TASK, Site, run_stage, workplace


@task(name="couple", task_run_name="couple {joined.name}", **STAGE_TASK)
def couple(
    site: Site,
    spec: BuildSpec,
    networks: dict[str, Network],
    checked: JoinCheck,
    joined: Joined,
    repaired: Repaired,
) -> State[Outcome[Coupled]]:
    """Say what joining did to each model's quantization."""
    return run_stage(Couple.of(spec, networks, checked, joined, repaired, workplace(site)), site)
