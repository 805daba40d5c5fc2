"""Check that the models may share one input."""

from prefect import State, task

from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched
from hefjoin.spec import BuildSpec
from hefjoin.stages.check import Check
from hefjoin.stages.contract import Outcome
from hefjoin.stages.fetch import release
from hefjoin.stages.script_check import require_sound
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="check", task_run_name="check {spec.name}", **STAGE_TASK)
def check(site: Site, spec: BuildSpec, networks: dict[str, Network], fetched: Fetched) -> State[Outcome[JoinCheck]]:
    """Compare the models, read their scripts and prepare the frames."""
    require_sound(spec, networks, site.toolchain.sdk.provider)
    state = run_stage(Check.of(spec, networks, fetched), site)
    release(fetched)
    return state
