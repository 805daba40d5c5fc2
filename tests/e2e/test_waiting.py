"""A build that waits for another one's stage: it ends when it is told to, whatever the other does."""

from __future__ import annotations

import signal

import psutil
import pytest

from hefjoin.stores import open_store
from tests.e2e.conftest import Desk, wait_for

BUILD = ("build", "tiny.yaml", "--sdk", "emulator")
SOON = 10.0


@pytest.mark.parametrize(
    ("stage", "number"),
    [("parse left", signal.SIGTERM), ("parse left", signal.SIGINT), ("join", signal.SIGTERM)],
    ids=lambda value: getattr(value, "name", value),
)
def test_it_can_be_stopped(desk: Desk, stage: str, number: signal.Signals) -> None:
    first = desk.start(*BUILD)
    store = open_store(str(desk.store))

    def claim() -> bool:
        assert first.poll() is None, desk.stderr(first)
        return any((store.read_record(key) or {}).get("what") == stage for key in store.list_records("claims"))

    wait_for(f"claim on {stage}", claim)
    psutil.Process(first.pid).suspend()
    second = desk.start(*BUILD)
    wait_for("one who waits", lambda: f"{stage}: being built by process {first.pid}" in desk.stderr(second))
    second.send_signal(number)
    assert second.wait(SOON) == 130
    assert "Traceback" not in desk.stderr(second)
    assert "interrupted; what was finished is kept" in desk.stderr(second)
    psutil.Process(first.pid).resume()
    assert first.wait(120) == 0, desk.stderr(first)
    assert store.list_records("claims") == store.list_records("beats") == []
    swept = desk.run("gc", "--keep", "1", "--yes")  # a thread of the second may have pinned while it was stopped
    assert swept.returncode == 0, swept.stderr
    assert store.list_records("pins") == []
