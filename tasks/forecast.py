"""Forecast whether the joined network fits."""

from prefect import State, task

from hefjoin.results.checked import Forecast
from hefjoin.results.networks import Network
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome
from hefjoin.stages.forecast import ForecastStage
from tasks.site import STAGE_TASK, Site, run_stage


@task(name="forecast", task_run_name="forecast {spec.name}", **STAGE_TASK)
def forecast(site: Site, spec: BuildSpec, networks: dict[str, Network]) -> State[Outcome[Forecast]]:
    """Add up what the models take of the chip."""
    return run_stage(ForecastStage.of(spec, networks), site)
