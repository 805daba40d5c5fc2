"""How a build's run says from afar what came of it: in the message of its last state, because results do not travel."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.states import Completed

from hefjoin import errors
from hefjoin.builds.find import Build
from hefjoin.errors import HefJoinError, ToolchainError
from hefjoin.report.summary import verdict_text

HELD_BACK = "Not promoted"
"""How a verdict begins where a gate failed."""
_BUILT = re.compile(r"build (\S+): (.*)", re.DOTALL)
_RAISED = re.compile(r"encountered an exception:? (?:\w+\.)*(\w+): ", re.DOTALL)
"""As Prefect writes it."""


def as_state(build: Build) -> State[Build]:
    """Return the last state of a run that ended in a build."""
    return Completed(message=f"build {build.manifest.build_id}: {verdict_text(build.manifest)}", data=build)


def build_and_verdict(run: FlowRun) -> tuple[str, str]:
    """Return the id of the build that a run ended in, and its verdict; both empty where it ended in none."""
    message = run.state.message if run.state and run.state.is_completed() else ""
    found = _BUILT.match(message or "")
    return (found[1], found[2]) if found else ("", "")


def problem(run: FlowRun) -> str:
    """Return why a run came to no build, in words."""
    message = run.state.message if run.state else ""
    found = _RAISED.search(message or "")
    return message[found.end() :] if found and message else message or "no reason is known"


def exit_code(task_runs: Iterable[TaskRun]) -> int:
    """Return the exit code of the error by which a run failed: that of its first failed task, else the tool chain's."""
    for task in sorted(task_runs, key=lambda task: str(task.expected_start_time)):
        found = _RAISED.search(task.state.message or "") if task.state and task.state.is_failed() else None
        kind = getattr(errors, found[1], None) if found else None
        if isinstance(kind, type) and issubclass(kind, HefJoinError):
            return kind.exit_code
    return ToolchainError.exit_code
