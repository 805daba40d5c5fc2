"""What Prefect's server knows of a flow run, once its recorder has caught up."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun

SECONDS = 30.0


def task_runs(flow_run_id: UUID, count: int) -> dict[str, TaskRun]:
    """Return the run of each task by its name, when `count` of them have ended."""
    end = time.monotonic() + SECONDS
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        while True:
            runs = {run.name: run for run in client.read_task_runs(flow_run_filter=this_run)}
            ended = [run for run in runs.values() if run.state and run.state.is_final()]
            if len(ended) >= count or time.monotonic() > end:
                return runs
            time.sleep(0.05)


def artifacts(flow_run_id: UUID) -> list[Any]:
    """Return the artifacts of a flow run."""
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(flow_run_filter=this_run)
