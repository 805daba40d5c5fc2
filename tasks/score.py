"""Score the models on labels."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.measured import Measured
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized
from hefjoin.scores import Scored
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.score import Score
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="score", task_run_name="score {spec.name}", **STAGE_TASK)
def score(
    site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized, measured: Measured
) -> State[Outcome[Scored]]:
    """Judge the models against labels, at each stage that they went through."""
    return run_stage(Score.of(spec, checked, joined, quantized, measured), site)
