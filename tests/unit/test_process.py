"""What a step finds around it, and what is made of what it leaves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hefjoin.errors import CalibrationError, ToolchainError
from hefjoin.results.sources import Provider, Sdk
from hefjoin.sdk.process import CHECKPOINTS, MARK, run_step
from hefjoin.sdk.toolchain import Toolchain

LOOK = """
import json, os, sys, tempfile
request = json.load(open(sys.argv[1]))
found = {
    "environment": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(), "group": os.getpgrp(),
    "temporary": tempfile.gettempdir(), **request["arguments"],
}
json.dump(found, open(request["result"], "w"))
"""


def step(
    folder: Path, code: str = LOOK, provider: Provider = "dfc", checkpoints: Path | None = None, **arguments: Any
) -> dict[str, Any]:
    """Run `code` as a step of its own script, and return its result."""
    script = folder / "script.py"
    script.write_text(code)
    toolchain = Toolchain(sdk=Sdk(provider=provider, version="1"), python=sys.executable)
    options: dict[str, Any] = {"script": script, "deadline_s": 20, "checkpoints": checkpoints}
    return run_step(toolchain, "look", arguments, folder, model="left", **options).result


class TestSurroundings:
    def test_a_step_works_in_its_own_directory_without_input_and_in_our_group(self, tmp_path: Path) -> None:
        found = step(tmp_path, answer=42)
        assert found["cwd"] == str(tmp_path)
        assert found["temporary"] == str(tmp_path / "tmp")
        assert found["stdin"] == ""
        assert found["group"] == os.getpgrp()
        assert found["answer"] == 42

    def test_the_dfc_does_not_see_our_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PYTHONPATH", "VIRTUAL_ENV", "FAKE_DFC"):
            monkeypatch.setenv(name, str(tmp_path))
        found = step(tmp_path)["environment"]
        assert not {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"} & found.keys()
        assert found["FAKE_DFC"] == str(tmp_path)
        assert step(tmp_path, provider="emulator")["environment"]["PYTHONPATH"] == str(tmp_path)

    def test_a_user_is_named_where_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("USER", raising=False)
        assert step(tmp_path)["environment"]["USER"] == "hefjoin"
        monkeypatch.setenv("USER", "mary")
        assert step(tmp_path)["environment"]["USER"] == "mary"

    def test_each_run_has_a_mark_of_its_own(self, tmp_path: Path) -> None:
        marks = {step(tmp_path)["environment"][MARK] for _ in range(2)}
        assert len(marks) == 2
        assert MARK not in os.environ

    def test_a_folder_for_checkpoints_is_named_where_there_is_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv(CHECKPOINTS, raising=False)
        assert CHECKPOINTS not in step(tmp_path)["environment"]
        assert step(tmp_path, checkpoints=Path("kept"))["environment"][CHECKPOINTS] == str(tmp_path / "kept")
        assert not (tmp_path / "kept").exists()


class TestOutcome:
    def test_what_a_step_asks_for_and_does_not_get_is_in_the_error(self, tmp_path: Path) -> None:
        with pytest.raises(ToolchainError) as caught:
            step(tmp_path, "import sys\nprint('Continue? [Y/n]')\ninput()")
        assert "Continue? [Y/n]" in caught.value.log_tail

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("import os; os._exit(0)", "left no result"),
            ("import os; os._exit(9)", "exit code 9"),
            ("import os; os.abort()", "SIGABRT"),
        ],
    )
    def test_an_end_without_a_result_is_told_as_what_it_was(self, tmp_path: Path, code: str, said: str) -> None:
        with pytest.raises(ToolchainError, match=said):
            step(tmp_path, code)

    def test_a_failure_that_is_reported_goes_before_the_exit_code(self, tmp_path: Path) -> None:
        report = {"type": "BadInputsShape", "message": "left/input_layer1: (16,) for (16, 16, 3)", "traceback": ""}
        code = f"import json, sys; json.dump({report}, open(json.load(open(sys.argv[1]))['failure'], 'w')); sys.exit(1)"
        with pytest.raises(CalibrationError, match=r"\(16,\) for \(16, 16, 3\)"):
            step(tmp_path, code)

    def test_the_log_stays_beside_the_request(self, tmp_path: Path) -> None:
        step(tmp_path, f"print('[info] one'); print('[warning] two')\n{LOOK}")
        assert (tmp_path / "look.log").read_text() == "[info] one\n[warning] two\n"
        assert json.loads((tmp_path / "look.request.json").read_text())["action"] == "look"
