"""What memory the noise of every layer takes, above the models it is measured on."""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.benchmarks.material import Material
from tests.benchmarks.measure import BrokenMeasurement, Row, call, load_average
from tests.benchmarks.quantize import quantize_ours

ROUNDS = 3
IMAGES = 16
CALIBRATION = 64
MIB, GIB = 1 << 20, 1 << 30


def measure(material: Material) -> list[Row]:
    """Return the row of peak memory."""
    scratch, frames = material.scratch, material.calibration(CALIBRATION)
    quantized = scratch / "noise.har"
    call(quantize_ours, scratch, har=material.joined_har, calibration=frames, images=CALIBRATION, quantized=quantized)
    given: dict[str, Any] = {"har": quantized, "frames": frames}

    def peaks(*, opens: bool, images: int) -> list[Any]:
        return [call(analyze, scratch, **given, opens=opens, images=images) for _ in range(ROUNDS)]

    bare, opened, both = peaks(opens=False, images=0), peaks(opens=True, images=0), peaks(opens=True, images=IMAGES)
    alone = peaks(opens=False, images=IMAGES)
    layers, judged = call(computing_layers, scratch, har=quantized).value, alone[0].value
    if judged != layers:
        raise BrokenMeasurement(f"the noise of {judged} layers is known, of {layers} wanted")
    sizes = [median(run.process.peak_bytes for run in side) for side in (alone, bare, both, opened)]
    above = sizes[0] - sizes[1], sizes[2] - sizes[3]
    return [
        Row(
            f"per-layer noise of resnet-pair, {IMAGES} images, every layer: peak memory above the loaded models",
            max(above) / GIB,
            "GiB",
            "≤",
            0.5,
            f"peak resident size (wait4) of a process that loads the HAR and analyzes {judged} layers - of one that "
            f"only loads it: {sizes[0] / MIB:.0f} - {sizes[1] / MIB:.0f} MiB = {above[0] / GIB:.2f} GiB; with the "
            f"float and the quantized session open in both: {sizes[2] / MIB:.0f} - {sizes[3] / MIB:.0f} MiB = "
            f"{above[1] / GIB:.2f} GiB; the larger; medians of {ROUNDS}; load {load_average():.1f}",
        )
    ]


def analyze(har: str, frames: str, opens: bool, images: int) -> int:
    """Load a HAR, open its sessions if asked to, analyze; returns how many layers were judged."""
    from contextlib import ExitStack

    import numpy as np

    from hefjoin.emulator import ClientRunner, InferenceContext

    runner = ClientRunner(har=har)
    with ExitStack() as open_sessions:
        for context in (InferenceContext.SDK_FP_OPTIMIZED, InferenceContext.SDK_QUANTIZED) if opens else ():
            open_sessions.enter_context(runner.infer_context(context))
        if images:
            runner.analyze_noise(np.array(np.load(frames, mmap_mode="r")[:images]))
    return sum(key.endswith("/layer_noise_analysis/snr") for key in runner.get_params_statistics())


def computing_layers(har: str) -> int:
    """Return how many layers of a HAR compute."""
    from hefjoin.emulator import ClientRunner, hn

    return len(hn.computing_layers(ClientRunner(har=har).get_hn_dict()))
