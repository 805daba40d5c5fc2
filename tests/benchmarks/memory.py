"""Whether quantizing needs more memory for more images."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.benchmarks.material import Material, script
from tests.benchmarks.measure import ROOT, Row, call, run
from tests.benchmarks.quantize import quantize_ours

COUNTS = (64, 1024)
GIB = 1 << 30
BAR_GIB = 0.9
NOISE_FRAMES = 8


def measure(material: Material) -> list[Row]:
    """Return the rows of the whole step and of `optimize` alone."""
    steps = [_step(material, count) for count in COUNTS]
    alone = [
        call(
            quantize_ours,
            material.scratch,
            har=material.joined_har,
            calibration=material.calibration(count),
            images=count,
            quantized=material.scratch / "memory.har",
        ).process.peak_bytes
        for count in COUNTS
    ]
    return [
        *_rows("quantize step", steps, "sdk/step.py quantize: calibration, inference of 64 frames, noise, HAR"),
        *_rows("optimize alone", alone, "load_har, optimize, save_har"),
    ]


def _rows(what: str, peaks: list[int], how: str) -> list[Row]:
    small, large = peaks
    measured = f"peak resident size of one process (wait4): {how}"
    return [
        *(
            Row(f"{what}, peak memory at {count:,} images", peak / GIB, "GiB", "≤", BAR_GIB, measured)
            for count, peak in zip(COUNTS, peaks, strict=True)
        ),
        Row(f"{what}, the two apart by", 100 * abs(large / small - 1), "%", "≤", 10.0, "of the smaller count's"),
    ]


def _step(material: Material, count: int) -> int:
    """Return the peak of the process that the quantize stage starts, in bytes."""
    work = material.scratch / f"step-{count}"
    work.mkdir()
    request = work / "quantize.request.json"
    arguments = {
        "har": material.joined_har,
        "script": script(count),
        "calibration": material.calibration(count),
        "evaluation": material.evaluation,
        "quantized_har": work / "quantized.har",
        "outputs": work / "outputs.npz",
        "noise_frames": NOISE_FRAMES,
        "native_scopes": [],
        "mean": [],
        "std": [],
    }
    content = {
        "provider": "emulator",
        "action": "quantize",
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        "result": str(work / "result.json"),
        "failure": str(work / "failure.json"),
        "parent_pid": os.getpid(),
    }
    request.write_text(json.dumps(content), encoding="utf-8")
    return run([sys.executable, str(ROOT / "hefjoin/sdk/step.py"), str(request)], work).peak_bytes
