"""What is tried again: a busy device, a network fault. What is not: anything that waiting cannot mend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import boto3
import pytest
from moto.server import ThreadedMotoServer
from prefect import flow, task

from hefjoin.errors import (
    CalibrationError,
    CompileError,
    DeviceError,
    FitError,
    HefJoinError,
    JoinError,
    SpecError,
    StoreError,
    ToolchainError,
    UnsupportedOpError,
)
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tasks import fetch
from tasks.site import STAGE_TASK, Site
from tests.flows.runs import task_runs
from tests.tiny import write_pair

AT_ONCE: dict[str, Any] = {"retry_delay_seconds": 0, "retry_jitter_factor": 0}
RETRIES = 3


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (SpecError([]), 1),
        (JoinError([]), 1),
        (CalibrationError("empty"), 1),
        (CompileError("no", log_tail=""), 1),
        (UnsupportedOpError("no"), 1),
        (FitError("no", need={}, have={}), 1),
        (ToolchainError("stopped after 3600 s", log_tail=""), 1),
        (StoreError("full", reason="full", uri="", is_transient=False), 1),
        (DeviceError("wrong chip", is_transient=False), 1),
        (DeviceError("busy"), 1 + RETRIES),
        (StoreError("out of reach", reason="unavailable", uri=""), 1 + RETRIES),
        (ZeroDivisionError("a defect of ours"), 1),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, Exception) else "",
)
def test_an_error_is_tried_again_only_where_that_may_help(error: Exception, attempts: int) -> None:
    made: list[int] = []

    @task(**{**STAGE_TASK, **AT_ONCE})
    def stage() -> None:
        made.append(1)
        raise error

    @flow
    def alone() -> None:
        stage()

    state: Any = alone(return_state=True)
    found = state.result(raise_on_failure=False)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert len(made) == attempts


class Busy(BaseHTTPRequestHandler):
    """Forwards requests to `upstream`, but answers the next `refusals` PUTs with 503."""

    protocol_version = "HTTP/1.1"
    upstream: ClassVar[str]
    refusals: ClassVar[int] = 0

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "PUT" and type(self).refusals:
            type(self).refusals -= 1
            return self.answer(503, [], b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>")
        upstream = HTTPConnection(self.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        found = upstream.getresponse()
        content = found.read()
        upstream.close()
        return self.answer(found.status, found.getheaders(), content)

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        lengths = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        ours = {"content-length", "connection", "transfer-encoding", "date", "server"}
        for name, value in [*((n, v) for n, v in headers if n.lower() not in ours), ("Content-Length", lengths)]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = forward

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Busy]]:
    """An S3 server with the bucket `models`, to which the environment points; botocore's own retries are off."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()

    class Here(Busy):
        upstream = f"{host}:{port}"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.session.Session().client("s3").create_bucket(Bucket="models")
    yield Here
    server.shutdown()
    thread.join()
    server.server_close()
    moto.stop()


@pytest.mark.parametrize(("refusals", "attempts", "is_saved"), [(2, 3, True), (4, 4, False)])
def test_a_store_that_is_busy_is_asked_again_up_to_three_times(
    busy: type[Busy], tmp_path: Path, refusals: int, attempts: int, is_saved: bool
) -> None:
    spec = read_spec(write_pair(tmp_path))
    toolchain = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)
    site = Site(store=f"s3://models/{refusals}", work=str(tmp_path), toolchain=toolchain)

    @flow
    def alone() -> Any:
        return fetch.with_options(**AT_ONCE)(site, spec)

    busy.refusals = refusals
    state: Any = alone(return_state=True)
    found = state.result(raise_on_failure=False)
    run = task_runs(state.state_details.flow_run_id, 1)["fetch"]
    assert run.run_count == attempts
    if is_saved:
        assert run.state.name == "Completed"
        assert all(open_store(site.store).is_intact(ref) for ref in found.models.values())
    else:
        assert isinstance(found, HefJoinError)
        assert found.attributes["reason"] == "unavailable"
        assert found.exit_code == 5
