"""Quantize the joined network."""

from prefect import State, task

from hefjoin.manifest import JoinCheck, Joined, Quantized
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.script import assemble, before_optimize
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="quantize", task_run_name="quantize {joined.name}", **STAGE_TASK)
def quantize(site: Site, spec: BuildSpec, checked: JoinCheck, joined: Joined) -> State[Outcome[Quantized]]:
    """Quantize, and measure what it cost each model."""
    stage = Quantize(
        name=joined.name,
        har=joined.network.har,
        output_layers=joined.output_layers,
        script=before_optimize(assemble(spec, checked, joined)),
        requested_level=spec.quantization.optimization_level,
        calibration=checked.calibration.npy,
        evaluation=checked.evaluation,
        sdk=site.toolchain.sdk,
    )
    return run_stage(stage, site)
