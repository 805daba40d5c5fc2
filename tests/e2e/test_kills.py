"""Deaths of the step, the flow and the command: none leaves a process, none loses finished work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from hefjoin.errors import ToolchainError
from hefjoin.results.sources import Sdk
from hefjoin.sdk.process import STEP, run_step
from hefjoin.sdk.toolchain import Toolchain
from tests.e2e.conftest import ROOT, SECONDS, Desk, command_line, wait_for
from tests.tiny import images, pair, write_model

BUILD = ("build", "tiny.yaml", "--sdk", "emulator")
SOON = 10.0
"""Within which nothing may be left."""
MANY = 4096


def make_slow(desk: Desk) -> None:
    """Let quantizing take long enough to be caught at it."""
    for seed, name in enumerate(("left", "right")):
        write_model(desk.folder / f"{name}.onnx", seed, classes=4, size=64)
    np.save(desk.folder / "images.npy", np.tile(images(64, size=64), (MANY // 64, 1, 1, 1)))
    spec = pair(calibration={"source": "images.npy", "count": MANY})
    (desk.folder / "tiny.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


def quantizing(desk: Desk, build: subprocess.Popen[str]) -> psutil.Process:
    """Return the step that quantizes, once it is at it."""

    def found() -> psutil.Process | None:
        assert build.poll() is None, desk.stderr(build)
        steps = desk.steps("quantize")
        logs = list(desk.work.glob("quantize-*/quantize.log"))
        return steps[0] if steps and logs and "Starting Model Optimization" in logs[0].read_text() else None

    step: psutil.Process = wait_for("step that quantizes", found)
    return step


def require_nothing_left(desk: Desk) -> None:
    wait_for("end of all processes", lambda: not desk.processes(), SOON)
    desk.require_nothing_half_written()
    assert desk.records("names") == []
    assert desk.records("reuse/quantize") == []


def require_finished_work_is_reused(desk: Desk) -> None:
    process = desk.start(*BUILD)
    assert process.wait(SECONDS) == 0, desk.stderr(process)
    said = desk.stderr(process)
    for title in ("parse left", "parse right", "check", "forecast", "join"):
        assert f"{title}: reused" in said
    assert "quantize: done" in said
    assert [path.stem for path in desk.records("names")] == ["000001"]


@pytest.mark.parametrize("whom", ["watcher", "worker"])
def test_a_step_that_is_killed_ends_the_build_with_its_log(desk: Desk, whom: str) -> None:
    make_slow(desk)
    build = desk.start(*BUILD)
    watcher = quantizing(desk, build)
    (watcher if whom == "watcher" else watcher.children()[0]).kill()
    assert build.wait(SECONDS) == 6
    said = desk.stderr(build)
    assert "the step was killed" in said
    assert "Traceback" not in said
    (log,) = desk.work.glob("quantize-*/quantize.log")
    assert "Starting Model Optimization" in log.read_text()
    require_nothing_left(desk)


def test_a_flow_that_is_killed_takes_its_step_along(desk: Desk) -> None:
    make_slow(desk)
    build = desk.start(*BUILD)
    step = quantizing(desk, build)
    build.kill()
    assert build.wait(SOON) == -signal.SIGKILL
    wait_for("end of the step", lambda: not step.is_running(), SOON)
    require_nothing_left(desk)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_command_that_is_stopped_takes_step_and_server_along(embedded: Desk, number: signal.Signals) -> None:
    make_slow(embedded)
    build = embedded.start(*BUILD)
    quantizing(embedded, build)
    assert [process for process in embedded.processes() if "flows.embedded" in command_line(process)]
    build.send_signal(number)
    assert build.wait(SOON) == (-number if number is signal.SIGKILL else 130)
    said = embedded.stderr(build)
    assert "Traceback" not in said
    assert ("interrupted; what was finished is kept" in said) == (number is not signal.SIGKILL)
    require_nothing_left(embedded)
    require_finished_work_is_reused(embedded)


def is_running(pid: int) -> bool:
    """Return whether a process does anything still; a killed one may wait to be reaped by whoever adopted it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
pathlib.Path(sys.argv[1], sys.argv[2]).write_text(str(os.getpid()))
time.sleep(300)
"""
"""A program that leaves its parent, its session and its process group, and does not listen, as a compiler may."""

SCRIPT = f"""
import importlib.util, os, subprocess, sys, time
spec = importlib.util.spec_from_file_location("step", {str(STEP)!r})
step = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step)

def hang(sdk, folder):
    for name, environment in (("marked", None), ("bare", {{}})):
        subprocess.run([sys.executable, "-c", {STUBBORN!r}, folder, name], env=environment, check=True)
    time.sleep(300)

sys.exit(step.main(sys.argv[1], {{"hang": hang}}))
"""
"""A step that started such programs, one of them without the step's mark, and then hangs."""

