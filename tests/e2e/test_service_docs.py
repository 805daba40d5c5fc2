"""What docs/service.md says to type, typed: its blocks are taken from there and run."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, SECONDS
from tests.e2e.service import AUTH, Service
from tests.tiny import write_pair

TEXT = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")


def blocks(language: str, chapter: str) -> list[str]:
    """Return the code of a chapter."""
    found = re.search(rf"^## {re.escape(chapter)}$.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return re.findall(rf"```{language}\n(.*?)```", found.group(), re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def desk(service: Service) -> None:
    """A colleague's folder with the files that the document names, and the password where it says."""
    write_pair(service.folder)
    for name, text in zip(("run.json", "file.json"), blocks("json", "Start a run by HTTP"), strict=True):
        (service.folder / name).write_text(text)
    auth = service.folder / ".config" / "hefjoin" / "auth"
    auth.parent.mkdir(parents=True)
    auth.write_text(f"{AUTH}\n")
    service.worker("builders", env={"HEFJOIN_HOME": str(service.folder)})


def environment(service: Service) -> dict[str, str]:
    kept = {name: value for name, value in service.environment.items() if "AUTH" not in name}
    return {**kept, "HOME": str(service.folder), "PYTHONPATH": str(ROOT), "API": service.url}


def printed_by(service: Service, command: list[str], text: str) -> str:
    done = subprocess.run(
        command, input=text, cwd=service.folder, env=environment(service), capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="no curl or no jq here")
def test_the_shell_lines_start_wait_for_and_read_a_run(service: Service) -> None:
    lines = "".join(blocks("sh", "Start a run by HTTP")).replace("http://127.0.0.1:4200/api", service.url)
    printed = printed_by(service, ["bash", "-euo", "pipefail"], lines)
    assert printed.splitlines()[-1] == "COMPLETED"


def test_so_do_the_lines_in_python(service: Service) -> None:
    (code,) = blocks("python", "The same in Python")
    body = json.loads((service.folder / "run.json").read_text())
    (service.folder / "run.json").write_text(json.dumps({**body, "idempotency_key": "in-python"}))
    assert printed_by(service, [sys.executable, "-"], code).startswith("COMPLETED")


def test_what_came_of_it_is_read_from_the_store(service: Service) -> None:
    (code,) = blocks("python", "Read what came of it")
    assert re.match(r"\d{8}-\d{6}-[0-9a-f]{8} 1 \[", printed_by(service, [sys.executable, "-"], code))


def test_on_a_machine_with_nothing_the_first_start_makes_home_and_password(home: Path, tmp_path: Path) -> None:
    new = Service(tmp_path / "new", home, XDG_STATE_HOME=str(tmp_path / "state"))
    for name in ("PREFECT_HOME", "PREFECT_API_AUTH_STRING"):
        del new.environment[name]
    try:
        new.start_server()
        auth = new.folder / "config" / "hefjoin" / "auth"
        assert stat.S_IMODE(auth.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state" / "hefjoin" / "prefect").stat().st_mode) == 0o700
        assert {line.rpartition(": ")[2] for line in new.deploy().splitlines()} == {"made"}
        refused = new.run("setup", PREFECT_API_AUTH_STRING=AUTH)
        assert "refuses the auth string" in refused.stderr
        assert auth.read_text().strip().partition(":")[2] not in new.log("server.log")
    finally:
        new.end()
