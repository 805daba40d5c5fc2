"""A pool without workers: deployments, states set by hand, and a clock that moves when somebody waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import State

from flows import child, device


def deploy(flow: str, name: str) -> None:
    """Make a deployment of a flow of this name."""
    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow_from_name(flow), name)


def set_state(run_id: UUID, state: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, state)


def state_of(run_id: UUID) -> State[Any]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    assert state is not None
    return state


class Clock:
    """Stands for `time` where children are waited for: whoever sleeps moves it, and something happens meanwhile."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._idle_until = 0.0
        self._happens: list[Callable[[], Any]] = []
        self.strftime, self.gmtime = time.strftime, time.gmtime
        for module in (child, device):
            patch.setattr(module, "time", self)

    def then(self, *happens: Callable[[], Any]) -> None:
        """Let one thing happen in each sleep."""
        self._happens += happens

    def idle(self, seconds: float) -> None:
        """Let nothing happen for a while."""
        self._idle_until = self.now + seconds

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._happens:
            self._happens.pop(0)()
        else:
            assert self.now <= self._idle_until + seconds, "waited for what never came"
