"""Follows runs on a Prefect server from afar until they end: each task as it comes, progress on long work.

The rule: what was said once is not said again, and a line tells of which run it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun

from flows.child import POLL_SECONDS, Endings, patiently

STEP_PERCENT = 10
"""By which long work has to go on before it is told of again."""
RECORDED_SECONDS = 10.0
"""Within which a busy server has recorded a task; one second is usual."""

Say = Callable[[str], None]


def follow(client: SyncPrefectClient, runs: Mapping[UUID, str], say: Say) -> dict[UUID, FlowRun]:
    """Wait for runs and tell of what they do.

    Args:
        client: Of the server.
        runs: By id, what to call each.
        say: Takes a line.
    """
    ended: dict[UUID, FlowRun] = {}
    told, endings = Told(say), Endings()
    while True:
        for run_id, name in runs.items():
            if run_id not in ended:
                run = patiently(partial(client.read_flow_run, run_id))
                patiently(partial(told.of_run, client, run, name))
                if endings.has_ended(run):
                    ended[run_id] = run
        if len(ended) == len(runs):
            return ended
        time.sleep(POLL_SECONDS)


def tasks_of_failed(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    """Return the tasks of a run that failed, as soon as the server knows which failed: its recorder lags behind."""
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    end = time.monotonic() + RECORDED_SECONDS
    while True:
        tasks = patiently(partial(client.read_task_runs, flow_run_filter=this_run))
        if any(task.state and task.state.is_failed() for task in tasks) or time.monotonic() > end:
            return tasks
        time.sleep(POLL_SECONDS)


class Told:
    """What was said of runs."""

    def __init__(self, say: Say) -> None:
        """Say it by calling `say`."""
        self._say = say
        self._states: dict[UUID, str] = {}
        self._percents: dict[UUID, int] = {}

    def of_run(self, client: SyncPrefectClient, run: FlowRun, name: str) -> None:
        """Say what is new of a run, its tasks and its progress."""
        this_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        tasks = client.read_task_runs(flow_run_filter=this_run)
        for task in sorted(tasks, key=lambda task: str(task.expected_start_time)):
            if task.state is not None:
                self._state(task.id, f"{name}: {task.name}", task.state.name or "", task.state.message or "")
        kind = ArtifactFilter(type=ArtifactFilterType(any_=["progress"]))
        for artifact in client.read_artifacts(artifact_filter=kind, flow_run_filter=this_run):
            percent = int(float(str(artifact.data)))
            if percent - self._percents.get(artifact.id, -STEP_PERCENT) >= STEP_PERCENT:
                self._percents[artifact.id] = percent
                self._say(f"{name}: {artifact.description}, {percent} %")
        if run.state is not None and not run.state.is_final():
            self._state(run.id, name, run.state.name or "", "")

    def _state(self, of: UUID, what: str, state: str, message: str) -> None:
        if self._states.get(of) == state:
            return
        self._states[of] = state
        self._say(f"{what}: {state}{f', {message}' if message else ''}")
