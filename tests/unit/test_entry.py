"""A server that somebody else runs: `hefjoin build` comes in with the auth string of this machine, or says why not."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.auth import CLIENT, SERVER, make_auth_string
from flows.embedded import prefect_api
from hefjoin.errors import ToolchainError

PASSWORD = "hefjoin:right"


class Door(BaseHTTPRequestHandler):
    """Answers as Prefect does to who knows the password."""

    def do_GET(self) -> None:
        wanted = f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"
        is_open = self.path == "/api/health" or self.headers["Authorization"] == wanted
        self.send_response(200 if is_open else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setattr(os, "environ", dict(os.environ))
        for name in (CLIENT, SERVER):
            os.environ.pop(name, None)
        yield url
        server.shutdown()
        thread.join()


def test_the_password_is_found_in_the_file(url: str, tmp_path: Path) -> None:
    make_auth_string()
    (tmp_path / "hefjoin" / "auth").write_text(f"{PASSWORD}\n")
    with prefect_api(tmp_path):
        assert os.environ[CLIENT] == PASSWORD


@pytest.mark.parametrize("given", [None, "hefjoin:wrong"])
def test_who_has_none_or_another_is_told_so(url: str, tmp_path: Path, given: str | None) -> None:
    if given:
        os.environ[CLIENT] = given
    refused = pytest.raises(ToolchainError, match=f"PREFECT_API_URL={url} wants another auth string; set {CLIENT}")
    with refused, prefect_api(tmp_path):
        pytest.fail("it was let in")
