"""`python -m deployments.worker …` is `python -m prefect …` with one fault of its workers mended.

A worker with a limit counts its runs by their ids. A run that crashed and was taken up again before the worker was done
with its first process makes it raise and end, and with it all its runs (Prefect 3.8.8). Here it waits.
"""

from __future__ import annotations

import runpy
from functools import wraps
from typing import Any

from prefect.workers.base import BaseWorker


def mend() -> None:
    """Let workers leave a run alone as long as they are at it."""
    submit = BaseWorker._submit_scheduled_flow_runs

    @wraps(submit)
    async def submit_others(worker: Any, flow_run_response: list[Any]) -> list[Any]:
        held = set(worker._limiter.statistics().borrowers) if worker._limiter else set()
        others = [each for each in flow_run_response if each.flow_run.id not in held]
        runs: list[Any] = await submit(worker, flow_run_response=others)
        return runs

    BaseWorker._submit_scheduled_flow_runs = submit_others  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    mend()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
