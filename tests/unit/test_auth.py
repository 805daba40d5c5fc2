"""The auth string of a service: made once, kept from others, never where it could be seen."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deployments import settings
from flows.auth import CLIENT, SERVER, auth_file, find_auth_string, make_auth_string
from hefjoin.errors import ToolchainError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a config folder of its own, and no auth string in the environment."""
    for name in (CLIENT, SERVER, "PREFECT_API_URL", "PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "hefjoin" / "auth"


def test_what_was_made_is_found_again_and_only_its_owner_may_read_it(config: Path) -> None:
    assert find_auth_string() is None
    made = make_auth_string()
    assert find_auth_string() == made
    assert auth_file() == config
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    user, _, password = made.partition(":")
    assert user == "hefjoin"
    assert len(password) >= 43  # 32 random bytes in base64


def test_it_is_not_made_twice(config: Path) -> None:
    made = make_auth_string()
    with pytest.raises(ToolchainError, match="cannot be written"):
        make_auth_string()
    assert config.read_text().strip() == made


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    make_auth_string()
    monkeypatch.setenv(SERVER, "a:b")
    assert find_auth_string() == "a:b"
    monkeypatch.setenv(CLIENT, "c:d")
    assert find_auth_string() == "c:d"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(config: Path, mode: int) -> None:
    make_auth_string()
    config.chmod(mode)
    with pytest.raises(ToolchainError, match=f"has mode {mode:04o}, so that others may read it"):
        find_auth_string()


def test_a_file_without_an_auth_string_is_refused(config: Path) -> None:
    config.parent.mkdir()
    config.touch(mode=0o600)
    with pytest.raises(ToolchainError, match="one line, user:password"):
        find_auth_string()


def test_server_worker_and_clients_get_the_same_one() -> None:
    server = settings.server_environment()
    assert server[SERVER] == server[CLIENT] == find_auth_string()
    for environment in (settings.worker_environment(), settings.client_environment()):
        assert environment[CLIENT] == server[SERVER]
        assert environment["PREFECT_API_URL"] == server["PREFECT_API_URL"]
        assert SERVER not in environment


def test_without_one_a_client_has_none() -> None:
    assert CLIENT not in settings.client_environment()


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://builder:4200/api")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "7")
    environment = settings.worker_environment()
    assert environment["PREFECT_API_URL"] == "http://builder:4200/api"
    assert environment["PREFECT_WORKER_QUERY_SECONDS"] == "7"


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ({}, "http://127.0.0.1:4200,http://localhost:4200"),
        ({"PREFECT_SERVER_API_PORT": "4300"}, "http://127.0.0.1:4300,http://localhost:4300"),
        ({"PREFECT_SERVER_API_HOST": "10.0.0.5"}, "http://10.0.0.5:4200"),
        ({"PREFECT_UI_API_URL": "https://hefjoin.example/api"}, "https://hefjoin.example"),
    ],
)
def test_only_the_pages_of_the_own_ui_may_call_the_server(
    given: dict[str, str], origins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert settings.server_environment()["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == origins


def test_the_home_of_the_database_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "not" / "there"))
    settings.make_home(settings.client_environment())
    home = tmp_path / "not" / "there" / "hefjoin" / "prefect"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))
    (tmp_path / "a file").touch()
    with pytest.raises(ToolchainError, match="cannot be made: Not a directory; set PREFECT_HOME"):
        settings.make_home(settings.client_environment())
