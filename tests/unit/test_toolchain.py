"""Which compiler a build uses, and which releases of the DFC it refuses."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from hefjoin.errors import ToolchainError
from hefjoin.sdk.toolchain import DFC_PYTHON, resolve


def interpreter(folder: Path, answer: str) -> str:
    """Return a program that says `answer` when it is asked for the DFC's version."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DFC_PYTHON, raising=False)


class TestChoice:
    def test_without_a_dfc_the_emulator_runs_in_our_own_python(self) -> None:
        found = resolve("auto")
        assert (found.sdk.provider, found.python) == ("emulator", sys.executable)

    def test_the_variable_names_the_interpreter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        python = interpreter(tmp_path, "3.33.0")
        monkeypatch.setenv(DFC_PYTHON, python)
        found = resolve("auto")
        assert (found.sdk.provider, found.sdk.version, found.python) == ("dfc", "3.33.0", python)

    def test_the_spec_goes_before_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(DFC_PYTHON, str(tmp_path / "absent"))
        assert resolve("auto", interpreter(tmp_path, "3.30.1")).sdk.version == "3.30.1"

    def test_the_emulator_is_not_kept_from_running_by_a_dfc(self, tmp_path: Path) -> None:
        assert resolve("emulator", str(tmp_path / "absent")).sdk.provider == "emulator"

    def test_a_dfc_that_is_asked_for_and_not_configured_is_an_error_with_both_places(self) -> None:
        with pytest.raises(ToolchainError, match=f"{DFC_PYTHON}, or dfc_python"):
            resolve("dfc")

    def test_our_packages_are_hidden_from_its_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            monkeypatch.setenv(name, str(tmp_path))
        assert resolve("dfc", interpreter(tmp_path, "3.33.0$PYTHONPATH$PYTHONHOME$VIRTUAL_ENV")).sdk.version == "3.33.0"


class TestVersion:
    @pytest.mark.parametrize("version", ["3.30.0", "3.33.1", "3.34.0"])
    def test_the_supported_ones_are_taken_in_silence(
        self, tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert resolve("dfc", interpreter(tmp_path, version)).sdk.version == version
        assert not caplog.records

    @pytest.mark.parametrize("version", ["3.26.0", "3.29.9", "5.0.0", "5.3.0"])
    def test_older_ones_and_those_of_other_chips_are_refused_with_what_to_install(
        self, tmp_path: Path, version: str
    ) -> None:
        with pytest.raises(ToolchainError, match=rf"DFC {version}; a Hailo-8 needs DFC 3\.30–3\.34"):
            resolve("dfc", interpreter(tmp_path, version))

    def test_a_newer_one_is_taken_with_one_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        python = interpreter(tmp_path, "3.41.0")
        with caplog.at_level(logging.WARNING):
            assert {resolve("dfc", python).sdk.version for _ in range(2)} == {"3.41.0"}
        assert [record.message for record in caplog.records] == ["DFC 3.41.0 is newer than the tested ones, 3.30–3.34"]

    @pytest.mark.parametrize(("answer", "said"), [("hello", "answered 'hello'"), ("; exit 3", "no Dataflow Compiler")])
    def test_what_is_no_python_of_a_dfc_is_named(self, tmp_path: Path, answer: str, said: str) -> None:
        python = interpreter(tmp_path, answer)
        with pytest.raises(ToolchainError, match=said) as caught:
            resolve("dfc", python)
        assert f"dfc_python: {python}" in str(caught.value)

    def test_what_does_not_start_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(DFC_PYTHON, str(tmp_path / "absent"))
        with pytest.raises(ToolchainError, match=f"{DFC_PYTHON}={tmp_path}/absent does not start"):
            resolve("auto")


def test_the_emulator_without_a_gpu_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = resolve("emulator").sdk.version
    monkeypatch.setenv("HEFJOIN_EMULATE_NO_GPU", "1")
    assert resolve("emulator").sdk.version == f"{usual}.no-gpu"
