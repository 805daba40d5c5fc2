"""`hefjoin cache`: what is kept here, and that nothing which a build uses goes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.sources.bucket import Version
from hefjoin.sources.cache import Cache, Entry

DAY = 86400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with two sources, stages that live and died, a checkpoint of each age and two Prefect homes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HEFJOIN_WORK", raising=False)
    folder = tmp_path / "hefjoin"
    cache = Cache(folder / "sources")
    for key, days in (("old/a.png", 9), ("new/b.png", 1)):
        body = key.encode() * 1000
        sha256 = hashlib.sha256(body).hexdigest()
        aged(cache._object(sha256), body, days)
        version = Version("bkt", key, "etag", len(body), 0)
        entry = Entry(endpoint="http://x", source=f"s3://bkt/{key[:4]}", version=version, sha256=sha256)
        cache._write(cache._index("http://x", version.uri), entry.model_dump_json().encode())
    aged(folder / "seen" / "note.json", b"{}", 3)
    work = folder / "work"
    aged(work / "parse-left-0123456789ab" / "parse.log", b"dead", 3)
    aged(work / "compile-tiny-ba9876543210" / "deep" / "request.json", b"alive", 0.9)
    aged(work / "hailort" / "hailort.log", b"not a stage", 9)
    aged(work / "checkpoints" / "dead", b"x", 3)
    aged(work / "checkpoints" / "alive", b"x", 0)
    for name in ("prefect-0", "prefect-1"):
        aged(folder / name / "prefect.db", b"db", 3)
        aged(folder / name / "lock", b"", 3)
    return folder


def aged(path: Path, body: bytes, days: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    for each in (path, path.parent, path.parent.parent):
        os.utime(each, (time.time() - days * DAY,) * 2)


def run(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["cache", *arguments], input=answer)
    assert result.exit_code in (0, 1), result.output
    return result


def files(home: Path) -> set[str]:
    return {
        path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file() and "index" not in str(path)
    }


def test_info_counts_what_is_there(home: Path) -> None:
    found = json.loads(run("info", "--json").output)
    counts = {each["kind"]: (each["files"], each["size_bytes"]) for each in found["folders"]}
    assert counts == {
        "sources": (2, 18000), "digests": (1, 2), "work": (2, 9), "checkpoints": (2, 2), "prefect": (4, 4),
    }  # fmt: skip
    assert [(each["uri"], each["objects"], each["size_bytes"]) for each in found["sources"]] == [
        ("s3://bkt/new/", 1, 9000),
        ("s3://bkt/old/", 1, 9000),
    ]
    assert found["limit_bytes"] == 20e9
    assert "s3://bkt/old/" in run("info").output


def test_clean_shows_first_and_keeps_what_a_build_may_use(home: Path) -> None:
    before = files(home)
    with (home / "prefect-1" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run("clean", answer="n\n")
        assert refused.exit_code == 0
        assert "parse-left-0123456789ab" in refused.output
        assert files(home) == before
        assert "removed" in run("clean", "--yes").output
    kept = {
        "work/compile-tiny-ba9876543210/deep/request.json", "work/hailort/hailort.log", "work/checkpoints/alive",
        "prefect-0/lock", "prefect-1/lock", "prefect-1/prefect.db",
    }  # fmt: skip
    assert files(home) == kept
    assert not list(Cache(home / "sources").entries())


def test_clean_of_what_is_older_leaves_the_rest(home: Path) -> None:
    shown = json.loads(run("clean", "--json", "--older-than", "5").output)
    assert [(each["kind"], each["files"], each["size_bytes"]) for each in shown] == [("sources", 1, 9000)]
    before = files(home)
    run("clean", "--older-than", "5", "--yes")
    assert len(before - files(home)) == 1
    assert [entry.version.key for _, entry in Cache(home / "sources").entries()] == ["new/b.png"]


def test_an_empty_machine_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HEFJOIN_WORK", raising=False)
    assert "nothing to remove" in run("clean").output
    assert run("info").exit_code == 0


def test_a_clean_without_an_answer_removes_nothing(home: Path) -> None:
    before = files(home)
    assert run("clean", answer="").exit_code == 1
    assert files(home) == before
