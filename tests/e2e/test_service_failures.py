"""Deaths of a step, a flow's process, a worker, a server: a run ends as it should, nothing finished is lost."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psutil
import pytest

from tests.e2e.conftest import Figure, wait_for
from tests.e2e.service import Service, pair_in
from tests.tiny import images, write_model

BUILD = "join-and-compile/builders"
MANY = 4096
BAR_S = 120.0
"""Within which a death must be known."""
CANCEL_BAR_S = 15.0
FINISHED = ("parse left", "parse right", "check {name}", "forecast {name}", "join {name}")
"""What a build has done when it quantizes."""


class Build:
    """A build that quantizes long enough to be caught at it, with a work folder and a store of its own."""

    def __init__(self, service: Service, name: str, count: int = MANY) -> None:
        self.service, self.folder = service, service.folder / name
        spec = pair_in(self.folder, name=name, calibration={"source": "images.npy", "count": count})
        for seed, model in enumerate(("left", "right")):
            write_model(self.folder / f"{model}.onnx", seed, classes=4, size=64)
        np.save(self.folder / "images.npy", np.tile(images(64, size=64), (count // 64, 1, 1, 1)))
        self.run = service.post_run(
            BUILD, {"spec": spec, "store": str(self.folder / "store"), "sdk": "emulator", "device": "inline"}
        )

    def step(self) -> psutil.Process:
        """Return the step that quantizes, once it is at it."""

        def found() -> psutil.Process | None:
            run = self.service.read(self.run)
            assert run["state"]["type"] not in ("FAILED", "CANCELLED", "COMPLETED"), self.service.logs(self.run)
            return next(iter(self.steps()), None)

        step: psutil.Process = wait_for("step that quantizes", found)
        return step

    def steps(self) -> list[psutil.Process]:
        """Return what runs of the step that quantizes, watcher first, once it began."""
        wanted = f"{self.run}"
        found = [each for each in self.service.processes("quantize.request.json") if _run_of(each) == wanted]
        return sorted(found, key=lambda each: each.create_time())

    def flow(self) -> psutil.Process:
        """Return the process of the flow."""
        return next(each for each in self.service.processes("prefect.engine") if _run_of(each) == self.run)

    def processes(self) -> list[psutil.Process]:
        return [each for each in self.service.processes() if _run_of(each) == self.run]

    def wait_for_crash(self) -> None:
        """Return once the server knows that the run crashed, even if it is taken up already."""
        wait_for("crash", lambda: "Crashed" in names(self.service.states(self.run)), BAR_S)

    def require_completed_from_what_had_finished(self, attempts: int) -> None:
        run = self.service.wait(self.run, ["COMPLETED", "FAILED", "CANCELLED"])
        assert run["state"]["type"] == "COMPLETED", self.service.logs(self.run)
        assert run["run_count"] == attempts
        finished = {title.format(name=self.folder.name): "Reused" for title in FINISHED}
        wait_for(f"{finished}, recorded a second later", lambda: finished.items() <= self.last_tasks().items())
        assert len(list((self.folder / "store" / "names").rglob("*.json"))) == 1

    def last_tasks(self) -> dict[str, str]:
        """Return the state of each task, of its last run, as the server has it."""
        where = {"flow_runs": {"id": {"any_": [self.run]}}}
        tasks = self.service.api.json("POST", "/task_runs/filter", json=where)
        return {task["name"]: task["state"]["name"] for task in sorted(tasks, key=lambda task: task["created"])}


def _run_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("PREFECT__FLOW_RUN_ID", "")
    except psutil.Error:
        return ""


def names(states: list[dict[str, Any]]) -> list[str]:
    return [state["name"] for state in states]


@pytest.fixture(scope="module")
def silent(service: Service) -> tuple[Build, datetime]:
    """A run whose worker and flow were killed, and when: it is heard of no more. Found out while the others run."""
    worker = service.worker("builders", limit=1)
    build = Build(service, "silent")
    build.step()
    flow = build.flow()
    worker.send_signal(signal.SIGSTOP)  # so that it cannot tell of the flow's end
    flow.kill()
    worker.kill()
    worker.wait()
    return build, datetime.now(UTC)


@pytest.fixture
def worker(service: Service, silent: tuple[Build, datetime]) -> subprocess.Popen[bytes]:
    """The one worker that lives; room for what other tests leave to it."""
    living = [each for each in service.workers if each.poll() is None]
    return living[0] if living else service.worker("builders", limit=4)


def test_a_flow_that_is_killed_is_taken_up_again(service: Service, worker: subprocess.Popen[bytes]) -> None:
    build = Build(service, "flow-killed")
    build.step()
    build.flow().kill()
    build.wait_for_crash()
    build.require_completed_from_what_had_finished(attempts=2)


def test_a_step_that_is_killed_fails_the_run_with_its_log(service: Service, worker: subprocess.Popen[bytes]) -> None:
    build = Build(service, "step-killed")
    build.step().kill()
    run = service.wait(build.run)
    assert run["state"]["type"] == "FAILED"
    assert "the step was killed" in run["state"]["message"]
    assert run["run_count"] == 1
    wait_for("end of its processes", lambda: not build.processes(), CANCEL_BAR_S)


def test_a_run_that_is_cancelled_leaves_no_compiler(
    service: Service, worker: subprocess.Popen[bytes], figure: Figure
) -> None:
    build = Build(service, "cancelled")
    build.step()
    start = time.monotonic()
    service.cancel(build.run)
    wait_for("end of all processes", lambda: not build.processes(), CANCEL_BAR_S)
    figure(f"cancelled: nothing left after {time.monotonic() - start:.1f} s (bar {CANCEL_BAR_S:.0f} s)")
    assert service.wait(build.run)["state"]["type"] == "CANCELLED"
    assert names(service.states(build.run)).count("Running") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_whose_worker_ends_is_taken_up_by_another(
    service: Service, worker: subprocess.Popen[bytes], number: signal.Signals, figure: Figure
) -> None:
    build = Build(service, f"worker-{number.name.lower()}")
    build.step()
    worker.send_signal(number)
    worker.wait(BAR_S)
    start = time.monotonic()
    build.wait_for_crash()
    known_s = time.monotonic() - start
    figure(f"worker {number.name}: known after {known_s:.1f} s (bar {BAR_S:.0f} s)")
    assert [state["message"] for state in service.states(build.run) if "No heartbeat" in (state["message"] or "")] == []
    wait_for("end of all processes", lambda: not build.processes(), CANCEL_BAR_S)
    service.worker("builders", limit=4)
    build.require_completed_from_what_had_finished(attempts=2)


def test_a_run_that_crashes_three_times_has_failed(service: Service, worker: subprocess.Popen[bytes]) -> None:
    build = Build(service, "crashing")
    for _ in range(3):
        build.step()
        flow = build.flow()
        flow.kill()
        wait_for("end of the flow", lambda: not flow.is_running())  # noqa: B023
        wait_for("end of its steps", lambda: not build.steps())
    run = service.wait(build.run, ["FAILED"])
    assert "crashed three times in a row" in run["state"]["message"]
    assert run["run_count"] == 3
    assert names(service.states(build.run)).count("Running") == 3


def test_a_run_that_is_heard_of_no_more_is_crashed_and_taken_up_again(
    service: Service, worker: subprocess.Popen[bytes], silent: tuple[Build, datetime], figure: Figure
) -> None:
    build, killed_at = silent
    build.wait_for_crash()
    build.require_completed_from_what_had_finished(attempts=2)
    (crashed,) = [state for state in service.states(build.run) if state["name"] == "Crashed"]
    assert "No heartbeat for" in crashed["message"]
    known_s = (datetime.fromisoformat(crashed["timestamp"]) - killed_at).total_seconds()
    figure(f"silent: known after {known_s:.0f} s (bar {BAR_S:.0f} s)")
    assert known_s < BAR_S


def test_a_server_that_dies_in_mid_build_loses_nothing(service: Service, worker: subprocess.Popen[bytes]) -> None:
    """The last test here: events of runs that began before a restart are evaluated late (docs/adr/0036)."""
    build = Build(service, "server-killed")
    build.step()
    assert service.server is not None
    service.server.kill()
    service.server.wait()
    service.start_server()
    build_run = service.wait(build.run)
    assert build_run["state"]["type"] == "COMPLETED", service.logs(build.run)
    assert build_run["run_count"] == 1
    assert len(list((build.folder / "store" / "names").rglob("*.json"))) == 1
