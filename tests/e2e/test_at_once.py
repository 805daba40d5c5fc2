"""Eight builds of one spec at once: each stage is done once in total, whoever does it, and all end well.

They share one Prefect server: eight of their own take longer to start than all stages of all builds together.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from hefjoin.builds.rows import latest
from hefjoin.builds.verify import verify
from hefjoin.stores import Store, open_store
from tests.e2e.conftest import SECONDS, Desk, wait_for
from tests.s3_server import BUCKET, S3Server

BUILDS = 8
FEW = 4
STAGES = (
    *("parse left", "parse right", "check", "forecast", "join", "quantize", "repair", "couple"),
    *("compile", "benchmark", "score"),
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store that the desk's builds can reach too."""
    if request.param == "local":
        return open_store(str(desk.store))
    for name, value in request.getfixturevalue("s3").environment().items():
        monkeypatch.setenv(name, value)
        desk.environment[name] = value
    return open_store(f"s3://{BUCKET}/at-once/{desk.folder.parent.name}")


def start(desk: Desk, store: Store, count: int) -> list[subprocess.Popen[str]]:
    command = ("build", "tiny.yaml", "--sdk", "emulator", "--store", store.uri, "--out")
    return [desk.start(*command, f"out-of-{number}") for number in range(count)]


def done(desk: Desk, builds: Sequence[subprocess.Popen[str]]) -> Counter[str]:
    """Return how often each stage was done to its end, of those that a build has."""
    said = [line for each in builds for line in re.findall(r"^ *(.+): done in ", desk.stderr(each), re.MULTILINE)]
    return Counter(title for title in said if title in STAGES)


def require_one_build(desk: Desk, store: Store, builds: Sequence[subprocess.Popen[str]]) -> None:
    """Check that all of these ended well, in one build, and left nothing of themselves."""
    for each in builds:
        assert each.wait(SECONDS) == 0, desk.stderr(each)
        assert not re.search("Traceback|hefjoin:", desk.stderr(each)), desk.stderr(each)
    assert store.list_records("names") == ["names/emulator/tiny/000001"]
    assert len(store.list_records("builds")) == 1
    published = latest(store, "emulator", "tiny")
    assert published
    assert verify(store, published).findings == ()
    assert len({path.read_bytes() for path in desk.folder.glob("out-of-*/tiny/manifest.json")}) == 1


def left(store: Store) -> list[str]:
    return [key for folder in ("claims", "beats", "pins") for key in store.list_records(folder)]


def test_each_stage_is_done_once(desk: Desk, store: Store) -> None:
    builds = start(desk, store, BUILDS)
    require_one_build(desk, store, builds)
    assert done(desk, builds) == dict.fromkeys(STAGES, 1)
    assert left(store) == []


def test_one_that_is_killed_at_a_stage_is_followed(desk: Desk, store: Store) -> None:
    builds = start(desk, store, FEW)

    def owner() -> int | None:
        """Return who quantizes."""
        claims = (store.read_record(key) for key in store.list_records("claims/quantize"))
        return next((claim["pid"] for claim in claims if claim), None)

    pid = wait_for("build that quantizes", owner)
    (victim,) = (each for each in builds if each.pid == pid)
    victim.kill()
    victim.wait(SECONDS)
    others = [each for each in builds if each is not victim]
    require_one_build(desk, store, others)
    assert "quantize: done" not in desk.stderr(victim)
    assert done(desk, builds) == dict.fromkeys(STAGES, 1)
    swept = desk.run("gc", "--store", store.uri, "--keep", "1", "--yes")
    assert swept.returncode == 0, swept.stderr
    assert left(store) == []
