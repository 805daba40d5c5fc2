"""The embedded Prefect: a child server on loopback with a home of its own, for one command, leaving no orphan.

The rules:

1. A server named by `PREFECT_API_URL` is used as it is; none is started.
2. Each home is held by a lock of the operating system, so that two builds at once never share one database.
3. The child dies with the process that started it, however that ends.
4. Settings are defaults: what the user set in the environment stays. Only the home and the URL are ours.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
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
from typing import IO

from flows.auth import CLIENT, auth_file, find_auth_string
from hefjoin.errors import ToolchainError

START_SECONDS = 180.0
ANSWER_SECONDS = 3.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
HOMES = 16
PR_SET_PDEATHSIG = 1

CLIENT_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "hefjoin",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
}
QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
"""A failed task is shown by us, in a sentence; its traceback is in the run's log."""
RECORDER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""SQLite writes one transaction an event otherwise. Seconds are rounded down: with less than one the server spins."""
SERVER_SETTINGS = {
    **RECORDER,
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


@contextmanager
def prefect_api(cache: Path, debug: bool = False) -> Iterator[None]:
    """Make a Prefect API reachable through the environment, before `prefect` is imported.

    Args:
        cache: Folder under which the homes of embedded servers are kept between runs.
        debug: Let Prefect's own log reach the terminal.

    Raises:
        ToolchainError: The server that `PREFECT_API_URL` names does not answer, or ours does not start.
    """
    for name, value in {**CLIENT_SETTINGS, **({} if debug else QUIET)}.items():
        os.environ.setdefault(name, value)
    if url := os.environ.get("PREFECT_API_URL"):
        require_answer(url)
        _require_entry(url)
        yield
        return
    home, lock = _free_home(cache)
    with lock, _server(home) as url:
        os.environ["PREFECT_HOME"] = str(home)
        os.environ["PREFECT_API_URL"] = url
        try:
            yield
        finally:
            _send_what_is_queued()
            del os.environ["PREFECT_API_URL"]


def _send_what_is_queued() -> None:
    """Let Prefect's log and event queues empty while there is a server; later each would retry for a minute."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=STOP_SECONDS)


def require_answer(url: str) -> None:
    """Wait a little for a server to answer.

    Raises:
        ToolchainError: It does not.
    """
    end = time.monotonic() + ANSWER_SECONDS
    while not _is_healthy(url):
        if time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            continue
        raise ToolchainError(
            f"the Prefect server at PREFECT_API_URL={url} does not answer; start it, or unset the variable to use the "
            "embedded one",
            log_tail="",
        )


def _require_entry(url: str) -> None:
    """Check that the server lets us in, with the auth string that its clients on this machine share.

    Raises:
        ToolchainError: It wants another one.
    """
    if auth := find_auth_string():
        os.environ.setdefault(CLIENT, auth)
    user = base64.b64encode(os.environ.get(CLIENT, "").encode()).decode()
    request = urllib.request.Request(f"{url.rstrip('/')}/admin/version", headers={"Authorization": f"Basic {user}"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (401, 403):
            return
        raise ToolchainError(
            f"the Prefect server at PREFECT_API_URL={url} wants another auth string; set {CLIENT} to the server's, or "
            f"copy {auth_file()} from the server's machine",
            log_tail="",
        ) from error
    except OSError:  # that of a server which is busy or goes away is told later
        return


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except (OSError, ValueError):
        return False


def _free_home(cache: Path) -> tuple[Path, IO[str]]:
    """Return the first home that no other process holds, and its lock."""
    for index in range(HOMES):
        home = cache / f"prefect-{index}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock = (home / "lock").open("w")
        except OSError as error:
            raise ToolchainError(
                f"{home} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can", log_tail=""
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            return home, lock
    raise ToolchainError(
        f"{HOMES} builds with an embedded server run already; start a server (`prefect server start`) and set "
        "PREFECT_API_URL",
        log_tail="",
    )


@contextmanager
def _server(home: Path) -> Iterator[str]:
    from hefjoin.sdk.process import end_process

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        log = home / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.embedded", str(listener.fileno()), str(os.getpid())],
                env={**SERVER_SETTINGS, **os.environ, "PREFECT_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for the build, which stops its server itself
            )
    try:
        _wait(process, url, log)
        yield url
    finally:
        end_process(process)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise ToolchainError(
                f"the embedded Prefect server ended with exit code {process.returncode}; the end of {log}:\n{tail}",
                log_tail=tail,
            )
        if _is_healthy(url):
            return
        time.sleep(POLL_SECONDS)
    raise ToolchainError(
        f"the embedded Prefect server did not answer within {START_SECONDS:.0f} s; its log is {log}", log_tail=""
    )


def serve(descriptor: int, parent_pid: int) -> None:
    """Be the server: answer on a listening socket until the parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        return
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, fd=descriptor, log_level="error", lifespan="on")


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
