"""What Prefect costs: the command with an embedded server, with a running one, and a plain script beside them.

Everything is in the store already, so all three do the same little work (verify, reuse) and the rest of the
difference is the flow's own: starting the server, importing Prefect, runs, states, artifacts, the console.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import plain
from tests.benchmarks.material import Material
from tests.benchmarks.measure import BrokenMeasurement, Ended, Row, call, interleaved, median_of, run, spread
from tests.benchmarks.prefect_server import running_server
from tests.benchmarks.startup import HEFJOIN

EXAMPLE = "resnet-pair"
ROUNDS = 4
NOT_OURS = ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH", "HEFJOIN_DFC_PYTHON")


class Builds(NamedTuple):
    """Whole processes, round by round; all found everything in the store."""

    embedded: list[Ended]
    running: list[Ended]
    plain: list[Ended]


def measure(material: Material) -> list[Row]:
    """Return the rows of the flow's own cost and of the second build."""
    with own_surroundings(material.scratch / "flow") as folder:
        found = _build(folder)
    embedded, running, script = (median_of(side, lambda ended: float(ended.wall_s)) for side in found)
    texts = [spread([ended.wall_s for ended in side]) for side in found]
    cpu = [median_of(side, lambda ended: float(ended.cpu_s)) for side in found]
    how = f"resnet-pair, every stage reused on both sides; whole processes, medians of {ROUNDS} rounds: "
    plain_text = f"{texts[2]} s wall, {cpu[2]:.1f} CPU s"
    return [
        Row("flow - plain script, embedded server, warm home", embedded - script, "s", "≤", 15.0,
            f"{how}{texts[0]} s wall, {cpu[0]:.1f} CPU s - {plain_text}"),
        Row("flow - plain script, running server", running - script, "s", "≤", 3.0,
            f"{how}{texts[1]} s wall, {cpu[1]:.1f} CPU s - {plain_text}"),
        Row("second build, nothing changed, running server", running, "s", "≤", 6.0,
            f"`hefjoin build`, the whole process, no stage executed; median of {ROUNDS} rounds: {texts[1]} s wall"),
    ]  # fmt: skip


@contextmanager
def own_surroundings(folder: Path) -> Iterator[Path]:
    """Point every cache and home that a build uses into a new folder; yields it."""
    folder.mkdir()
    before = dict(os.environ)
    for name in NOT_OURS:
        os.environ.pop(name, None)
    os.environ |= {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HEFJOIN_WORK": str(folder / "work"),
        "PREFECT_HOME": str(folder / "client"),
        "DO_NOT_TRACK": "1",
    }
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)


def _build(folder: Path) -> Builds:
    """Fill the store, warm both servers, then build in turn."""
    run([HEFJOIN, "example", EXAMPLE, "."], folder)
    with running_server(folder / "server") as url:
        first = build_id(build_once(folder, {}))

        def command(environment: dict[str, str]) -> Ended:
            ended = build_once(folder, environment)
            if build_id(ended) != first:
                raise BrokenMeasurement("a build in which nothing changed executed a stage, or was published anew")
            return ended

        def embedded() -> Ended:
            return command({})

        def running() -> Ended:
            return command({"PREFECT_API_URL": url})

        def script() -> Ended:
            called = call(plain.build, folder, spec_path=f"{EXAMPLE}.yaml", store_uri="store")
            if not all(called.value):
                raise BrokenMeasurement(f"the plain script executed {called.value.count(False)} stages again")
            return called.process

        running()
        script()
        return Builds(*interleaved(ROUNDS, embedded, running, script))


def build_once(folder: Path, environment: dict[str, str], store: str = "store") -> Ended:
    """Build the example in `folder` with the whole command."""
    command = [HEFJOIN, "build", f"{EXAMPLE}.yaml", "--store", store, "--sdk", "emulator", "--json"]
    return run(command, folder, environment)


def build_id(ended: Ended) -> str:
    """Return the build that a command ended with: the earlier one where every stage was reused."""
    return str(json.loads(ended.stdout)["build_id"])
