"""A service as its users meet it: by HTTP."""

from __future__ import annotations

import itertools
import random
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from deployments.setup import DECLARED
from tests.e2e.conftest import ROOT, SECONDS, Figure
from tests.e2e.mutants import mutants
from tests.e2e.service import AUTH, Service, pair_in

BUILD = "join-and-compile/builders"


@pytest.fixture(scope="module")
def worker(service: Service) -> None:
    service.worker("builders", limit=1)


def test_a_run_by_the_api_builds_and_the_same_key_again_is_the_same_run(service: Service, worker: None) -> None:
    spec = pair_in(service.folder / "by-api", name="by-api")
    parameters = {
        "spec": spec,
        "store": str(service.folder / "by-api" / "store"),
        "sdk": "emulator",
        "device": "inline",
    }
    first, again = (service.post(BUILD, parameters, idempotency_key="one") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    run = service.wait(first.json()["id"])
    assert run["state"]["type"] == "COMPLETED", service.logs(run["id"])
    assert run["name"] == "build by-api"
    assert len(list((service.folder / "by-api" / "store" / "names").rglob("*.json"))) == 1


def test_a_server_that_has_nothing_to_do_does_next_to_nothing(service: Service, worker: None, figure: Figure) -> None:
    assert service.server is not None
    process = psutil.Process(service.server.pid)
    before, begun = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(5)
    share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begun)
    figure(f"idle server: {100 * share:.0f} % of a core")
    assert share < 0.25


class TestWhatIsNoSpec:
    """Parameter sets drawn from the deployment's own schema, each with one thing wrong."""

    COUNT = 40

    def test_each_is_refused_by_the_field_and_none_becomes_a_run(self, service: Service) -> None:
        good = {
            "spec": pair_in(service.folder / "malformed"),
            "store": str(service.folder / "store"),
            "sdk": "emulator",
        }
        schema = service.deployment(BUILD)["parameter_openapi_schema"]
        drawn = list(itertools.islice(mutants(schema, good, random.Random(6)), self.COUNT))
        before = len(service.runs(BUILD))
        wrong = []
        for mutant in drawn:
            answer = service.post(BUILD, mutant.parameters)
            if answer.status_code not in (409, 422) or mutant.field not in answer.text:
                wrong.append(f"{mutant.what}: {answer.status_code} {answer.text}")
        assert wrong == []
        assert len({mutant.what for mutant in drawn}) == self.COUNT
        assert len(service.runs(BUILD)) == before

    @pytest.mark.parametrize(
        ("body", "status", "named"),
        [
            (b"{", 422, "JSON"),
            (b'{"parameters": [1]}', 422, "parameters"),
            (b'{"parameters": {}, "zzz": 1}', 422, "zzz"),
            (b'{"parameters": {"zzz": 1}}', 409, "zzz"),
            (b'{"parameters": {}, "job_variables": {"command": "id"}}', 422, "command"),
        ],
    )
    def test_so_is_a_body_that_is_none(self, service: Service, body: bytes, status: int, named: str) -> None:
        answer = service.api(
            "POST", f"/deployments/{service.deployment(BUILD)['id']}/create_flow_run", content=body
        )  # fmt: skip
        assert answer.status_code == status
        assert named in answer.text


class TestWhoMayAsk:
    """The password opens the server, and a page of another site does not."""

    PATH = "/deployments/filter"

    def test_without_the_password_nothing_is_told(self, service: Service) -> None:
        for auth in (None, ("hefjoin", "wrong")):
            with httpx.Client(base_url=service.url, auth=auth) as client:
                assert client.get("/admin/version").status_code == 401
                assert client.get("/health").status_code == 200

    def test_with_the_password_and_without_a_token_nothing_is_changed(self, service: Service) -> None:
        answer = service.api.http.post(self.PATH, json={})
        assert answer.status_code == 403
        assert "CSRF" in answer.text

    def test_a_page_of_another_site_is_not_answered(self, service: Service) -> None:
        def allowed(origin: str) -> str | None:
            ask = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            return service.api.http.options(self.PATH, headers=ask).headers.get("access-control-allow-origin")

        own = service.url.removesuffix("/api")
        assert allowed(own) == own
        assert allowed("http://evil.example") is None

    def test_the_password_is_in_no_command_line_and_in_no_log(self, service: Service, worker: None) -> None:
        secret = AUTH.partition(":")[2]
        assert service.processes()
        for process in service.processes():
            assert secret not in " ".join(process.cmdline())
        for path in service.folder.glob("*.log"):
            assert secret not in path.read_text(errors="replace")
        assert secret not in service.api.http.get("/admin/settings").text

    def test_the_server_listens_on_loopback_only(self, service: Service) -> None:
        assert service.server is not None
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(service.server.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}


def test_a_second_deploy_changes_nothing(service: Service) -> None:
    lines = service.deploy().splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(": unchanged")] == []


def test_a_deploy_puts_back_what_was_changed_but_for_a_persons_switches(service: Service) -> None:
    identity = service.deployment(BUILD)["id"]
    service.api.json("PATCH", f"/deployments/{identity}", json={"enforce_parameter_schema": False, "tags": []})
    lines = service.deploy().splitlines()
    changed = [line for line in lines if not line.endswith(": unchanged")]
    assert changed == [f"deployment {BUILD}: changed (tags, enforce_parameter_schema)"]
    assert service.deployment(BUILD)["enforce_parameter_schema"] is True


def test_deploy_without_a_server_or_with_another_password_says_so(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    absent = service.run("setup", PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
    assert (absent.returncode, absent.stdout) == (6, "")
    assert absent.stderr == (
        f"hefjoin: no Prefect server answers at http://127.0.0.1:{port}/api; start one with `make server`, or set "
        "PREFECT_API_URL\n"
    )
    refused = service.run("setup", PREFECT_API_AUTH_STRING="hefjoin:wrong")
    assert (refused.returncode, refused.stdout) == (6, "")
    assert refused.stderr.startswith(f"hefjoin: the Prefect server at {service.url} refuses the auth string; ")


def test_prefects_own_command_deploys_the_file_too(service: Service) -> None:
    """From the project's root, as its documentation says."""
    command = [sys.executable, "-m", "deployments", "prefect", "deploy", "--all", "--prefect-file", str(DECLARED)]
    done = subprocess.run(
        command, cwd=ROOT, env=service.environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.deployment(BUILD)["entrypoint"] == "flows.build.join_and_compile"
    service.deploy()
