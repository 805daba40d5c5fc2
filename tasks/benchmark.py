"""Benchmark the HEF."""

from prefect import State, task

from hefjoin.results.measured import Measured
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.contract import Outcome
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="benchmark", task_run_name="benchmark {stage.name}", **STAGE_TASK)
def benchmark(site: Site, stage: Benchmark) -> State[Outcome[Measured]]:
    """Run the HEF on real frames; time it and judge its outputs."""
    return run_stage(stage, site)
