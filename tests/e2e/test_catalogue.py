"""A catalogue that rebuilds itself, a fleet, and the commands that ask a service for builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import SECONDS, wait_for
from tests.e2e.service import Service, serving
from tests.tiny import CLASSES, pair, write_model, write_pair

BUILD, REBUILD, FLEET = "join-and-compile/builders", "rebuild/nightly", "fleet/fleet"
NAMES = ("first", "second")
BUILDS_SECONDS = 3 * SECONDS
"""How long to wait for several builds."""
HERE = {"sdk": "emulator", "device": "inline"}


@pytest.fixture(scope="module")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose catalogue and store are folders below its own."""
    folder = tmp_path_factory.mktemp("catalogue")
    places = {"HEFJOIN_CATALOGUE": str(folder / "catalogue"), "HEFJOIN_STORE": str(folder / "store")}
    with serving(folder, home, **places, HEFJOIN_DEVICE_WAIT_S="1") as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def workers(service: Service) -> None:
    """One machine for all: what waits has a worker of its own, two builds may run at once."""
    service.worker("builders", limit=2)
    service.worker("control", limit=4)


@pytest.fixture(scope="module")
def catalogue(service: Service) -> Path:
    """A folder of two specs, each with files of its own, never built."""
    folder = service.folder / "catalogue"
    for name in NAMES:
        write_spec(folder, name)
    return folder


def write_spec(folder: Path, name: str, **changes: Any) -> Path:
    """Write a spec, and what it names to a folder beside it."""
    write_pair(folder / name)
    spec = pair(name=name, **changes)
    for part in (*spec["models"], spec["calibration"]):
        part["source"] = f"{name}/{part['source']}"
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def store(service: Service) -> str:
    return str(service.folder / "store")


