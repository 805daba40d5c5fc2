"""The contract on each compiler: the emulator, and the stand-in for the DFC in the oldest and newest release."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sdk_contract import Desk, SdkContract

from hefjoin.errors import ToolchainError
from hefjoin.results.sources import Sdk
from hefjoin.sdk.process import run_step, stop_running_steps
from hefjoin.sdk.toolchain import Toolchain, resolve
from tests.fakes.dfc_environment import interpreter

SECONDS = 30.0


class TestEmulator(SdkContract):
    is_emulated = True

    @pytest.fixture(scope="class")
    @classmethod
    def toolchain(cls) -> Toolchain:
        return resolve("emulator")


@pytest.mark.parametrize("toolchain", ["3.30.0", "3.34.0"], indirect=True, scope="class")
class TestDfc(SdkContract):
    is_emulated = False

    @pytest.fixture(scope="class")
    @classmethod
    def toolchain(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
        python = interpreter(tmp_path_factory.mktemp("dfc") / "venv", request.param)
        return Toolchain(sdk=Sdk(provider="dfc", version=request.param), python=str(python))

    def test_the_external_compiler_ends_with_its_step(
        self, built: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_DFC", json.dumps({"compiler_seconds": 60}))
        arguments = {"har": built.path("quantized.har"), "script": "", "hef": "x.hef", "compiled_har": "x.har"}
        arguments["auto_script"] = "x.alls"
        with ThreadPoolExecutor() as pool:
            step = pool.submit(run_step, built.toolchain, "compile", arguments, tmp_path, model="tiny")
            pid = _pid_of_compiler(tmp_path / "allocator.log")
            assert psutil.pid_exists(pid)
            stop_running_steps()
            with pytest.raises(ToolchainError, match="tiny"):
                step.result()
        assert not psutil.pid_exists(pid)
        assert not (tmp_path / "x.hef").exists()


def _pid_of_compiler(log: Path) -> int:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if log.exists() and (found := re.search(r"pid (\d+)\n", log.read_text(encoding="utf-8"))):
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError("the external compiler did not start")
