"""One Prefect server for all flow tests; set up before `prefect` is imported."""

from __future__ import annotations

import os

from flows.embedded import RECORDER

os.environ.update(RECORDER, DO_NOT_TRACK="1", PREFECT_SERVER_ANALYTICS_ENABLED="false")

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A server on loopback with a home of its own."""
    heartbeat = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with prefect_test_harness(server_startup_timeout=180), temporary_settings(heartbeat):
        yield
