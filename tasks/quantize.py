"""Quantize the joined network."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.quantize import Quantize
from tasks.site import STAGE_TASK, Site, run_stage, workplace


@task(name="quantize", task_run_name="quantize {joined.name}", **STAGE_TASK)
def quantize(site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined) -> State[Outcome[Quantized]]:
    """Quantize, and measure what it cost each model."""
    return run_stage(Quantize.of(spec, checked, joined, workplace(site)), site)
