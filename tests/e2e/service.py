"""hefjoin as a service, in real processes: a hardened server, workers, and a client that speaks HTTP and nothing else.

Everything is started by the commands that a person uses (`python -m deployments …`), with settings of its own, and is
killed at the end, wherever it is: all that runs for a service carries its folder in the environment.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from tests.e2e.conftest import SECONDS, environment, wait_for
from tests.tiny import pair, write_pair

MARK = "HEFJOIN_TEST_SERVICE"
AUTH = "hefjoin:a-password-of-the-tests"
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
Run = dict[str, Any]


class Api:
    """The server's REST API as an outsider calls it: a password, and a CSRF token for whatever changes something."""

    def __init__(self, url: str, auth: str = AUTH) -> None:
        user, _, password = auth.partition(":")
        self.http = httpx.Client(base_url=url, auth=(user, password), timeout=60)
        self.token: dict[str, str] = {}

    def __call__(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Call it; the path begins with a slash, content is what httpx takes."""
        if method != "GET" and not self.token:  # good for an hour
            client = str(uuid4())
            token = self.http.get("/csrf-token", params={"client": client}).raise_for_status().json()["token"]
            self.token = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
        return self.http.request(method, path, headers=self.token, **content)

    def json(self, method: str, path: str, **content: Any) -> Any:
        """Call it, require that it succeeds, and return what it answers."""
        answer = self(method, path, **content)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


class Service:
    """A server and its workers.

    Attributes:
        folder: All of it lies below: homes, logs, caches, stores.
        api: The REST client.
    """

    def __init__(self, folder: Path, home: Path, **settings: str) -> None:
        """Choose a port; nothing is started yet.

        Args:
            folder: New or empty.
            home: An embedded server's home whose database is made; copied.
            settings: Environment variables of the server, its workers and `deploy`.
        """
        self.folder = folder
        shutil.copytree(home, folder / "prefect")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        own = {
            MARK: str(folder),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": AUTH,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "HEFJOIN_SERVICE_SOURCES": str(folder),
            "HEFJOIN_SERVICE_STORES": str(folder),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "HEFJOIN_DEVICE_WAIT_S": "0",  # most tests have no worker with a device, and builds need not wait for one
        }
        self.environment = {**environment(folder), **own, **settings}
        self.api = Api(self.url)
        self.server: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    # Processes

    def start_server(self) -> None:
        """Start the server, or start it again, and return when it answers."""
        self.server = self._start("server.log", "server")

        def answers() -> bool:
            assert self.server is not None
            assert self.server.poll() is None, self.log("server.log")
            try:
                return self.api.http.get("/health").is_success
            except httpx.TransportError:
                return False

        wait_for("answer of the server", answers)

    def worker(
        self, pool: str, limit: int | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a worker and return when it is known to the server.

        Args:
            pool: Where it takes runs from.
            limit: Runs at a time; None: what `make worker` takes.
            env: Environment variables of its own.
        """
        name = f"worker-{len(self.workers)}.log"
        limited = [] if limit is None else ["--limit", str(limit)]
        process = self._start(name, "worker", pool, *limited, env=env)
        self.workers.append(process)

        def is_known() -> bool:
            assert process.poll() is None, self.log(name)
            answer = self.api("POST", f"/work_pools/{pool}/workers/filter", json={})
            return answer.is_success and any(f"process {process.pid}" in each["name"] for each in answer.json())

        wait_for(f"worker of {pool}", is_known)
        return process

    def deploy(self, **env: str) -> str:
        """Run `make deploy`'s command and return what it printed."""
        done = self.run("setup", **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m deployments …` to its end."""
        command = [sys.executable, "-m", "deployments", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env={**self.environment, **env}, capture_output=True, text=True, timeout=SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def log(self, name: str) -> str:
        """Return what a process printed: `server.log`, `worker-0.log`, …"""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")

    def processes(self, words: str = "") -> list[psutil.Process]:
        """Return what runs for this service and has the words in its command line."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get(MARK) == str(self.folder)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE and words in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end(self) -> None:
        """Kill all that runs for this service, and require that nothing is left."""
        wait_for("end of the service", lambda: not [process.kill() for process in self.processes()])
        for started in (self.server, *self.workers):
            if started is not None:
                started.wait()
        self.api.http.close()

    def _start(self, log: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "deployments", *arguments], cwd=self.folder,
                env={**self.environment, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    # Runs

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment by its full name: `join-and-compile/builders`."""
        found: dict[str, Any] = self.api.json("GET", f"/deployments/name/{name}")
        return found

    def post(
        self, deployment: str, parameters: Mapping[str, Any], idempotency_key: str | None = None
    ) -> httpx.Response:
        """Ask for a run and return the answer, whatever it is."""
        content = {"parameters": dict(parameters), **({"idempotency_key": idempotency_key} if idempotency_key else {})}
        return self.api("POST", f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", json=content)

    def post_run(self, deployment: str, parameters: Mapping[str, Any], idempotency_key: str | None = None) -> str:
        """Ask for a run, require that there is one, and return its id."""
        answer = self.post(deployment, parameters, idempotency_key)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def read(self, run: str) -> Run:
        """Return a run."""
        found: Run = self.api.json("GET", f"/flow_runs/{run}")
        return found

    def states(self, run: str) -> list[dict[str, Any]]:
        """Return all states that a run was in, oldest first."""
        found = self.api.json("GET", "/flow_run_states/", params={"flow_run_id": run})
        return sorted(found, key=lambda state: state["timestamp"])

    def wait(self, run: str, states: Collection[str] = FINAL, seconds: float = SECONDS) -> Run:
        """Return a run as soon as the type or the name of its state is one of these."""

        def found() -> Run | None:
            each = self.read(run)
            return each if {each["state"]["type"], each["state"]["name"]} & set(states) else None

        try:
            result: Run = wait_for(f"run in {', '.join(states)}", found, seconds, 0.25)
        except BaseException:
            print(f"run {run}:", *((state["name"], state["message"]) for state in self.states(run)), sep="\n  ")
            print(self.logs(run))
            raise
        return result

    def runs(self, deployment: str) -> list[Run]:
        """Return all runs of a deployment, at most 200."""
        where = {"deployments": {"id": {"any_": [self.deployment(deployment)["id"]]}}, "limit": 200}
        found: list[Run] = self.api.json("POST", "/flow_runs/filter", json=where)
        return found

    def logs(self, run: str) -> str:
        """Return what a run logged, at most 200 lines."""
        where = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(line["message"] for line in self.api.json("POST", "/logs/filter", json=where))

    def cancel(self, run: str) -> None:
        """Do what the button in the UI does."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.api.json("POST", f"/flow_runs/{run}/set_state", json={"state": state})


def pair_in(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write the tiny pair and its images to a folder; return its spec with absolute sources."""
    write_pair(folder)
    spec = pair(**changes)
    for part in (*spec["models"], spec["calibration"]):
        part["source"] = str(folder / part["source"])
    return spec


@contextmanager
def serving(folder: Path, home: Path, **settings: str) -> Iterator[Service]:
    """Be a service whose server runs and where all is deployed; its workers are for the test to start."""
    service = Service(folder, home, **settings)
    try:
        service.start_server()
        service.deploy()
        yield service
    finally:
        service.end()
