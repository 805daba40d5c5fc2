"""Children of a flow: linked, started once, waited for, and ended with their parent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Crashed, Pending, Running, Scheduled, State

from flows import child
from hefjoin.errors import InputError, ToolchainError
from tests.flows.pool import Clock, deploy, set_state, state_of

NAME = "wanted/here"


@pytest.fixture(scope="module", autouse=True)
def deployment(prefect_server: None) -> None:
    del prefect_server
    deploy("wanted", "here")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def start(key: str = "") -> UUID:
    return child.start(NAME, {}, name="a child", idempotency_key=key or uuid4().hex)


def test_a_child_is_a_sub_flow_run_of_who_started_it() -> None:
    @flow
    def parent() -> UUID:
        return start()

    state: Any = parent(return_state=True)
    parents = FlowRunFilterParentFlowRunId(any_=[state.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))
        assert run.parent_task_run_id is not None
        task = client.read_task_run(run.parent_task_run_id)
    assert (run.id, run.name, task.name) == (state.result(), "a child", "a child")


def test_the_same_key_is_the_same_child() -> None:
    assert start("one") == start("one") != start("two")


def test_an_unknown_deployment_is_told_with_the_next_step() -> None:
    for ask in (lambda: child.start("no/such", {}, name="", idempotency_key="1"), lambda: child.require("no/such")):
        with pytest.raises(InputError, match="no deployment no/such; `make deploy`"):
            ask()
    child.require(NAME)


def test_each_is_given_as_it_ends(clock: Clock) -> None:
    first, second = start(), start()
    clock.then(lambda: set_state(second, Completed()), lambda: set_state(first, Completed()))
    assert [run.id for run in child.ended([first, second])] == [second, first]
    assert list(child.ended([])) == []


def test_one_that_crashed_may_be_taken_up_again(clock: Clock) -> None:
    run_id = start()
    clock.then(
        lambda: set_state(run_id, Running()),
        lambda: set_state(run_id, Crashed()),
        lambda: set_state(run_id, Scheduled(name="AwaitingRetry")),
        lambda: set_state(run_id, Running()),
        lambda: set_state(run_id, Completed()),
    )
    (run,) = child.ended([run_id])
    assert run.state is not None
    assert run.state.is_completed()


def test_one_that_stays_crashed_has_ended(clock: Clock) -> None:
    run_id = start()
    set_state(run_id, Crashed(message="gone"))
    clock.idle(child.TAKEN_UP_SECONDS)
    (run,) = child.ended([run_id])
    assert run.state is not None
    assert run.state.message == "gone"


def test_one_that_was_deleted_is_not_waited_for(clock: Clock) -> None:
    run_id = start()
    with get_client(sync_client=True) as client:
        clock.then(lambda: client.delete_flow_run(run_id))
        assert list(child.ended([run_id])) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "Cancelled"), (Pending(), "Cancelling"), (Running(), "Cancelling"), (Completed(), "Completed")],
    ids=lambda state: state.name if isinstance(state, State) else "",
)
def test_a_cancelled_one_ends_as_far_as_it_had_begun(before: State[Any] | None, after: str) -> None:
    run_id = start()
    if before:
        set_state(run_id, before)
    child.cancel(run_id)
    assert state_of(run_id).name == after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_children_before_it_ends_the_parent(
    clock: Clock, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # to which Prefect hands it on in the end
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, before))
    runs = [start(), start()]
    set_state(runs[0], Running())
    clock.then(lambda: os.kill(os.getpid(), number))

    @flow
    def parent() -> None:
        with child.cancelled_with_parent(runs):
            list(child.ended(runs))

    with pytest.raises((TerminationSignal, KeyboardInterrupt)):
        parent()
    assert [state_of(run_id).name for run_id in runs] == ["Cancelling", "Cancelled"]


class TestAServerThatDoesNotAnswer:
    @staticmethod
    def failing(times: int, error: Exception) -> Callable[[], str]:
        left = iter(range(times))

        def ask() -> str:
            if next(left, None) is not None:
                raise error
            return "answer"

        return ask

    def test_it_is_asked_again(self, clock: Clock) -> None:
        clock.idle(60)
        assert child.patiently(self.failing(30, httpx.ConnectError("refused"))) == "answer"

    def test_its_refusal_is_not(self) -> None:
        request = httpx.Request("GET", "http://x")
        error = httpx.HTTPStatusError("no", request=request, response=httpx.Response(409, request=request))
        with pytest.raises(httpx.HTTPStatusError):
            child.patiently(self.failing(1, error))

    def test_in_the_end_that_is_told(self, clock: Clock) -> None:
        clock.idle(2 * child.PATIENCE_SECONDS)
        with pytest.raises(ToolchainError, match=r"does not answer \(refused\); run again"):
            child.patiently(self.failing(10_000, httpx.ConnectError("refused")))
