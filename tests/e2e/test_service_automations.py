"""What a service does by itself: at a time, when a model was published, when a gate failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.conftest import wait_for
from tests.e2e.service import Run, Service, pair_in
from tests.tiny import write_pair

BUILD, REBUILD = "join-and-compile/builders", "rebuild/nightly"


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that is told of failed gates, and all that it was told."""
    bodies: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", bodies
        server.shutdown()


@pytest.fixture(scope="module")
def catalogue(service: Service) -> Path:
    """A folder with one spec."""
    folder = service.folder / "catalogue"
    write_pair(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def workers(service: Service, catalogue: Path, told: tuple[str, list[dict[str, Any]]]) -> None:
    service.environment |= {
        "HEFJOIN_CATALOGUE": str(catalogue),
        "HEFJOIN_STORE": str(service.folder / "store"),
        "HEFJOIN_NOTIFY_URL": told[0],
    }
    printed = service.deploy()
    assert "automation hefjoin: a failed gate is told: made" in printed
    assert told[0] not in printed
    service.worker("control")


def test_a_schedule_fires_by_itself(service: Service) -> None:
    """Nothing but the schedule asks for a run; SQLAlchemy 2.1 leaves schedules silently empty (docs/adr/0007)."""
    found = service.deployment(REBUILD)
    kept = ("flow_id", "entrypoint", "pull_steps", "work_pool_name", "parameter_openapi_schema", "parameters")
    often = {
        **{field: found[field] for field in kept},
        "name": "often",
        "schedules": [
            {"schedule": {"interval": 5}, "active": True, "slug": "often", "parameters": {"uses": "nothing"}}
        ],
    }
    made = service.api.json("POST", "/deployments/", json=often)

    def by_itself() -> Run | None:
        done = [run for run in service.runs("rebuild/often") if run["state"]["type"] == "COMPLETED"]
        return done[0] if done else None

    run = wait_for("run that nobody asked for", by_itself)
    service.api.json("DELETE", f"/deployments/{made['id']}")
    assert run["auto_scheduled"] is True
    assert run["state"]["message"] == "nothing was built: no spec uses nothing"


def test_a_switch_in_the_ui_outlives_the_next_deploy(service: Service, catalogue: Path) -> None:
    (schedule,) = service.deployment(REBUILD)["schedules"]
    assert schedule["active"] is False
    identity = service.deployment(REBUILD)["id"]
    service.api.json("PATCH", f"/deployments/{identity}/schedules/{schedule['id']}", json={"active": True})
    wait_for("runs for the next nights", lambda: service.runs(REBUILD))
    service.deploy()
    assert [each["active"] for each in service.deployment(REBUILD)["schedules"]] == [True]
    service.api.json("PATCH", f"/deployments/{identity}/schedules/{schedule['id']}", json={"active": False})


def test_a_model_that_was_put_has_what_uses_it_rebuilt(service: Service) -> None:
    uri = "s3://models/left.onnx"
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "hefjoin.model.put",
        "resource": {"prefect.resource.id": f"hefjoin.model.{uri}"},
        "payload": {"uri": uri, "sha256": "0" * 64, "size_bytes": 1},
    }
    service.api.json("POST", "/events", json=[event])
    run = wait_for(
        "run by event", lambda: [each for each in service.runs(REBUILD) if each["parameters"].get("uses") == uri]
    )[0]
    assert service.wait(run["id"])["state"]["message"] == f"nothing was built: no spec uses {uri}"


def test_a_failed_gate_is_told(service: Service, told: tuple[str, list[dict[str, Any]]]) -> None:
    service.worker("builders")
    spec = pair_in(service.folder / "gate", name="gate", gates={"min_snr_db": 200})
    run = service.wait(service.post_run(BUILD, {"spec": spec, "sdk": "emulator", "device": "inline"}))
    assert run["state"]["type"] == "COMPLETED", service.logs(run["id"])
    body = wait_for("word of the gate", lambda: told[1])[0]
    assert body["event"] == "hefjoin.gate.failed"
    assert body["text"].startswith("hefjoin: gate: SNR of left wanted ≥ 200 dB")
    assert "below 200" in body["text"]
    (left,) = (service.folder / "store" / "builds" / "emulator" / "gate").glob("*.json")
    assert body["build"]["build"] == left.stem
