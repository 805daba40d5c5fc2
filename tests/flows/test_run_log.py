"""What of a build's log reaches Prefect's page of the run, and how far a stage is."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.context import get_run_context

from hefjoin.errors import DeviceError
from hefjoin.sdk.log import Progress
from tasks import site
from tasks.log import keep_to_the_point
from tasks.site import STAGE_TASK, ProgressReport
from tests.flows.runs import artifacts


def is_sent(record: logging.LogRecord) -> bool:
    """As Prefect's handler decides it."""
    return bool(getattr(record, "send_to_api", True))


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        ("hefjoin.stages", "parse left: built, because it is new", True),
        ("hefjoin.progress", "quantize: frame 3 of 64", False),
        ("hefjoin.sdk", "left | [info] Parsing the model", False),
        ("hefjoin.sdk", "left | [warning] no GPU", True),
        ("prefect.task_runs", "Finished in state Completed('built, because it is new')", False),
        ("prefect.task_runs", "Task run failed with exception: x - Retry 1/3 will start", True),
        ("prefect.flow_runs", "Finished in state Completed()", True),
    ],
)
def test_a_line_is_sent_where_nothing_else_says_it(name: str, message: str, expected: bool) -> None:
    keep_to_the_point()
    logger = logging.getLogger(name)
    record = logger.makeRecord(name, logging.INFO, __file__, 1, message, (), None)
    assert logger.filter(record)
    assert is_sent(record) is expected


def test_an_error_raised_on_purpose_leaves_no_traceback_and_any_other_does(caplog: pytest.LogCaptureFixture) -> None:
    keep_to_the_point()
    keep_to_the_point()

    @task(**{**STAGE_TASK, "retries": 0})
    def fails(error: Exception) -> None:
        raise error

    @flow
    def alone(error: Exception) -> None:
        fails(error)

    alone(DeviceError("no device is there"), return_state=True)
    assert "Traceback" not in caplog.text
    alone(ZeroDivisionError("by mistake"), return_state=True)
    assert "Traceback" in caplog.text
    assert "by mistake" in caplog.text


def test_a_stage_shows_how_far_it_is_and_in_the_end_that_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "PROGRESS_SECONDS", 0.0)
    shown: list[Any] = []

    @task
    def stage(run_id: UUID) -> None:
        report = ProgressReport("quantize")
        for done in (1, 3):
            report(Progress("frame", done, 4))
            shown.append([float(each.data) for each in artifacts(run_id)])
        report.end()

    @flow
    def alone() -> UUID:
        context: Any = get_run_context()
        stage(context.flow_run.id)
        return context.flow_run.id  # type: ignore[no-any-return]

    run_id = alone()
    assert shown == [[25.0], [75.0]]
    (left,) = artifacts(run_id)
    assert (left.type, left.description, float(left.data)) == ("progress", "quantize", 100.0)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).state_name == "Completed"
