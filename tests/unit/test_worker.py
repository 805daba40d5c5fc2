"""A flow ends with the worker that started it, also one that died before the flow began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from flows.worker import end_with_worker
end_with_worker()
print("begun", flush=True)
signal.pause()
"""
WORKER = """
import os, subprocess, sys
environment = {**os.environ, "HEFJOIN_WORKER": str(os.getpid())}
flow = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=environment, start_new_session=True)
print(flow.pid, flush=True)
flow.wait()
"""


def test_a_flow_hears_of_its_workers_death() -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, FLOW, str(ROOT)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    lines = {worker.stdout.readline().strip(), worker.stdout.readline().strip()}
    assert "begun" in lines
    worker.kill()
    assert worker.stdout.read() == ""  # the pipe is closed: both are gone
    worker.wait()
    worker.stdout.close()


@pytest.mark.parametrize(
    ("worker", "code", "printed"),
    [(None, None, "begun\n"), ("1", -signal.SIGTERM, ""), (str(os.getpid()), None, "begun\n")],
    ids=["none", "dead", "alive"],
)
def test_one_that_finds_its_worker_dead_ends(worker: str | None, code: int | None, printed: str) -> None:
    given = {"HEFJOIN_WORKER": worker} if worker else {}
    kept = {name: value for name, value in os.environ.items() if name != "HEFJOIN_WORKER"}
    command = [sys.executable, "-c", FLOW.replace("signal.pause()", ""), str(ROOT)]
    done = subprocess.run(command, env={**kept, **given}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code or 0, printed)
