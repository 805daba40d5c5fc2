"""How a command reaches the Prefect server that somebody runs: the one that `PREFECT_API_URL` names.

The rule: whatever keeps a server from doing what was asked is told in a sentence, with the next step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flows.auth import CLIENT, auth_file, find_auth_string
from flows.embedded import CLIENT_SETTINGS, QUIET, require_answer
from hefjoin.errors import InputError, ToolchainError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

API_URL = "PREFECT_API_URL"
REFUSED = (401, 403)


@contextmanager
def prefect_client(debug: bool = False) -> Iterator[SyncPrefectClient]:
    """Yield a client of the server, which sends the auth string and CSRF tokens by itself.

    Raises:
        InputError: No server is named, or it does not have what is asked for.
        ToolchainError: It does not answer, or refuses who asks.
    """
    url = os.environ.get(API_URL)
    if not url:
        raise InputError(f"{API_URL} is not set; name the server, as {API_URL}=http://127.0.0.1:4200/api")
    for name, value in {**CLIENT_SETTINGS, **({} if debug else QUIET)}.items():
        os.environ.setdefault(name, value)
    if auth := find_auth_string():
        os.environ.setdefault(CLIENT, auth)
    require_answer(url)
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client, _in_words(url):
        yield client


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Turn the errors of Prefect's client into ours."""
    import httpx

    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in REFUSED:
            given = "does not accept the auth string" if os.environ.get(CLIENT) else "wants an auth string"
            raise ToolchainError(
                f"the Prefect server at {url} {given} (HTTP {status}); set {CLIENT} to the server's, or copy "
                f"{auth_file()} from the server's machine",
                log_tail="",
            ) from error
        if status >= 500:
            raise ToolchainError(
                f"the Prefect server at {url} failed ({_detail(error)}); try again", log_tail=""
            ) from error
        raise InputError(f"the Prefect server at {url} refused it: {_detail(error)}") from error
    except httpx.HTTPError as error:
        raise ToolchainError(f"the Prefect server at {url} does not answer: {error}; try again", log_tail="") from error


def _detail(error: Any) -> str:
    """Return what the server says of a request that it refused."""
    try:
        found = error.response.json()
    except ValueError:
        return f"HTTP {error.response.status_code}"
    return str(found.get("detail") or found.get("exception_message") or found)