CALL = """
import sys
from pathlib import Path
from hefjoin.sdk.process import run_step
from hefjoin.sdk.toolchain import resolve
folder = Path(sys.argv[1])
step = {"script": folder / "script.py", "model": "left", "deadline_s": float(sys.argv[2])}
run_step(resolve("emulator"), "hang", {"folder": str(folder)}, folder, **step)
"""


class Fallen:
    """A process that runs a hanging step, and all that came of it."""

    def __init__(self, folder: Path, deadline_s: float) -> None:
        (folder / "script.py").write_text(SCRIPT)
        with (folder / "err").open("w") as err:
            self.flow = subprocess.Popen(
                ["nohup", sys.executable, "-c", CALL, str(folder), str(deadline_s)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                start_new_session=True,
                # What a shell starts in the background ignores it, and hands that on.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.folder = folder
        files = [folder / name for name in ("marked", "bare")]
        wait_for("stubborn programs", lambda: all(path.exists() and path.read_text() for path in files))
        (watcher,) = psutil.Process(self.flow.pid).children()
        (self.worker,) = [child.pid for child in watcher.children() if command_line(child) == command_line(watcher)]
        self.watcher = watcher.pid
        self.marked, self.bare = (int(path.read_text()) for path in files)

    def require_nothing_left(self, *, but: Sequence[int] = ()) -> None:
        pids = {self.flow.pid, self.watcher, self.worker, self.marked, self.bare} - set(but)
        wait_for("end of all", lambda: self.flow.poll() is not None and not any(map(is_running, pids)), 5.0)


class TestWhatAStepStarted:
    """It ends with the step, however that ends, whatever session it is in and whether or not it listens."""

    @pytest.fixture
    def step(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fallen]:
        fallen = Fallen(tmp_path, deadline_s=getattr(request, "param", 300.0))
        yield fallen
        for pid in (fallen.flow.pid, fallen.watcher, fallen.worker, fallen.marked, fallen.bare):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        fallen.flow.wait()

    def test_when_the_worker_is_killed(self, step: Fallen) -> None:
        os.kill(step.worker, signal.SIGKILL)
        step.require_nothing_left()
        assert "the step was killed" in (step.folder / "err").read_text()

    def test_when_the_watcher_is_killed_what_carries_the_mark(self, step: Fallen) -> None:
        os.kill(step.watcher, signal.SIGKILL)
        step.require_nothing_left(but=[step.bare])
        assert "the step was killed" in (step.folder / "err").read_text()

    def test_but_not_with_a_terminal_that_it_was_told_to_outlive(self, step: Fallen) -> None:
        os.killpg(step.flow.pid, signal.SIGHUP)
        os.kill(step.worker, signal.SIGKILL)
        step.require_nothing_left()
        assert "the step was killed" in (step.folder / "err").read_text()

    def test_when_the_flow_is_killed(self, step: Fallen) -> None:
        step.flow.kill()
        step.require_nothing_left()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_when_the_flow_is_terminated(self, step: Fallen, number: signal.Signals) -> None:
        step.flow.send_signal(number)
        step.require_nothing_left()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_when_the_process_group_is_as_prefect_does(self, step: Fallen, number: signal.Signals) -> None:
        os.killpg(step.flow.pid, number)
        step.require_nothing_left()

    @pytest.mark.parametrize("step", [2.0], indirect=True)
    def test_when_its_time_is_up(self, step: Fallen) -> None:
        step.require_nothing_left()
        assert "hang was stopped after 2 s" in (step.folder / "err").read_text()


class TestDeadline:
    """A toolchain whose Python is a script that neither ends nor listens."""

    @pytest.fixture
    def deaf(self, tmp_path: Path) -> Toolchain:
        script = tmp_path / "python"
        script.write_text("#!/bin/sh\ntrap '' TERM\necho '[info] hanging'\nwhile :; do sleep 0.05; done\n")
        script.chmod(0o755)
        return Toolchain(sdk=Sdk(provider="emulator", version="1"), python=str(script))

    def test_a_step_that_hangs_is_stopped_and_its_last_line_told(
        self, deaf: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hefjoin.sdk.process.STOP_SECONDS", 0.3)
        start = time.monotonic()
        with pytest.raises(ToolchainError, match=r"left: parse was stopped after 1 s.*hanging") as caught:
            run_step(deaf, "parse", {}, tmp_path, model="left", deadline_s=1.0)
        assert time.monotonic() - start < SOON
        assert caught.value.log_tail == "  [info] hanging"
        assert not caught.value.is_transient
        children = psutil.Process().children(recursive=True)
        assert not [child for child in children if str(tmp_path) in command_line(child)]

    def test_a_python_that_does_not_start_is_named(self, tmp_path: Path) -> None:
        absent = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=str(tmp_path / "absent"))
        with pytest.raises(ToolchainError, match="absent does not start"):
            run_step(absent, "parse", {}, tmp_path, model="left")


def test_a_step_whose_parent_is_already_gone_does_not_begin(tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text('{"parent_pid": 1, "provider": "emulator", "action": "parse", "arguments": {}}')
    done = subprocess.run([sys.executable, str(STEP), str(request)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is gone" in done.stderr