def hefjoin(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a colleague of the service does."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=service.folder, env=service.environment,
        capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def rebuilt(service: Service, catalogue: Path) -> tuple[dict[str, Any], list[str]]:
    """Rebuild a catalogue; return the last state, and the names of the builds that were started."""
    before = {run["id"] for run in service.runs(BUILD)}
    given = {"catalogue": str(catalogue), "store": store(service), **HERE}
    state = service.wait(service.post_run(REBUILD, given), seconds=BUILDS_SECONDS)["state"]
    return state, sorted(run["name"] for run in service.runs(BUILD) if run["id"] not in before)


class TestRebuild:
    def test_what_was_never_built_is_each_as_a_run_of_its_own(self, service: Service, catalogue: Path) -> None:
        state, started = rebuilt(service, catalogue)
        assert (state["type"], started) == ("COMPLETED", ["build first", "build second"]), state
        assert "2 builds of 2" in state["message"].replace("\u202f", " ")

    def test_of_a_model_that_changed_only_what_uses_it_beside_one_that_is_broken(
        self, service: Service, catalogue: Path
    ) -> None:
        write_model(catalogue / "second" / "right.onnx", seed=9, classes=CLASSES["right"])
        (catalogue / "third.yaml").write_text("name: third\nmodels: []\n")
        state, started = rebuilt(service, catalogue)
        (catalogue / "third.yaml").unlink()
        assert (state["type"], started) == ("FAILED", ["build second"])
        assert "third.yaml" in state["message"]

    def test_two_at_once_start_one_build(self, service: Service, catalogue: Path) -> None:
        write_model(catalogue / "first" / "left.onnx", seed=11, classes=CLASSES["left"])
        before = {run["id"] for run in service.runs(BUILD)}
        given = {"catalogue": str(catalogue), "store": store(service), **HERE}
        asked = [service.post_run(REBUILD, given) for _ in range(2)]
        assert {service.wait(run, seconds=BUILDS_SECONDS)["state"]["type"] for run in asked} == {"COMPLETED"}
        assert [run["name"] for run in service.runs(BUILD) if run["id"] not in before] == ["build first"]


class TestPut:
    def test_a_model_that_is_put_has_what_uses_it_built(self, service: Service, catalogue: Path) -> None:
        model = write_model(service.folder / "trained.onnx", seed=12, classes=CLASSES["right"])
        before = {run["id"] for run in [*service.runs(BUILD), *service.runs(REBUILD)]}
        done = hefjoin(service, "put", str(model), str(catalogue / "second" / "right.onnx"))
        assert done.returncode == 0, done.stderr
        assert "told the Prefect server" in done.stderr

        def rebuilds() -> list[dict[str, Any]]:
            return [run for run in service.runs(REBUILD) if run["id"] not in before]

        (rebuild,) = wait_for("rebuild by the event", rebuilds)
        state = service.wait(rebuild["id"])["state"]
        assert state["type"] == "COMPLETED", state
        assert rebuild["parameters"]["uses"] == str(catalogue / "second" / "right.onnx")
        assert [run["name"] for run in service.runs(BUILD) if run["id"] not in before] == ["build second"]

    def test_then_nothing_is_due_though_no_device_measured_it(self, service: Service, catalogue: Path) -> None:
        state, started = rebuilt(service, catalogue)
        assert (state["type"], started) == ("COMPLETED", [])
        assert state["message"].startswith("nothing was built: nothing changed of 2 of 2 specs")

    def test_the_same_again_is_told_to_nobody(self, service: Service, catalogue: Path) -> None:
        done = hefjoin(service, "put", str(catalogue / "first" / "left.onnx"), str(catalogue / "first" / "left.onnx"))
        assert "unchanged" in done.stdout
        assert "told" not in done.stderr


class TestFleet:
    def test_one_that_fails_stops_no_other_and_all_are_on_one_page(self, service: Service, catalogue: Path) -> None:
        folder = service.folder / "fleet"
        lost = write_spec(folder, "lost")
        (folder / "lost" / "left.onnx").unlink()
        lines = f"{catalogue}\n{lost}\n"
        run = service.wait(
            service.post_run(FLEET, {"specs": lines, "store": store(service), **HERE}), seconds=BUILDS_SECONDS
        )
        assert run["state"]["type"] == "FAILED"
        assert "2 builds of 3; 1 failed: lost" in run["state"]["message"].replace("\u202f", " ")
        (record,) = (service.folder / "store" / "pages" / "fleet").glob("*.json")
        page = Path(yaml.safe_load(record.read_text())["page"]["uri"].removeprefix("file://")).read_text()
        assert "left.onnx does not exist" in page
        for name in NAMES:
            assert f'<section id="{name}">' in page

    def test_its_end_is_that_of_its_builds(self, service: Service) -> None:
        folder = service.folder / "slow"
        path = write_spec(folder, "slow", benchmark={"seconds": 600, "batch_sizes": [1]})
        fleet = service.post_run(FLEET, {"specs": str(path), "store": store(service), **HERE})

        def building() -> list[dict[str, Any]]:
            runs = [run for run in service.runs(BUILD) if run["name"] == "build slow"]
            return [run for run in runs if run["state"]["type"] == "RUNNING"]

        (child,) = wait_for("build of the fleet", building)
        service.cancel(fleet)
        assert service.wait(fleet)["state"]["type"] == "CANCELLED"
        assert service.wait(child["id"])["state"]["type"] == "CANCELLED"


class TestTrigger:
    def test_it_waits_and_ends_as_the_build_does(self, service: Service, catalogue: Path) -> None:
        options = ("--sdk", "emulator", "--device", "inline", "--wait", "--key", "commit-1")
        done = hefjoin(service, "trigger", str(catalogue / "first.yaml"), *options)
        assert done.returncode == 0, done.stderr
        assert "first: build 2" in done.stdout
        assert "parse left: Reused" in done.stderr
        assert "a path, which the machine that builds must see too" in done.stderr
        again = hefjoin(service, "trigger", str(catalogue / "first.yaml"), "--key", "commit-1")
        assert again.returncode == 0
        assert "was asked for before (Completed)" in again.stdout
        assert again.stdout.split()[2] == done.stdout.split()[2]

    def test_a_failure_has_the_exit_code_of_its_kind(self, service: Service) -> None:
        lost = write_spec(service.folder / "trigger", "lost-too")
        (service.folder / "trigger" / "lost-too" / "left.onnx").unlink()
        done = hefjoin(
            service,
            "trigger",
            str(lost),
            "--store",
            store(service),
            "--sdk",
            "emulator",
            "--device",
            "inline",
            "--wait",
        )
        assert done.returncode == 2, done.stderr
        assert "left.onnx does not exist" in done.stderr
        assert "Traceback" not in done.stderr

    def test_another_password_is_told(self, service: Service, catalogue: Path) -> None:
        environment = {**service.environment, "PREFECT_API_AUTH_STRING": "hefjoin:wrong"}
        command = [sys.executable, "-m", "flows.cli", "trigger", str(catalogue / "first.yaml")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 6
        assert "PREFECT_API_AUTH_STRING" in done.stderr
