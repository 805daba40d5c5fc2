"""Server and S3, builders and a device on hosts of their own: a whole build, a cable that is out, hosts that are gone.

One story, told in the order of its tests, because a host that is gone is known only after a minute and a half.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hefjoin.builds.find import latest_build
from hefjoin.manifest import Manifest
from hefjoin.stores import open_store
from tests.e2e import hosts
from tests.e2e.conftest import Figure, wait_for
from tests.e2e.hosts import SERVER, Host
from tests.e2e.service import Service, serving
from tests.s3_server import BUCKET, OWNER, S3Server
from tests.tiny import images, pair, write_model

BUILD = "join-and-compile/builders"
CUT_S = 30.0
LONG_S = 900.0
"""A benchmark that outlives its host."""
PATIENCE_S = 300.0
"""For what takes a quarter of that on a machine that does nothing else."""
WAIT_S = 20.0
SILENT_BAR_S = 120.0


@dataclass
class Site:
    """All hosts, and what is posted to them."""

    service: Service
    s3: S3Server
    builder: Host
    second: Host
    device: Host

    def work(self, host: Host, pool: str, limit: int = 1) -> None:
        """Start a worker on a host and return when it is known."""
        folder = self.service.folder / host.name
        folder.mkdir(exist_ok=True)
        environment = {
            **self.service.environment,
            **self.s3.environment(),
            "AWS_ENDPOINT_URL": self.s3.endpoint.replace("127.0.0.1", SERVER),
            "PREFECT_API_URL": self.service.url.replace("127.0.0.1", SERVER),
            "PREFECT_HOME": str(folder / "prefect"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "HEFJOIN_WORK": str(folder / "work"),
            "HEFJOIN_SERVICE_SOURCES": f"s3://{BUCKET}/nets",
            "HEFJOIN_SERVICE_STORES": f"s3://{BUCKET}/builds",
            "HEFJOIN_DEVICE_WAIT_S": str(WAIT_S),
        }
        arguments = ("-m", "deployments", "worker", pool, "--limit", str(limit))
        host.python(*arguments, folder=folder, environment=environment, log=folder / "worker.log")

        def is_known() -> bool:
            workers = self.service.api.json("POST", f"/work_pools/{pool}/workers/filter", json={})
            return any(f"{pool} on {host.name}," in each["name"] for each in workers)

        wait_for(f"worker on {host.name}", is_known)

    def build(self, name: str, seconds: float = 0.03) -> str:
        spec = pair(name=name, calibration={"source": f"s3://{BUCKET}/nets/images.npy", "count": 1024})
        for model in spec["models"]:
            model["source"] = f"s3://{BUCKET}/nets/{model['source']}"
        spec["benchmark"] = {"seconds": seconds, "batch_sizes": [1]}
        parameters = {"spec": spec, "store": self.store, "sdk": "emulator", "device": "pool"}
        return self.service.post_run(BUILD, parameters)

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/builds"

    def wait_for_step(self, build: str) -> None:
        def found() -> bool:
            assert self.service.read(build)["state"]["type"] not in ("FAILED", "CRASHED"), self.service.logs(build)
            return bool(self.service.processes("quantize.request.json"))

        wait_for("step that quantizes", found, PATIENCE_S, 0.5)

    def completed(self, build: str, name: str) -> Manifest:
        run = self.service.wait(build, seconds=PATIENCE_S)
        assert run["state"]["type"] == "COMPLETED", self.service.logs(build)
        found = latest_build(open_store(self.store), "emulator", name)
        assert found is not None
        return found.manifest


@pytest.fixture(scope="module")
def site(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := hosts.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("hosts")
    with (
        hosts.network("builder", "builder2", "device") as (builder, second, device),
        S3Server(folder / "s3", ["-ip.bind=0.0.0.0"]) as s3,
        serving(folder / "service", home, PREFECT_SERVER_API_HOST="0.0.0.0") as service,
        pytest.MonkeyPatch.context() as patch,
    ):
        for variable, value in s3.environment().items():
            patch.setenv(variable, value)
        leave_nets(s3, folder)
        yield Site(service, s3, builder, second, device)


def leave_nets(s3: S3Server, folder: Path) -> None:
    client = s3.client()
    for seed, model in enumerate(("left", "right")):
        path = write_model(folder / f"{model}.onnx", seed, classes=4, size=64)
        client.upload_file(str(path), BUCKET, f"nets/{path.name}")
    np.save(folder / "images.npy", np.tile(images(64, size=64), (20, 1, 1, 1)))
    client.upload_file(str(folder / "images.npy"), BUCKET, "nets/images.npy")
    client.close()


@pytest.fixture(scope="module")
def orphan(site: Site) -> tuple[str, float]:
    """A build whose host is gone while it quantizes, and when; what becomes of it is seen at the end."""
    site.work(site.second, "builders")
    build = site.build("orphan")
    site.wait_for_step(build)
    site.second.die()
    return build, time.monotonic()


def test_a_whole_build_over_three_hosts_with_the_builders_cable_out_for_half_a_minute(
    site: Site, orphan: tuple[str, float]
) -> None:
    site.work(site.builder, "builders", limit=2)
    site.work(site.device, "hailo8")
    build = site.build("cut")
    site.wait_for_step(build)
    site.builder.link("down")
    time.sleep(CUT_S)
    site.builder.link("up")
    manifest = site.completed(build, "cut")
    assert manifest.machine.host == "builder"
    assert manifest.measured_by is not None
    assert manifest.measured_by.machine.host == "device"
    assert manifest.measured.source == "emulator"
    assert site.service.read(build)["run_count"] == 1


def test_a_build_whose_device_is_gone_ends_as_not_measured(site: Site, figure: Figure) -> None:
    build = site.build("unmeasured", seconds=LONG_S)
    store = open_store(site.store)
    wait_for("benchmark at work", lambda: store.list_records("claims/benchmark"), PATIENCE_S)
    site.device.die()
    start = time.monotonic()
    manifest = site.completed(build, "unmeasured")
    figure(f"device gone: the build ended after {time.monotonic() - start:.0f} s")
    assert (manifest.measured.source, manifest.measured_by) == ("not measured", None)
    assert f"no worker of the pool hailo8 took the benchmark within {WAIT_S:g} s" in manifest.measured.device


def test_a_build_whose_host_is_gone_is_taken_up_by_another(
    site: Site, orphan: tuple[str, float], figure: Figure
) -> None:
    build, died = orphan
    manifest = site.completed(build, "orphan")
    crashed = next(state for state in site.service.states(build) if state["name"] == "Crashed")
    figure(f"builder gone: known by {crashed['timestamp']}, done {time.monotonic() - died:.0f} s after its death")
    assert "No heartbeat" in crashed["message"]
    assert manifest.machine.host == "builder"
    assert site.service.read(build)["run_count"] == 2


def test_the_stores_password_was_written_nowhere(site: Site) -> None:
    files = [path for path in site.service.folder.rglob("*") if path.is_file() and os.access(path, os.R_OK)]
    assert len(files) > 10
    assert [path for path in files if OWNER[1].encode() in path.read_bytes()] == []
