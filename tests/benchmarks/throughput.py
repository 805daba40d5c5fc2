"""How much faster the emulated device runs the quantized pair than the same engine runs the float one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.material import Material, normalized
from tests.benchmarks.measure import Row, call, median_of, spread

ROUNDS = 15
ROUND_SECONDS = 0.5
WARM_UP = 5


def measure(material: Material) -> list[Row]:
    """Return the row of int8 against fp32."""
    rounds = call(
        frames_per_second,
        material.scratch,
        hef=material.hef,
        har=material.joined_har,
        frames=material.evaluation,
    ).value
    ratios = [one["fps"] / other["fps"] for one, other in rounds]
    int8, fp32 = (list(side) for side in zip(*rounds, strict=True))
    fps = [median_of(side, lambda one: float(one["fps"])) for side in (int8, fp32)]
    cpu = [median_of(side, lambda one: float(one["cpu_ms"])) for side in (int8, fp32)]
    return [
        Row(
            "emulated int8 pair ÷ fp32 pair, FPS",
            fps[0] / fps[1],
            "×",
            "≥",
            2.5,
            f"ORT, 1 thread, batch 1, {ROUNDS} rounds of {ROUND_SECONDS:g} s in turn, ratio {spread(ratios)}; "
            f"{fps[0]:.0f} ÷ {fps[1]:.0f} FPS, {cpu[0]:.1f} ÷ {cpu[1]:.1f} CPU ms a frame",
        )
    ]


def frames_per_second(hef: str, har: str, frames: str) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return FPS and CPU milliseconds a frame of (int8, fp32), round by round.

    The int8 graph is the HEF's, as the emulated device runs it: raw frames in. The fp32 graph is the joined HAR's,
    fed with frames that are normalized already.
    """
    import numpy as np

    from hefjoin.devices.emulated import EmulatedDevice
    from hefjoin.formats.har import read_member
    from hefjoin.sessions import open_session

    raw = np.load(frames)
    int8 = EmulatedDevice(threads=1).open(Path(hef))
    fp32 = open_session(read_member(Path(har), ".native.onnx", limit_bytes=1 << 31), threads=1)
    sides = [(int8, np.split(raw, len(raw))), (fp32, np.split(normalized(raw), len(raw)))]
    for session, feeds in sides:
        for feed in feeds[:WARM_UP]:
            session.run(None, {session.get_inputs()[0].name: feed})
    return [(_round(*sides[0]), _round(*sides[1])) for _ in range(ROUNDS)]


def _round(session: Any, feeds: list[Any]) -> dict[str, float]:
    import time

    name, done = session.get_inputs()[0].name, 0
    start, cpu = time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - start) < ROUND_SECONDS:
        session.run(None, {name: feeds[done % len(feeds)]})
        done += 1
    return {"fps": done / seconds, "cpu_ms": 1e3 * (time.process_time() - cpu) / done}
