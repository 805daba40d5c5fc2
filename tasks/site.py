"""What every task needs: where a build works, how a stage's outcome becomes a Prefect state, when to try again.

The rule: a task carries refs and small records only, and says `Reused` where nothing had to be done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prefect import State
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.states import Completed
from prefect.tasks import exponential_backoff
from pydantic import Field

from hefjoin.artifacts import Record
from hefjoin.errors import HefJoinError
from hefjoin.sdk.log import Progress
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.contract import Outcome, Stage, Workplace, perform
from hefjoin.stores import open_store

logger = logging.getLogger("hefjoin.progress")
stages = logging.getLogger("hefjoin.stages")

ResultT = TypeVar("ResultT", bound=Record)

PROGRESS_SECONDS = 2.0


class Site(Record):
    """Where a build works, as it passes between tasks."""

    store: str
    work: str
    toolchain: Toolchain
    force: bool = False
    earlier_keys: dict[str, str] = Field(default_factory=dict)
    build: str = ""
    """What the build pins artifacts with."""


def is_transient(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Return whether trying again may help: never for an input error or an SDK's time-out."""
    del task, task_run
    error = state.result(raise_on_failure=False)
    if not (isinstance(error, HefJoinError) and error.is_transient):
        return False
    stages.info("%s; this may pass", error)
    return True


STAGE_TASK: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Options of every task that performs a stage. Reuse is ours, so Prefect's cache is off."""


def workplace(site: Site, on_progress: Callable[[Progress], None] | None = None) -> Workplace:
    """Return the site as stages know it."""
    return Workplace(
        store=open_store(site.store),
        root=Path(site.work),
        toolchain=site.toolchain,
        force=site.force,
        on_progress=on_progress,
        earlier_keys=site.earlier_keys,
        build=site.build,
    )


def run_stage(stage: Stage[ResultT], site: Site) -> State[Outcome[ResultT]]:
    """Perform a stage; the state is named `Reused` where nothing had to be done."""
    progress = ProgressReport(stage.title)
    outcome: Outcome[ResultT] = perform(stage, workplace(site, progress))
    progress.end()
    if outcome.run.is_reused:
        return Completed(name="Reused", message=outcome.run.reason, data=outcome)
    return Completed(message=outcome.run.reason, data=outcome)


class ProgressReport:
    """Passes a stage's progress to the console's log and, every few seconds, to a Prefect progress artifact."""

    def __init__(self, title: str) -> None:
        """Report for the stage of this title."""
        self.title = title
        self.artifact: Any = None
        self.last = 0.0

    def __call__(self, progress: Progress) -> None:
        """Report one step."""
        extra = {"title": self.title, "progress": progress}
        logger.info("%s: %s %d of %d", self.title, progress.what, progress.done, progress.total, extra=extra)
        now = time.monotonic()
        if now - self.last < PROGRESS_SECONDS or TaskRunContext.get() is None:
            return
        self.last = now
        self._show(100.0 * progress.done / max(progress.total, 1))

    def end(self) -> None:
        """Say that all is done, where something was said before."""
        if self.artifact is not None:
            self._show(100.0)

    def _show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self.artifact is None:
            self.artifact = create_progress_artifact(percent, description=self.title)
        else:
            update_progress_artifact(self.artifact, percent)
