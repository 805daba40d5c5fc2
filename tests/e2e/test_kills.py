"""Three deaths apart, the step's, the flow's and the command's: none leaves a process, none loses finished work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from hefjoin.errors import ToolchainError
from hefjoin.manifest import Sdk
from hefjoin.sdk.process import run_step
from hefjoin.sdk.toolchain import Toolchain
from tests.e2e.conftest import SECONDS, Desk, command_line, wait_for
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


def test_a_step_that_is_killed_ends_the_build_with_its_log(desk: Desk) -> None:
    make_slow(desk)
    build = desk.start(*BUILD)
    quantizing(desk, build).kill()
    assert build.wait(SECONDS) == 6
    said = desk.stderr(build)
    assert "the quantize step was killed by SIGKILL" in said
    assert "Starting Model Optimization" in said.partition("was killed")[2]
    assert "Traceback" not in said
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

    def test_what_a_step_started_ends_with_it(self, tmp_path: Path) -> None:
        """As the DFC starts its compiler, a program of its own."""
        script = tmp_path / "starter"
        script.write_text("#!/bin/sh\nsleep 300 &\necho $!\nwait\n")
        script.chmod(0o755)
        starter = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=str(script))
        with pytest.raises(ToolchainError) as caught:
            run_step(starter, "parse", {}, tmp_path, model="left", deadline_s=1.0)
        pid, end = int(caught.value.log_tail), time.monotonic() + SOON
        while time.monotonic() < end and is_running(pid):
            time.sleep(0.01)
        assert not is_running(pid)

    def test_a_python_that_does_not_start_is_named(self, tmp_path: Path) -> None:
        absent = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=str(tmp_path / "absent"))
        with pytest.raises(ToolchainError, match="absent does not start"):
            run_step(absent, "parse", {}, tmp_path, model="left")


def test_a_step_whose_parent_is_already_gone_does_not_begin(tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    request.write_text('{"parent_pid": 1, "provider": "emulator", "action": "parse", "arguments": {}}')
    step = Path(__file__).resolve().parents[2] / "hefjoin" / "sdk" / "step.py"
    done = subprocess.run([sys.executable, str(step), str(request)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is gone" in done.stderr
