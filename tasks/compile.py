"""Compile the quantized network."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.compiled import Compiled
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized
from hefjoin.spec import BuildSpec
from hefjoin.stages.compile import Compile
from hefjoin.stages.contract import Outcome
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="compile", task_run_name="compile {joined.name}", **STAGE_TASK)
def compile_joined(
    site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized
) -> State[Outcome[Compiled]]:
    """Compile to one HEF."""
    return run_stage(Compile.of(spec, checked, joined, quantized, site.toolchain.sdk), site)
