"""Whether two parses are really parallel."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.benchmarks.material import Material
from tests.benchmarks.measure import Row, call, spread

ROUNDS = 9
LOOP = "for _ in range(15_000_000): pass"


def measure(material: Material) -> list[Row]:
    """Return the row of the parse stage."""
    found = call(parse_in_turn, material.scratch, models=material.models, scratch=material.scratch).value
    together, alone = zip(*found, strict=True)
    loops = call(loops_in_turn, material.scratch).value
    possible = median(one for one, _ in loops) / median(other for _, other in loops)
    return [
        Row(
            "parse two networks at once ÷ one after the other, wall",
            median(together) / median(alone),
            "×",
            "≤",
            0.7,
            f"two threads, each the stage and its SDK process; medians of {ROUNDS} rounds: "
            f"{spread(together)} ÷ {spread(alone)} s; two bare loops, what the machine allows now: {possible:.2f} ×",
        )
    ]


def parse_in_turn(models: dict[str, str], scratch: str) -> list[tuple[float, float]]:
    """Return seconds of (both at once, both in turn) for every round; the sides change places every other round."""
    import time
    from concurrent.futures import ThreadPoolExecutor

    from hefjoin.sdk.toolchain import resolve
    from hefjoin.stages.contract import Workplace, perform
    from hefjoin.stages.parse import Parse
    from hefjoin.stores import open_store

    toolchain = resolve("emulator")
    store = open_store(str(Path(scratch) / "parse-store"))
    place = Workplace(store=store, root=Path(scratch) / "parse-work", toolchain=toolchain, force=True)
    stages = [
        Parse(
            name=name,
            source=store.put(Path(path), "onnx"),
            hw_arch="hailo8",
            input_shape=(),
            start_nodes=(),
            end_nodes=(),
            sdk=toolchain.sdk,
        )
        for name, path in models.items()
    ]

    def at_once() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(len(stages)) as threads:
            list(threads.map(lambda stage: perform(stage, place), stages))
        return time.perf_counter() - start

    def in_turn() -> float:
        start = time.perf_counter()
        for stage in stages:
            perform(stage, place)
        return time.perf_counter() - start

    at_once()
    rounds = []
    for index in range(ROUNDS):
        if index % 2:
            alone = in_turn()
            rounds.append((at_once(), alone))
        else:
            rounds.append((at_once(), in_turn()))
    return rounds


def loops_in_turn() -> list[tuple[float, float]]:
    """Return the same for two processes that only compute: nothing can be more parallel on this machine now."""
    import subprocess
    import sys
    import time

    command = [sys.executable, "-c", LOOP]
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for process in [subprocess.Popen(command), subprocess.Popen(command)]:
            process.wait()
        middle = time.perf_counter()
        for _ in range(2):
            subprocess.run(command, check=True)
        rounds.append((middle - start, time.perf_counter() - middle))
    return rounds
