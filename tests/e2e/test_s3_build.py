"""Whole builds with everything in S3, on a real server: what is there is reused, checked, listed and kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Desk
from tests.s3_server import BUCKET, S3Server
from tests.tiny import CLASSES, write_model


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(s3: S3Server, desk: Desk) -> str:
    """The URI of an empty store that the desk's builds can reach."""
    desk.environment.update(s3.environment())
    return f"s3://{BUCKET}/{desk.folder.parent.name}"


def answer(desk: Desk, *arguments: str) -> Any:
    """Run `hefjoin` and return the JSON that it prints."""
    done = desk.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def build(desk: Desk, spec: str, store: str) -> Any:
    return answer(desk, "build", spec, "--sdk", "emulator", "--store", store)


def test_a_pair_is_built_once(desk: Desk, store: str) -> None:
    first = build(desk, "tiny.yaml", store)
    assert not any(run["is_reused"] for run in first["stages"])
    again = desk.run("build", "tiny.yaml", "--sdk", "emulator", "--store", store, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["build_id"] == first["build_id"]
    assert "done in" not in again.stderr
    assert again.stderr.count(": reused") == len(first["stages"])
    assert not desk.store.exists()


def test_what_only_an_older_build_needs_is_removed(desk: Desk, store: str) -> None:
    older = build(desk, "tiny.yaml", store)
    write_model(desk.folder / "right.onnx", seed=9, classes=CLASSES["right"])
    newer = build(desk, "tiny.yaml", store)
    assert [run["subject"] for run in newer["stages"] if run["stage"] == "parse" and run["is_reused"]] == ["left"]
    removed = answer(desk, "gc", "--keep", "1", "--yes", "--store", store)
    assert removed["is_removed"]
    assert removed["artifacts"]
    assert removed["builds"]
    assert [entry["build_id"] for entry in answer(desk, "history", "tiny", "--store", store)] == [newer["build_id"]]
    assert answer(desk, "verify", "tiny", "--store", store)["findings"] == []
    assert older["build_id"] in desk.run("verify", older["build_id"], "--store", store).stderr


def test_the_demo_pair_is_built_verified_listed_and_kept(desk: Desk, store: str) -> None:
    assert desk.run("example", "mnist-pair", ".").returncode == 0
    made = build(desk, "mnist-pair.yaml", store)
    verified = answer(desk, "verify", "mnist-pair", "--store", store)
    assert verified["findings"] == []
    (entry,) = answer(desk, "history", "mnist-pair", "--store", store)
    assert entry["build_id"] == made["build_id"]
    swept = desk.run("gc", "--keep", "1", "--yes", "--store", store)
    assert swept.returncode == 0, swept.stderr
    assert answer(desk, "verify", "mnist-pair", "--store", store) == verified
    assert build(desk, "mnist-pair.yaml", store)["build_id"] == made["build_id"]
