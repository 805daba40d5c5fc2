"""Real `hefjoin` processes, each test with a cache, a work folder and a store of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.tiny import write_pair

if TYPE_CHECKING:
    from tests.e2e.service import Service

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0
"""How long to wait for what must come, on a machine that does much else."""
TEST_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of whole processes more time than others; a hang still ends."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


FIGURES = pytest.StashKey[list[str]]()
Figure = Callable[[str], None]


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Figure:
    """Keep what was measured, in a sentence, for the end of the tests."""
    return pytestconfig.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured, beside whatever else runs."""
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for each in figures:
            terminalreporter.write_line(each)


def wait_for(what: str, found: Callable[[], Any], seconds: float = SECONDS, pause: float = 0.02) -> Any:
    """Return what `found` returns, as soon as that is something; a server is asked with longer pauses."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(pause)
    pytest.fail(f"no {what} within {seconds:.0f} s")


@dataclass
class Desk:
    """A folder with a pair to build, and the environment in which `hefjoin` is called there."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "artifacts"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *arguments]

    def run(self, *arguments: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `hefjoin` to its end."""
        return subprocess.run(
            command or self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `hefjoin`; its output goes to files, so that nothing waits for a reader."""
        number = len(self.started)
        with (self.folder / f"out-{number}").open("w") as out, (self.folder / f"err-{number}").open("w") as err:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, text=True, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def stderr(self, process: subprocess.Popen[str]) -> str:
        return (self.folder / f"err-{self.started.index(process)}").read_text(encoding="utf-8")

    def processes(self) -> list[psutil.Process]:
        """Return everything that runs for this desk: it carries the desk's work folder in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("HEFJOIN_WORK") == str(self.work)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def steps(self, action: str = "") -> list[psutil.Process]:
        """Return the SDK steps that run."""
        return [process for process in self.processes() if f"{action}.request.json" in command_line(process)]

    def records(self, folder: str) -> list[Path]:
        return sorted((self.store / folder).rglob("*.json"))

    def require_nothing_half_written(self) -> None:
        """Check that every object in the store is what its name says, and every record JSON."""
        import hashlib

        for path in (self.store / "objects").rglob("*.*"):
            if path.is_file():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]
        for path in self.store.rglob("*.json"):
            if "objects" not in path.parts:
                json.loads(path.read_text(encoding="utf-8"))


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def environment(folder: Path, **changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "HEFJOIN_", "AWS_"))}
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "HEFJOIN_WORK": str(folder / "work"), "PYTHONPATH": str(ROOT)}
    return {**kept, **own, **changes}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an embedded server whose database is made; copying it saves every test ten seconds."""
    folder = tmp_path_factory.mktemp("home")
    imports = "from flows.embedded import prefect_api; from hefjoin.folders import cache_folder"
    code = f"{imports}\nwith prefect_api(cache_folder()): pass"
    subprocess.run([sys.executable, "-c", code], env=environment(folder), cwd=ROOT, check=True, timeout=240)
    return folder / "cache" / "hefjoin" / "prefect-0"


@pytest.fixture(scope="session")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that somebody else runs."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(home, folder / "home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    settings = {"PREFECT_HOME": str(folder / "home"), "DO_NOT_TRACK": "1", "PREFECT_UI_ENABLED": "0"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment(folder, **settings), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_for("Prefect server", lambda: answers(url))
        yield url
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def make_desk(folder: Path, **settings: str) -> Desk:
    write_pair(folder)
    return Desk(folder, environment(folder, **settings))


@pytest.fixture(scope="module")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A hardened server with everything deployed, shared by the tests of a file; workers are for them to start."""
    from tests.e2e.service import serving

    with serving(tmp_path_factory.mktemp("service"), home) as found:
        yield found


@pytest.fixture
def embedded(home: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose builds start a Prefect server of their own."""
    desk = make_desk(tmp_path / "desk")
    shutil.copytree(home, desk.folder / "cache" / "hefjoin" / "prefect-0")
    yield desk
    clear(desk)


@pytest.fixture
def desk(server: str, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose builds use the running server."""
    desk = make_desk(tmp_path / "desk", PREFECT_API_URL=server)
    yield desk
    clear(desk)


def clear(desk: Desk) -> None:
    for process in desk.processes():
        process.kill()
    for started in desk.started:
        started.wait()


def error_of(done: Mapping[str, Any] | subprocess.CompletedProcess[str], code: int) -> str:
    """Return the one message with which a command failed, having checked how it did."""
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("hefjoin: ") == 1, done.stderr
    return done.stderr.partition("hefjoin: ")[2]
