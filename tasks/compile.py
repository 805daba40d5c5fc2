"""Compile the quantized network."""

from prefect import State, task

from hefjoin.manifest import Compiled, JoinCheck, Joined, Quantized
from hefjoin.spec import BuildSpec
from hefjoin.stages.compile import Compile
from hefjoin.stages.contract import Outcome
from hefjoin.stages.script import assemble, before_compile
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="compile", task_run_name="compile {joined.name}", **STAGE_TASK)
def compile_joined(
    site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized
) -> State[Outcome[Compiled]]:
    """Compile to one HEF."""
    stage = Compile(
        name=joined.name,
        har=quantized.har,
        script=before_compile(assemble(spec, checked, joined)),
        single_context=spec.compile.single_context,
        outputs=joined.output_layers,
        sdk=site.toolchain.sdk,
    )
    return run_stage(stage, site)
