"""Benchmark the HEF."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.compiled import Compiled
from hefjoin.results.measured import Measured
from hefjoin.results.quantized import Quantized
from hefjoin.spec import BuildSpec
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.contract import Outcome
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="benchmark", task_run_name="benchmark {spec.name}", **STAGE_TASK)
def benchmark(
    site: Site, spec: BuildSpec, checked: JoinCheck, quantized: Quantized, compiled: Compiled
) -> State[Outcome[Measured]]:
    """Run the HEF on real frames; time it and judge its outputs."""
    return run_stage(Benchmark.of(spec, checked, quantized, compiled), site)
