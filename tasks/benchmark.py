"""Benchmark the HEF."""

from prefect import State, task

from hefjoin.manifest import Compiled, JoinCheck, Measured
from hefjoin.spec import BuildSpec
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.contract import Outcome
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="benchmark", task_run_name="benchmark {spec.name}", **STAGE_TASK)
def benchmark(site: Site, spec: BuildSpec, checked: JoinCheck, compiled: Compiled) -> State[Outcome[Measured]]:
    """Run the HEF on real frames and time it."""
    stage = Benchmark(
        name=spec.name,
        hef=compiled.hef,
        is_emulated=compiled.is_emulated,
        frames=checked.evaluation.npy,
        batch_sizes=tuple(spec.benchmark.batch_sizes),
        seconds=spec.benchmark.seconds,
        device=spec.benchmark.device,
        host=Benchmark.this_host(),
    )
    return run_stage(stage, site)
