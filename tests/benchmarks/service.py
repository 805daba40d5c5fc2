"""What the service costs: a hardened server and its workers as processes of their own, on this machine.

How long a run waits until its first stage, what it takes to find that nothing changed, and what a second worker brings.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from tests.benchmarks.flow import own_surroundings
from tests.benchmarks.material import Material
from tests.benchmarks.measure import ROOT, BrokenMeasurement, Row, call, interleaved, spread
from tests.e2e.conftest import environment, wait_for
from tests.e2e.service import Service, pair_in, serving
from tests.tiny import CLASSES, write_model

BUILD, REBUILD = "join-and-compile/builders", "rebuild/nightly"
HERE = {"sdk": "emulator", "device": "inline"}
POSTS = 7
REBUILDS = 3
UNCHANGED = 20
BUILDS = 8
ROUNDS = 2
DEADLINE_S = 600.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Waited(NamedTuple):
    """What a run waited for until its first stage, in seconds, one after the other."""

    picked_s: float
    """For a worker to ask for work and get it."""
    process_s: float
    """For a process of its own, with Prefect and the flow imported, to begin the flow."""
    stage_s: float
    """For its first task."""

    @property
    def all_s(self) -> float:
        """Until the first stage runs."""
        return sum(self)


def measure(material: Material) -> list[Row]:
    """Return the rows of the three."""
    with own_surroundings(material.scratch / "service") as folder, _service(folder) as service:
        return [_first_stage(service), _nothing_changed(service), _second_worker(service)]


@contextmanager
def _service(folder: Path) -> Iterator[Service]:
    imports = "from flows.embedded import prefect_api; from hefjoin.folders import cache_folder"
    code = f"{imports}\nwith prefect_api(cache_folder()): pass"
    made = folder / "home"
    subprocess.run([sys.executable, "-c", code], env=environment(made), cwd=ROOT, check=True, timeout=DEADLINE_S)
    (folder / "served").mkdir()
    with serving(folder / "served", made / "cache" / "hefjoin" / "prefect-0", **ONE_THREAD) as service:
        yield service


def _first_stage(service: Service) -> Row:
    """Post runs one after the other, each when the one before it has ended, so that the worker is warm and idle."""
    folder = service.folder / "latency"
    given = {"spec": pair_in(folder, name="latency"), "store": str(folder / "store"), **HERE}
    with _worker(service, "builders"):
        found = [_waited(service, given) for _ in range(POSTS + 1)][1:]
    texts = [spread(values, ".1f") for values in (*zip(*found, strict=True), [each.all_s for each in found])]
    return Row(
        "API call → first stage running, warm worker that polls every 2 s", median(each.all_s for each in found),
        "s", "≤", 10.0,
        f"median of {POSTS}, {texts[3]} s: picked up {texts[0]} s, process {texts[1]} s, first task {texts[2]} s",
    )  # fmt: skip


def _waited(service: Service, given: dict[str, Any]) -> Waited:
    run = service.post_run(BUILD, given)
    _require_completed(service, run)
    states = {state["type"]: _seconds(state["timestamp"]) for state in reversed(service.states(run))}
    first = _seconds(wait_for("tasks of the run, recorded a second later", lambda: _started(service, run)))
    posted = _seconds(service.read(run)["created"])
    return Waited(states["PENDING"] - posted, states["RUNNING"] - states["PENDING"], first - states["RUNNING"])


def _started(service: Service, run: str) -> str | None:
    """Return when the first of a run's tasks started, as the server has it."""
    tasks = service.api.json("POST", "/task_runs/filter", json={"flow_runs": {"id": {"any_": [run]}}})
    return min((task["start_time"] for task in tasks if task["start_time"]), default=None)


