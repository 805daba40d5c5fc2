"""How server, workers and clients are set up: everything that Prefect reads from the environment.

The rule: these are defaults, what the environment says stays. The auth string travels in the environment only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flows.auth import CLIENT, SERVER, find_auth_string, make_auth_string
from flows.embedded import RECORDER
from hefjoin.errors import ToolchainError
from hefjoin.folders import STORE

DEFAULT_STORE = "HEFJOIN_STORE"
"""Environment variable with the store of runs that name none, as `make deploy` was told it."""
CATALOGUE = "HEFJOIN_CATALOGUE"
"""Likewise with the catalogue that `rebuild` looks through."""
SOURCES, STORES = "HEFJOIN_SERVICE_SOURCES", "HEFJOIN_SERVICE_STORES"
HOST, PORT = "127.0.0.1", "4200"

COMMON = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_CLIENT_MAX_RETRIES": "7",  # after 2, 4, ... 128 s: a server may be away for four minutes
}
SERVES = {
    **RECORDER,
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "5",
}
WORKS = {
    "HEFJOIN_SERVICE": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "hefjoin",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PYTHONUNBUFFERED": "1",
}
LIMITS = {"builders": 1, "hailo8": 1, "control": 20}
"""Runs at a time of one worker: a build takes all cores, a chip takes one program, waiting takes nothing."""


def prefect_home() -> Path:
    """Return where the server keeps its database: below `XDG_STATE_HOME`, else below `~/.local/state`."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hefjoin" / "prefect"


def make_home(environment: Mapping[str, str]) -> None:
    """Make Prefect's home, which nobody but this user may enter: the database has what runs were given.

    Raises:
        ToolchainError: It cannot be made.
    """
    home = Path(environment["PREFECT_HOME"]).expanduser()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ToolchainError(f"{home} cannot be made: {error.strerror}; set PREFECT_HOME", log_tail="") from error


def server_environment() -> dict[str, str]:
    """Return the environment of a hardened server; an auth string is made where there is none.

    Raises:
        ToolchainError: The auth string cannot be read or made.
    """
    host = os.environ.get("PREFECT_SERVER_API_HOST", HOST)
    port = os.environ.get("PREFECT_SERVER_API_PORT", PORT)
    api = f"http://{host}:{port}/api"
    own = {
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(os.environ.get("PREFECT_UI_API_URL", api)),
        SERVER: find_auth_string() or make_auth_string(),
    }
    return _with_defaults({**SERVES, **own})


def client_environment() -> dict[str, str]:
    """Return the environment of whoever talks to the server.

    Raises:
        ToolchainError: The auth string cannot be read.
    """
    return _with_defaults({"PREFECT_API_URL": f"http://{HOST}:{PORT}/api"})


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker and of the flows that it starts.

    Raises:
        ToolchainError: The auth string cannot be read.
    """
    return {**WORKS, STORES: os.environ.get(DEFAULT_STORE, STORE), **client_environment()}


def _with_defaults(own: Mapping[str, str]) -> dict[str, str]:
    found = own.get(SERVER) or find_auth_string()
    auth = {CLIENT: found} if found else {}
    return {"PREFECT_HOME": str(prefect_home()), **COMMON, **own, **auth, **os.environ}


def _origins(api: str) -> str:
    """Return the origins of a UI that talks to this API; a loopback server has two names."""
    parts = urlsplit(api)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.hostname != HOST:
        return origin
    return f"{origin},{parts.scheme}://localhost:{parts.port}"
