"""Kills at random moments: what was finished stays and is used, and nothing else is seen under a final name."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import yaml

from hefjoin.builds.find import Build, latest_build
from hefjoin.builds.verify import verify
from hefjoin.stores import Store, open_store
from tests.e2e.conftest import SECONDS, Desk, wait_for
from tests.tiny import pair

KILLS = 20
SEED = 20251129
SOON = 10.0
LEAST_CALIBRATION = 8


def write_specs(desk: Desk) -> list[str]:
    """Write specs that differ in what they calibrate with, so that each leaves something to be done."""
    for number in range(KILLS + 1):
        spec = pair(
            name=f"tiny-{number:02d}", calibration={"source": "images.npy", "count": LEAST_CALIBRATION + number}
        )
        spec["evaluation"] = {"count": 4}
        (desk.folder / f"{spec['name']}.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return [f"tiny-{number:02d}" for number in range(KILLS + 1)]


def start(desk: Desk, name: str) -> tuple[float, int]:
    """Start a build; return when it was in the store for the first time, and its process."""
    before = len(desk.records("claims/running"))
    process = desk.start("build", f"{name}.yaml", "--sdk", "emulator")
    wait_for("build", lambda: len(desk.records("claims/running")) > before)
    return time.monotonic(), process.pid


def found(store: Store, name: str) -> Build:
    build = latest_build(store, "emulator", name)
    assert build is not None
    return build


def left(store: Store) -> list[str]:
    return [key for folder in ("claims", "beats", "pins") for key in store.list_records(folder)]


def test_of_twenty_kills_none_loses_or_spoils_anything(desk: Desk) -> None:
    store, rng = open_store(str(desk.store)), random.Random(SEED)
    first, *others = write_specs(desk)
    begun, _ = start(desk, first)
    assert desk.started[0].wait(SECONDS) == 0, desk.stderr(desk.started[0])
    seconds = time.monotonic() - begun

    killed = 0
    for number, name in enumerate(others):
        begun, pid = start(desk, name)
        time.sleep(max(0.0, begun + seconds * (number + rng.random()) / KILLS - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        killed += desk.started[-1].wait(SOON) == -signal.SIGKILL
        wait_for("end of all processes", lambda: not desk.processes(), SOON)
        desk.require_nothing_half_written()
        folders = ("reuse", "builds", "names", "claims", "beats", "pins", "auto")
        assert all(store.read_record(key) is not None for folder in folders for key in store.list_records(folder))
    assert killed > KILLS // 2, "of the last, some end before they are killed"

    finished = {path: path.stat().st_mtime_ns for path in desk.records("reuse")}
    again = desk.start("build", *(f"{name}.yaml" for name in others), "--sdk", "emulator")
    assert again.wait(SECONDS) == 0, desk.stderr(again)
    assert not re.search("Traceback|hefjoin:", desk.stderr(again))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "what was finished is not done again"
    for name in others:
        build = found(store, name)
        assert store.list_records(f"builds/emulator/{name}") == [f"builds/emulator/{name}/{build.manifest.build_id}"]
        assert store.list_records(f"names/emulator/{name}") == [f"names/emulator/{name}/000001"]
        assert verify(store, build.published).findings == ()
    assert all(str(again.pid) not in str(store.read_record(key)) for key in store.list_records("claims"))

    swept = desk.run("gc", "--keep", "1", "--yes")
    assert swept.returncode == 0, swept.stderr
    assert left(store) == []
    assert store.leftovers() == []
    for name in others:
        assert verify(store, found(store, name).published).findings == ()
