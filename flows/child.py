"""Runs of other deployments that a flow starts and waits for.

The rules:

1. A child is a sub flow run of the flow that started it: the UI links the two, and the server cancels it with its
   parent, if the parent could not.
2. A child is known by its idempotency key. A parent that is taken up again finds it, and starts no second one.
3. What ends the parent, a signal too, ends its children first (`cancelled_with_parent`). Only a parent that is killed
   leaves them: they end by themselves, or are found again.
4. A server that does not answer for a while is waited for.

A flow that starts several and goes on as each ends:

    started: list[UUID] = []
    with cancelled_with_parent(started):
        for spec in specs:
            started.append(start("join-and-compile/builders", {…}, name=…, idempotency_key=…))
        for run in ended(started):
            …
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from hefjoin.errors import InputError, ToolchainError

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 600.0
"""How long a server may not answer before what waits for it gives up."""
TAKEN_UP_SECONDS = 15.0
"""Within which a crashed run is taken up again by the server's automation, if it is at all."""
AT_ONCE = 200
"""How many runs the server tells of in one answer."""

logger = logging.getLogger("hefjoin.flows")

ResultT = TypeVar("ResultT")


def start(deployment: str, parameters: dict[str, Any], *, name: str, idempotency_key: str) -> UUID:
    """Start a run of a deployment, as a child of the flow that calls; a run that has the key already is returned.

    Args:
        deployment: `flow/deployment`.
        parameters: As JSON; they are put over the deployment's own.
        name: Of the run, in the UI.
        idempotency_key: What is wanted, in the sense that the same is not wanted twice.

    Raises:
        InputError: There is no such deployment.
        ToolchainError: The server did not answer for ten minutes.
    """

    def begin() -> Any:
        return run_deployment(
            deployment, parameters=parameters, flow_run_name=name, idempotency_key=idempotency_key, timeout=0
        )

    try:
        run: FlowRun = patiently(begin)
    except ObjectNotFound as error:
        raise _unknown(deployment) from error
    patiently(lambda: _name_in_parent(run, name))
    return run.id


def _name_in_parent(run: FlowRun, name: str) -> None:
    """Give the parent's task that stands for a child the child's name; Prefect's own is of two words by chance."""
    if run.parent_task_run_id is not None:
        with get_client(sync_client=True) as client:
            client.set_task_run_name(run.parent_task_run_id, name)


def require(deployment: str) -> None:
    """Check that the server has a deployment.

    Raises:
        InputError: It has not.
        ToolchainError: It did not answer for ten minutes.
    """

    def look() -> None:
        with get_client(sync_client=True) as client:
            client.read_deployment_by_name(deployment)

    try:
        patiently(look)
    except ObjectNotFound as error:
        raise _unknown(deployment) from error


def _unknown(deployment: str) -> InputError:
    return InputError(f"the Prefect server has no deployment {deployment}; `make deploy` sets it up")


def polled(run_ids: Collection[UUID]) -> Iterator[list[FlowRun]]:
    """Yield, every two seconds and at once, what the server knows of these runs.

    Raises:
        ToolchainError: The server did not answer for ten minutes.
    """
    while True:
        yield patiently(lambda: _read(run_ids))
        time.sleep(POLL_SECONDS)


def ended(run_ids: Collection[UUID]) -> Iterator[FlowRun]:
    """Yield each of these runs once it has ended for good, however it did; one that was deleted is waited for no more.

    Raises:
        ToolchainError: The server did not answer for ten minutes.
    """
    waiting, endings = set(run_ids), Endings()
    for runs in polled(run_ids):
        for run in runs:
            if run.id in waiting and endings.has_ended(run):
                waiting.discard(run.id)
                yield run
        waiting &= {run.id for run in runs}
        if not waiting:
            return


class Endings:
    """Tells which runs have ended for good: one that crashed may be taken up again."""

    def __init__(self) -> None:
        """Know of no run yet."""
        self._crashed: dict[UUID, float] = {}

    def has_ended(self, run: FlowRun) -> bool:
        """Return whether a run will not go on; asked time and again with what the server knows of it by then."""
        if run.state is None or not run.state.is_final():
            self._crashed.pop(run.id, None)
            return False
        if not run.state.is_crashed():
            return True
        return time.monotonic() - self._crashed.setdefault(run.id, time.monotonic()) >= TAKEN_UP_SECONDS


def cancel(run_id: UUID) -> None:
    """Ask for the end of a run; nothing happens where it has ended.

    One that no worker has taken is cancelled by that, at once. Else its worker ends its process within some seconds.
    """
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Cancelling(message="who asked for this run does not wait for it any more"))


@contextmanager
def cancelled_with_parent(run_ids: Iterable[UUID]) -> Iterator[None]:
    """Cancel those of these runs that have not ended when an error or a signal ends the block.

    A list may get its runs inside the block.
    """
    try:
        yield
    except BaseException:
        for run_id in run_ids:
            with suppress(httpx.HTTPError, ObjectNotFound):  # the server does it when it learns how the parent ended
                cancel(run_id)
        raise


def patiently(ask: Callable[[], ResultT]) -> ResultT:
    """Ask the server until it answers.

    Raises:
        ToolchainError: It did not for ten minutes.
    """
    begun = time.monotonic()
    while True:
        try:
            return ask()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error:
                raise
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise ToolchainError(
                    f"the Prefect server does not answer ({error}); run again: what was finished is kept", log_tail=""
                ) from error
            logger.info("the Prefect server does not answer (%s); asking again", error)
        time.sleep(POLL_SECONDS)


def _read(run_ids: Collection[UUID]) -> list[FlowRun]:
    wanted = list(run_ids)
    found: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        for begin in range(0, len(wanted), AT_ONCE):
            some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[begin : begin + AT_ONCE]))
            found += client.read_flow_runs(flow_run_filter=some, limit=AT_ONCE)
    return found
