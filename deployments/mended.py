"""`python -m deployments.mended …` is `python -m prefect …` with three faults of Prefect 3.8.8 mended.

1. A worker with a limit counts its runs by their ids. A run that crashed and was taken up again before the worker was
   done with its first process makes it raise and end, and with it all its runs. Here it waits for the next look.
2. A worker that is told to end kills its runs' processes and says nothing of it, so that they read `Running` until
   heartbeats are missed. Here it ends at once; its flows hear of that from the kernel and report (flows/worker.py).
3. A server on SQLite begins its transactions as readers. One that comes to write and finds that somebody wrote in
   between fails at once: requests are answered by 503, events are dropped and a crashed run is then never taken up.
   Others try again every tenth of a second, each with one of the few connections. Here all write from their beginning,
   and queue for it before they have a connection.
"""

from __future__ import annotations

import asyncio
import runpy
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from prefect.utilities import processutils
from prefect.workers.base import BaseWorker


def mend_worker() -> None:
    """Let workers leave a run alone as long as they are at it, and end when they are told to."""
    submit = BaseWorker._submit_scheduled_flow_runs

    @wraps(submit)
    async def submit_others(worker: Any, flow_run_response: list[Any]) -> list[Any]:
        held = set(worker._limiter.statistics().borrowers) if worker._limiter else set()
        others = [each for each in flow_run_response if each.flow_run.id not in held]
        runs: list[Any] = await submit(worker, flow_run_response=others)
        return runs

    def end_at_once(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    BaseWorker._submit_scheduled_flow_runs = submit_others  # type: ignore[method-assign, assignment]
    processutils.setup_signal_handlers_worker = end_at_once  # type: ignore[assignment]


def mend_server() -> None:
    """Let transactions on SQLite take turns."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction
    turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def begin_in_turn(database: Any, session: Any, with_for_update: bool = False) -> AsyncIterator[Any]:
        turn = turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with turn, begin(database, session, with_for_update=True) as transaction:
            yield transaction

    AioSqliteConfiguration.begin_transaction = begin_in_turn  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    {"server": mend_server, "worker": mend_worker}[sys.argv[2]]()  # after --no-prompt
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
