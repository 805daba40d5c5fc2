"""Parse one model."""

from prefect import State, task

from hefjoin.artifacts import Ref
from hefjoin.manifest import Network
from hefjoin.spec import BuildSpec, ModelSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.parse import Parse
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="parse", task_run_name="parse {model.name}", **STAGE_TASK)
def parse(site: Site, spec: BuildSpec, model: ModelSpec, source: Ref) -> State[Outcome[Network]]:
    """Translate one model into a HAR."""
    stage = Parse(
        name=model.name,
        source=source,
        hw_arch=spec.hw_arch,
        input_shape=tuple(model.input_shape),
        start_nodes=tuple(model.start_nodes),
        end_nodes=tuple(model.end_nodes),
        sdk=site.toolchain.sdk,
    )
    return run_stage(stage, site)