def _nothing_changed(service: Service) -> Row:
    catalogue = service.folder / "catalogue"
    store = catalogue / "store"
    call(build_all, service.folder, catalogue=catalogue, store=store, work=service.folder / "first")
    taken, inside = [], []
    with _worker(service, "control"):
        for _ in range(REBUILDS):
            run = service.post_run(REBUILD, {"catalogue": str(catalogue), "store": str(store), **HERE})
            state = _require_completed(service, run)
            if not state["message"].startswith("nothing was built"):
                raise BrokenMeasurement(f"a rebuild in which nothing changed ended as {state}")
            ended = service.read(run)
            taken.append(_seconds(ended["end_time"]) - _seconds(ended["created"]))
            inside.append(float(ended["total_run_time"]))
    return Row(f"scheduled rebuild of {UNCHANGED} unchanged specs", median(taken), "s", "≤", 20.0,
               f"median of {REBUILDS}, from the post to the end {spread(taken, '.1f')} s, of it the flow itself "
               f"{spread(inside, '.1f')} s; sources and store in folders")  # fmt: skip


def build_all(catalogue: str, store: str, work: str) -> None:
    """Fill a catalogue with pairs, each with files of its own, and build them without Prefect."""
    import os

    from tests.benchmarks import plain
    from tests.tiny import pair, write_pair

    os.environ["HEFJOIN_WORK"] = work
    for number in range(UNCHANGED):
        name = f"pair-{number:02d}"
        made = write_pair(Path(catalogue) / name, pair(name=name))
        text = made.read_text(encoding="utf-8")
        for file in ("left.onnx", "right.onnx", "images.npy"):
            text = text.replace(f": {file}", f": {name}/{file}")
        spec = Path(catalogue) / f"{name}.yaml"
        spec.write_text(text, encoding="utf-8")
        plain.build(str(spec), store)


def _second_worker(service: Service) -> Row:
    """Build as many different pairs by one worker and by two, each worker on a core of its own."""
    specs = []
    for number in range(BUILDS):
        folder = service.folder / f"different-{number}"
        specs.append(pair_in(folder, name=f"different-{number}"))
        for seed, (name, classes) in enumerate(CLASSES.items()):
            write_model(folder / f"{name}.onnx", seed=100 * number + seed, classes=classes)
    rounds = iter(range(2 * ROUNDS))

    def by(workers: int) -> float:
        store = service.folder / f"round-{next(rounds)}"
        with _workers(service, workers):
            runs = [service.post_run(BUILD, {"spec": spec, "store": str(store), **HERE}) for spec in specs]
            for run in runs:
                _require_completed(service, run)
        ended = [service.read(run) for run in runs]
        shutil.rmtree(store)
        return max(_seconds(run["end_time"]) for run in ended) - min(_seconds(run["created"]) for run in ended)

    one, two = interleaved(ROUNDS, lambda: by(1), lambda: by(2))
    return Row(f"{BUILDS} different builds: 1 worker ÷ 2 workers", median(one) / median(two), "×", "≥", 1.6,
               f"one core each, {ROUNDS} rounds in turn: {spread(one, '.0f')} s ÷ {spread(two, '.0f')} s")  # fmt: skip


@contextmanager
def _worker(service: Service, pool: str, core: int = 0) -> Iterator[None]:
    process = service.worker(pool, limit=1)
    psutil.Process(process.pid).cpu_affinity([core])  # its children's too
    try:
        yield
    finally:
        process.terminate()
        process.wait()
        service.workers.remove(process)


@contextmanager
def _workers(service: Service, count: int) -> Iterator[None]:
    if count == 0:
        yield
        return
    with _worker(service, "builders", count - 1), _workers(service, count - 1):
        yield


def _require_completed(service: Service, run: str) -> dict[str, Any]:
    state: dict[str, Any] = service.wait(run, seconds=DEADLINE_S)["state"]
    if state["type"] != "COMPLETED":
        raise BrokenMeasurement(f"run {run} ended as {state['name']}: {state['message']}\n{service.logs(run)}")
    return state


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
