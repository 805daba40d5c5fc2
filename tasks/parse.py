"""Parse one model."""

from prefect import State, task

from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched
from hefjoin.spec import BuildSpec, ModelSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.parse import Parse
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="parse", task_run_name="parse {model.name}", **STAGE_TASK)
def parse(site: Site, spec: BuildSpec, model: ModelSpec, fetched: Fetched) -> State[Outcome[Network]]:
    """Translate one model into a HAR."""
    source, weights = fetched.models[model.name], fetched.weights.get(model.name)
    return run_stage(Parse.of(spec, model, source, site.toolchain.sdk, weights), site)
