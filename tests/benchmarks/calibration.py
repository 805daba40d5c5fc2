"""What looking at the calibration set costs, beside NNCF's calibration on the same images.

Timed on both sides is the pass itself, and nothing else of quantizing: ours is `observe`, called by `optimize`; NNCF's
are all `StatisticsAggregator.collect_statistics` of one `nncf.quantize`. NNCF runs on OpenVINO, where it takes about
six tenths of the time that its ONNX backend takes. Threads are as each comes: one for each core on both sides.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.material import Material, normalized, script
from tests.benchmarks.measure import Called, Row, call, interleaved, load_average, median_of, spread

ROUNDS = 2
IMAGES = 1024


def measure(material: Material) -> list[Row]:
    """Return the row of CPU time; none where NNCF or OpenVINO is absent."""
    if not (importlib.util.find_spec("nncf") and importlib.util.find_spec("openvino")):
        print("not measured: calibration, as nncf and openvino are not installed (pip install 'hefjoin[bench]')")
        return []
    scratch, frames = material.scratch, material.calibration(IMAGES)

    def ours() -> Called:
        return call(observe, scratch, har=material.joined_har, calibration=frames, images=IMAGES)

    def theirs() -> Called:
        return call(collect_statistics, scratch, model=material.joined_onnx, calibration=frames, images=IMAGES)

    return [_row(*interleaved(ROUNDS, ours, theirs))]


def _row(ours: list[Called], theirs: list[Called]) -> Row:
    cpu, wall = (
        [median_of(side, lambda run, key=key: float(run.value[key])) for side in (ours, theirs)]
        for key in ("cpu_s", "wall_s")
    )
    ratios = [mine.value["cpu_s"] / other.value["cpu_s"] for mine, other in zip(ours, theirs, strict=True)]
    return Row(
        f"ranges and histograms of {IMAGES:,} images, resnet-pair: CPU ÷ NNCF's calibration",
        cpu[0] / cpu[1],
        "×",
        "≤",
        1.5,
        "`observe` in `optimize` (extremes and histograms of every layer's output, by channel where it may be "
        f"equalized) ÷ all collect_statistics in nncf.quantize(preset=MIXED, subset_size={IMAGES}) on OpenVINO "
        "(extremes, and means for its bias correction), reading frames and compiling the graph included, "
        f"{len(ours)} rounds: {cpu[0]:.1f} ÷ "
        f"{cpu[1]:.1f} CPU s, {wall[0]:.1f} ÷ {wall[1]:.1f} s wall, round by round {spread(ratios)}; load "
        f"{load_average():.1f}",
    )


def observe(har: str, calibration: str, images: int) -> dict[str, float]:
    """Quantize a HAR at level 0; returns the CPU and wall seconds of its pass over the frames."""
    from hefjoin.emulator import ClientRunner, optimize

    runner = ClientRunner(har=har)
    runner.load_model_script(script(images))
    return _timed(optimize, "observe", lambda: runner.optimize(calibration))


def collect_statistics(model: str, calibration: str, images: int) -> dict[str, float]:
    """Quantize an ONNX file with NNCF on OpenVINO; returns the CPU and wall seconds of its passes over the frames."""
    import os

    os.environ["CI"] = "1"  # without it, importing it sends usage data
    import nncf
    import numpy as np
    import openvino
    from nncf.openvino.statistics.aggregator import OVStatisticsAggregator

    network = openvino.Core().read_model(Path(model))
    frames = np.load(calibration, mmap_mode="r")

    class Prepared:
        def __iter__(self) -> Any:
            return (normalized(frames[index : index + 1]) for index in range(images))

    def work() -> None:
        nncf.quantize(network, nncf.Dataset(Prepared()), preset=nncf.QuantizationPreset.MIXED, subset_size=images)

    return _timed(OVStatisticsAggregator, "collect_statistics", work)


def _timed(owner: Any, name: str, work: Callable[[], None]) -> dict[str, float]:
    """Do the work; return what the calls of one of its functions took in all."""
    import time

    inner = getattr(owner, name)
    taken = {"cpu_s": 0.0, "wall_s": 0.0}

    def timed(*arguments: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return inner(*arguments)
        finally:
            taken["cpu_s"] += time.process_time() - cpu
            taken["wall_s"] += time.perf_counter() - wall

    setattr(owner, name, timed)
    work()
    return taken
