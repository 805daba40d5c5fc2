"""What `hefjoin trigger` and `hefjoin put` say before, and without, a server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from tests.tiny import write_model, write_pair


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that does not answer, which the environment names."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setattr("flows.embedded.ANSWER_SECONDS", 0.05)
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_spec_is_checked_before_a_server_is_asked(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    path.write_text(path.read_text() + "surplus: 1\nhw_arch: none\n")
    done = run("trigger", str(path))
    assert done.exit_code == 2
    assert "surplus: unknown key" in done.output
    assert "hw_arch: should be" in done.output
    assert "PREFECT_API_URL" not in done.output


def test_a_script_is_checked_too(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    path.write_text(path.read_text() + "script: 'no_such_command(1)'\n")
    done = run("trigger", str(path))
    assert done.exit_code == 2
    assert "no_such_command" in done.output


def test_without_a_server_it_says_how_to_name_one(tmp_path: Path) -> None:
    done = run("trigger", str(write_pair(tmp_path)))
    assert done.exit_code == 2
    assert "PREFECT_API_URL is not set" in done.output


def test_a_server_that_does_not_answer(tmp_path: Path, nobody: str) -> None:
    done = run("trigger", str(write_pair(tmp_path)))
    assert done.exit_code == 6
    assert f"PREFECT_API_URL={nobody} does not answer" in done.output


def test_one_key_stands_for_one_run(tmp_path: Path) -> None:
    path = str(write_pair(tmp_path))
    done = run("trigger", path, path, "--key", "night")
    assert done.exit_code == 2
    assert "--key stands for one run, and 2 specs are given" in done.output


class TestPut:
    def test_without_a_server_the_file_is_put_and_nobody_told(self, tmp_path: Path) -> None:
        model, target = write_model(tmp_path / "a.onnx", seed=1, classes=3), tmp_path / "there" / "a.onnx"
        done = run("put", str(model), str(target))
        assert done.exit_code == 0
        assert "no server was told" in done.output
        assert target.is_file()
        again = run("put", str(model), str(target))
        assert "unchanged" in again.output
        assert "told" not in again.output

    def test_a_server_that_does_not_answer_leaves_the_file_in_its_place(self, tmp_path: Path, nobody: str) -> None:
        model, target = write_model(tmp_path / "a.onnx", seed=1, classes=3), tmp_path / "there" / "a.onnx"
        done = run("put", str(model), str(target))
        assert done.exit_code == 6
        assert nobody in done.output
        assert "the file is in its place; nothing is rebuilt by itself" in done.output
        assert target.is_file()
