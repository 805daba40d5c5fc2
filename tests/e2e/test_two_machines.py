"""Build and benchmark by workers of two pools on one machine, one run at a time each: measured, cancelled, killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hefjoin.builds.find import latest_build
from hefjoin.manifest import Manifest
from hefjoin.stores import open_store
from tests.e2e.conftest import Figure, wait_for
from tests.e2e.service import AUTH, Service, pair_in

BUILD, BENCHMARK = "join-and-compile/builders", "benchmark/hailo8"
PATIENCE_S = 300.0
"""For what takes a quarter of that on a machine that does nothing else."""
ASK_S = 0.5
"""Between questions to the server, which answers others too."""
LONG_S = 600.0
"""A benchmark that is cancelled or killed before it ends by itself."""
CANCEL_BAR_S = 15.0
SECRETS = {"AWS_ACCESS_KEY_ID": "AKIAPLANTEDBYTHETEST", "AWS_SECRET_ACCESS_KEY": "a-secret-planted-by-the-test"}


class Machine:
    """A store and a pair on it, whose benchmark takes as long as is asked for."""

    def __init__(self, service: Service) -> None:
        self.service, self.folder = service, service.folder / "machine"
        self.store = str(self.folder / "store")

    def build(self, seconds: float = 0.03) -> str:
        spec = pair_in(self.folder, benchmark={"seconds": seconds, "batch_sizes": [1]}, gates={"min_fps": 1})
        parameters = {"spec": spec, "store": self.store, "sdk": "emulator", "device": "pool"}
        return self.service.post_run(BUILD, parameters)

    def benchmark_of(self, build: str, count: int = 1) -> dict[str, Any]:
        """Return the newest run of the benchmark of a build, once there are so many."""

        def found() -> dict[str, Any] | None:
            assert self.service.read(build)["state"]["type"] not in ("FAILED", "CRASHED"), self.service.logs(build)
            runs = self.service.api.json("POST", "/flow_runs/filter", json={
                "flow_runs": {"parent_flow_run_id": {"any_": [build]}}, "sort": "EXPECTED_START_TIME_DESC",
            })  # fmt: skip
            return runs[0] if len(runs) >= count else None

        run: dict[str, Any] = wait_for(f"benchmark {count} of the build", found, PATIENCE_S, ASK_S)
        return run

    def measuring(self, build: str) -> dict[str, Any]:
        """Return the run of the benchmark, once its stage is at work."""
        run = self.benchmark_of(build)
        wait_for("benchmark at work", lambda: list(Path(self.store).glob("claims/benchmark/*/*.json")), PATIENCE_S)
        return run

    def manifest(self) -> Manifest:
        found = latest_build(open_store(self.store), "emulator", "tiny")
        assert found is not None
        return found.manifest

    def require_measured(self, build: str) -> Manifest:
        run = self.service.wait(build, seconds=PATIENCE_S)
        assert run["state"]["type"] == "COMPLETED", self.service.logs(build)
        manifest = self.manifest()
        assert manifest.measured.source == "emulator"
        assert manifest.measured_by is not None
        assert [gate.verdict for gate in manifest.gates] == ["not evaluated"]
        assert list(Path(self.store).glob("handover/*/*")) == []
        return manifest


@pytest.fixture(scope="module")
def machine(service: Service) -> Machine:
    return Machine(service)


@contextmanager
def worker(service: Service, pool: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one run at a time, with keys that it must tell nobody."""
    process = service.worker(pool, limit=1, env={**SECRETS, **env})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def builder(service: Service, machine: Machine) -> Iterator[None]:
    with worker(service, "builders", HEFJOIN_DEVICE_WAIT_S="600"):
        yield


@pytest.fixture
def device(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    with worker(service, "hailo8") as process:
        yield process


def test_where_only_builders_work_a_build_ends_as_not_measured(service: Service, machine: Machine) -> None:
    with worker(service, "builders", HEFJOIN_DEVICE_WAIT_S="5"):
        build = machine.build()
        run = service.wait(build)
    assert run["state"]["type"] == "COMPLETED", service.logs(build)
    manifest = machine.manifest()
    assert (manifest.measured.source, manifest.measured.batches) == ("not measured", ())
    assert "no worker of the pool hailo8 took the benchmark within 5 s" in manifest.measured.device
    assert [gate.verdict for gate in manifest.gates] == ["not evaluated"]
    assert machine.benchmark_of(build)["state"]["type"] == "CANCELLED"


def test_what_a_service_may_not_touch_fails_in_a_second_with_all_of_it(
    service: Service, machine: Machine, builder: None
) -> None:
    spec = pair_in(machine.folder, dfc_python="/tmp/python")
    spec["models"][1] |= {"source": "/etc/shadow.onnx", "metric": "os:system"}
    run = service.wait(service.post_run(BUILD, {"spec": spec, "store": "/var/lib/store", "sdk": "dfc"}))
    assert run["state"]["type"] == "FAILED"
    for field in ("store", "models[1].source", "models[1].metric", "dfc_python"):
        assert f"\n  {field}: " in run["state"]["message"]
    assert run["total_run_time"] < 5


def test_a_build_is_measured_by_a_worker_of_the_pool(
    service: Service, machine: Machine, builder: None, device: subprocess.Popen[bytes]
) -> None:
    build = machine.build()
    manifest = machine.require_measured(build)
    child = machine.benchmark_of(build)
    assert (child["name"], child["state"]["type"]) == ("benchmark tiny", "COMPLETED")
    assert manifest.stages[-2].stage == "benchmark"
    asked = service.post_run(BENCHMARK, {"build": "tiny", "store": machine.store})
    assert service.wait(asked)["state"]["type"] == "COMPLETED", service.logs(asked)


def test_a_build_that_is_cancelled_takes_its_benchmark_along(
    service: Service, machine: Machine, builder: None, device: subprocess.Popen[bytes], figure: Figure
) -> None:
    build = machine.build(LONG_S)
    child = machine.measuring(build)
    start = time.monotonic()
    service.cancel(build)
    service.wait(child["id"], ["Cancelling", "Cancelled"])
    reached = time.monotonic() - start
    wait_for("end of all processes", lambda: not service.processes("prefect.engine"), CANCEL_BAR_S)
    figure(f"cancelled: the benchmark heard after {reached:.1f} s, nothing left after {time.monotonic() - start:.1f} s")
    assert reached < CANCEL_BAR_S / 2
    assert [service.wait(run)["state"]["type"] for run in (build, child["id"])] == ["CANCELLED"] * 2


def test_a_benchmark_whose_worker_dies_is_done_by_the_next(
    service: Service, machine: Machine, builder: None, device: subprocess.Popen[bytes], figure: Figure
) -> None:
    build = machine.build(8)
    child = machine.measuring(build)
    device.kill()
    start = time.monotonic()
    with worker(service, "hailo8"):
        again = machine.benchmark_of(build, count=2)
        figure(f"worker killed: started again after {time.monotonic() - start:.1f} s")
        machine.require_measured(build)
    assert again["id"] != child["id"]
    assert service.wait(again["id"])["state"]["type"] == "COMPLETED"


def test_no_secret_was_written_anywhere(service: Service, machine: Machine) -> None:
    secrets = [secret.encode() for secret in (*SECRETS.values(), AUTH, AUTH.partition(":")[2])]
    files = [path for path in service.folder.rglob("*") if path.is_file()]
    assert {"db", "log", "json", "html"} <= {path.suffix.lstrip(".") for path in files}
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
