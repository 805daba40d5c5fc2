"""Fifty runs at once on two workers: all end, none is lost, none is done twice."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Figure, wait_for
from tests.e2e.service import FINAL, Run, Service, pair_in

BUILD = "join-and-compile/builders"
COUNT = 50
SECONDS = 900.0


@pytest.mark.timeout(1200)
def test_fifty_runs_at_once_all_end_and_each_once(service: Service, figure: Figure) -> None:
    for _ in range(2):
        service.worker("builders", limit=2)
    parameters: dict[str, Any] = {
        "spec": pair_in(service.folder / "pair", name="pair"),
        "store": str(service.folder / "store"),
        "sdk": "emulator",
        "device": "inline",
    }
    service.wait(service.post_run(BUILD, parameters))
    assert service.server is not None
    server = psutil.Process(service.server.pid)
    before_mb, begun = server.memory_info().rss / 1e6, time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        asked = list(pool.map(lambda number: service.post_run(BUILD, parameters, f"run-{number}"), range(COUNT)))
    assert len(set(asked)) == COUNT

    def ended() -> list[Run] | None:
        runs = [run for run in service.runs(BUILD) if run["id"] in asked]
        return runs if all(run["state"]["type"] in FINAL for run in runs) else None

    runs: list[Run] = wait_for("end of all runs", ended, SECONDS)
    seconds = time.monotonic() - begun
    assert {run["id"] for run in runs} == set(asked)
    assert Counter(run["state"]["type"] for run in runs) == {"COMPLETED": COUNT}
    assert Counter(run["run_count"] for run in runs) == {1: COUNT}
    assert len(list((service.folder / "store" / "builds").rglob("*.json"))) == 1
    each_s = [run["total_run_time"] for run in runs]
    waited_s = [_seconds(run["expected_start_time"], run["start_time"]) for run in runs]
    figure(
        f"{COUNT} runs on 2 workers of 2: {seconds:.0f} s in all, {seconds / COUNT:.1f} s each; a run took "
        f"{statistics.median(each_s):.1f} s (median), began after {statistics.median(waited_s):.0f} s (median) to "
        f"{max(waited_s):.0f} s; server {before_mb:.0f} MB before, {server.memory_info().rss / 1e6:.0f} MB after"
    )


def _seconds(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()
