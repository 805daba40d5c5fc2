"""A Prefect server of our own for the time of a measurement: loopback, a free port, a home that is thrown away."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.measure import ROOT, BrokenMeasurement

START_SECONDS = 120.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


@contextmanager
def running_server(home: Path) -> Iterator[str]:
    """Run `prefect server start` as people do, without telemetry and UI; yields the URL of its API."""
    home.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_UI_ENABLED": "0"}
    environment = {**os.environ, **quiet, "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(port), str(os.getpid())],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, url)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise BrokenMeasurement(f"the Prefect server at {url} did not start (exit code {process.poll()})")


def _become_server(port: int, parent_pid: int) -> None:
    """Turn this process into the server, one that the kernel ends with its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent_pid:
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        os.execv(sys.executable, [sys.executable, "-m", *command])


if __name__ == "__main__":
    _become_server(*map(int, sys.argv[1:]))
