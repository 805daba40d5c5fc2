"""The benchmark of a build on a machine of the pool `hailo8`: handed over, waited for, taken back.

The rules:

1. The store says what was measured; the server says only who is at it.
2. A build does not fail for want of a device. Where no worker takes it within `HEFJOIN_DEVICE_WAIT_S`, none measured.
3. A benchmark whose process or machine died is tried again; an error of ours that it ended in is the build's own.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import time
from contextlib import suppress
from typing import Any, Literal, NamedTuple
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from flows import child
from hefjoin import errors
from hefjoin.errors import DeviceError, InputError, StoreError
from hefjoin.manifest import DeviceHost, StageRun
from hefjoin.results.measured import Measured
from hefjoin.stages.benchmark import NOT_MEASURED, Benchmark
from hefjoin.stages.contract import Outcome, Workplace
from hefjoin.stages.handover import Given, Handover
from tasks.site import Site, workplace

Choice = Literal["inline", "pool"]

POOL = "hailo8"
DEPLOYMENT = f"benchmark/{POOL}"
WAIT = "HEFJOIN_DEVICE_WAIT_S"
"""Environment variable that says how many seconds a build waits for a worker to take its benchmark."""
DEFAULT_WAIT_S = 900.0
BEGIN_SECONDS = 300.0
"""Within which a worker that took a run begins it, unless it died."""
STOP_SECONDS = 30.0
"""How long a run that was cancelled is waited for."""
TRIES = 3
_RAISED = re.compile(r"Flow run encountered an exception: (\w+): ")
"""As Prefect writes it."""

logger = logging.getLogger("hefjoin.flows")


class Elsewhere(NamedTuple):
    """What came of a benchmark that was handed over."""

    outcome: Outcome[Measured]
    by: DeviceHost | None
    """None where nobody measured."""
    handover: Handover


class Ending(NamedTuple):
    """How a run ended without a figure."""

    why: str
    kind: Literal["stale", "lost", "for good"]
    """Of an earlier life of this build; died, to be tried again; not to be tried again."""


def require_pool() -> None:
    """Check, before anything is built, that a benchmark can be handed over.

    Raises:
        InputError: The server has no such deployment, or `HEFJOIN_DEVICE_WAIT_S` is no number.
    """
    wait_seconds()
    child.require(DEPLOYMENT)


def wait_seconds() -> float:
    """Return how long a build waits for a worker.

    Raises:
        InputError: `HEFJOIN_DEVICE_WAIT_S` is no number of seconds.
    """
    text = os.environ.get(WAIT) or str(DEFAULT_WAIT_S)
    with suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise InputError(f"{WAIT}={text} is no number of seconds; write 0 or more, as 900")


def benchmark_elsewhere(site: Site, stage: Benchmark) -> Elsewhere:
    """Let a machine of the pool perform the benchmark stage.

    Raises:
        HefJoinError: As the stage on that machine; a `DeviceError` where its process died time and again.
    """
    place = workplace(site)
    handover = Handover.of(place.store, str(flow_run.id), stage)
    handover.ask(stage, place)
    begun = time.monotonic()
    try:
        given = handover.given(place) or _waited_for(handover, place, stage.name)
    except BaseException:
        with suppress(StoreError):  # `gc` removes what is left
            handover.forget()
        raise
    if isinstance(given, Given):
        logger.info("%s: measured by %s", stage.title, given.by.machine.host)
        return Elsewhere(Outcome(value=given.value, run=given.run), given.by, handover)
    logger.warning("%s: not measured: %s", stage.title, given)
    measured = Measured(source=NOT_MEASURED, device=given, batches=(), load_average=os.getloadavg()[0])
    run = StageRun(
        stage=stage.stage,
        subject=stage.subject,
        key=stage.model_copy(update={"host": POOL}).key,
        seconds=round(time.monotonic() - begun, 3),
        is_reused=False,
        reason=f"not measured: {given}",
    )
    return Elsewhere(Outcome(value=measured, run=run), None, handover)


def _waited_for(handover: Handover, place: Workplace, name: str) -> Given | str:
    """Return what was measured, or why nothing was."""
    started: list[UUID] = []
    lost: list[str] = []
    parameters = {"build": handover.key, "store": place.store.uri}
    with child.cancelled_with_parent(started):
        for number in itertools.count(1):
            key = f"{handover.key}/{number}"
            started.append(child.start(DEPLOYMENT, parameters, name=f"benchmark {name}", idempotency_key=key))
            logger.info("benchmark %s: a worker of the pool %s has %g s to take it", name, POOL, wait_seconds())
            found = _Following(started[-1], handover, place).result()
            if isinstance(found, Given):
                return found
            if found.kind == "for good":
                return found.why
            if found.kind == "lost":
                lost.append(found.why)
                logger.warning("benchmark %s: %s", name, found.why)
            if len(lost) == TRIES:
                break
    raise DeviceError(
        f"the benchmark of {name} came to nothing {TRIES} times on machines of the pool {POOL}, the last time because "
        f"{lost[-1]}. Look at the runs' logs; the HEF is kept, and building again runs the benchmark only",
        is_transient=False,
    )


class _Following:
    """Follows one run until there is a figure, or there will be none."""

    def __init__(self, run_id: UUID, handover: Handover, place: Workplace) -> None:
        self._run_id, self._handover, self._place = run_id, handover, place
        self._endings = child.Endings()
        self._wait_s = wait_seconds()
        self._state = ""
        self._since = 0.0
        self._is_first = True
        self._stopped: float | None = None

    def result(self) -> Given | Ending:
        for runs in child.polled([self._run_id]):
            if given := self._handover.given(self._place):  # looked for after the run's state
                return given
            if ending := self._ending(runs[0]) if runs else Ending("its run was deleted", "for good"):
                return ending
            self._is_first = False
        raise AssertionError("polled never ends")

    def _ending(self, run: FlowRun) -> Ending | None:
        state = run.state
        if state is None:
            return None
        if state.is_final() and self._is_first:
            return Ending(f"run {run.name} is over already", "stale")
        if self._stopped is not None:
            is_over = state.is_final() or time.monotonic() - self._stopped > STOP_SECONDS
            return Ending(_nobody(self._wait_s), "for good") if is_over else None
        if state.is_cancelled():
            return Ending(f"its run {run.name} was cancelled", "for good")
        if state.is_crashed():
            why = f"its process died: {state.message or 'no message'}"
            return Ending(why, "lost") if self._endings.has_ended(run) else None
        if state.is_final():
            return self._without_figure(run)
        return self._unended(state)

    def _unended(self, state: State[Any]) -> Ending | None:
        """Cancel a run that nobody takes, or whose worker is gone.

        Of one that is cancelled for want of a worker the end is waited for: one may take it just then, and be done.
        """
        if state.type != self._state:
            self._state, self._since = state.type, time.monotonic()
        waited = time.monotonic() - self._since
        if state.is_scheduled() and waited >= self._wait_s:
            self._stopped = time.monotonic()
            child.patiently(lambda: child.cancel(self._run_id))
        elif (state.is_running() and self._handover.is_lost()) or (state.is_pending() and waited > BEGIN_SECONDS):
            child.patiently(lambda: child.cancel(self._run_id))
            return Ending("its machine or process went away", "lost")
        return None

    def _without_figure(self, run: FlowRun) -> Ending:
        """Raise what a run ended in that could not leave it in the store; what is no error of ours may pass.

        A signal that comes while something is being imported is such a one.
        """
        assert run.state is not None
        message = run.state.message or "no reason is known"
        raised = _RAISED.match(message)
        if run.state.is_completed():
            message = f"found nothing to do. Does its machine see the store at {self._place.store.uri}?"
        elif raised is None or not hasattr(errors, raised[1]):
            return Ending(f"its run {run.name} failed: {message}", "lost")
        else:
            message = message[raised.end() :]
        where = f"the benchmark on a machine of the pool {POOL}, run {run.name}"
        raise DeviceError(f"{where}: {message}", is_transient=False)


def _nobody(wait_s: float) -> str:
    """Say that no worker took it, and which there are."""
    until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    online: list[str] = []
    with suppress(httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        workers = client.read_workers_for_work_pool(POOL)
        online = [worker.name for worker in workers if worker.status == WorkerStatus.ONLINE]
    there = f"these are busy or away: {', '.join(online)}" if online else "it has none that is online"
    return f"no worker of the pool {POOL} took the benchmark within {wait_s:g} s, until {until}; {there}"
