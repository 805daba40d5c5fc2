"""What quantizing costs and how good it is, beside ONNX Runtime's own quantizer on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.material import MODELS, Material, normalized, script
from tests.benchmarks.measure import BrokenMeasurement, Called, Row, call, interleaved, median_of

ROUNDS = 3
IMAGES = 64
SAME_NETWORK_DB = 90.0


def measure(material: Material) -> list[Row]:
    """Return the rows of CPU time and of output SNR."""
    scratch, calibration = material.scratch, material.calibration(IMAGES)
    ours, theirs = scratch / "ours.har", scratch / "theirs.onnx"

    def optimize() -> Called:
        return call(
            quantize_ours, scratch, har=material.joined_har, calibration=calibration, images=IMAGES, quantized=ours
        )

    def quantize_static() -> Called:
        return call(quantize_theirs, scratch, model=material.joined_onnx, calibration=calibration, quantized=theirs)

    sides = interleaved(ROUNDS, optimize, quantize_static)
    found = call(
        output_snr,
        scratch,
        ours=ours,
        theirs=theirs,
        reference=material.joined_onnx,
        frames=material.evaluation,
    )
    return [_cost(*sides), _accuracy(found.value)]


def _cost(ours: list[Called], theirs: list[Called]) -> Row:
    cpu, wall, whole = (
        (median_of(ours, figure), median_of(theirs, figure))
        for figure in (
            lambda run: float(run.value["cpu_s"]),
            lambda run: float(run.value["wall_s"]),
            lambda run: float(run.process.cpu_s),
        )
    )
    return Row(
        f"quantize resnet-pair, {IMAGES} images: CPU ÷ ORT quantize_static",
        cpu[0] / cpu[1],
        "×",
        "≤",
        1.0,
        f"from the loaded model to the written one, calibration included, imports and loading not, no spinning "
        f"threads on either side, {ROUNDS} rounds: "
        f"{cpu[0]:.1f} ÷ {cpu[1]:.1f} CPU s, {wall[0]:.1f} ÷ {wall[1]:.1f} s wall; whole processes "
        f"{whole[0]:.1f} ÷ {whole[1]:.1f} CPU s",
    )


def _accuracy(found: dict[str, list[float]]) -> Row:
    worst = min(ours - theirs for ours, theirs in found.values())
    text = "; ".join(f"{name} {ours:.1f} against {theirs:.1f} dB" for name, (ours, theirs) in found.items())
    return Row(
        "output SNR - ORT's, the worse of the two networks",
        worst,
        "dB",
        "≥",
        -0.5,
        f"64 unseen crops, both against the same float network: {text}",
    )


def quantize_ours(har: str, calibration: str, images: int, quantized: str) -> dict[str, float]:
    """Quantize a HAR; returns the CPU and wall seconds of `optimize` and `save_har`."""
    import numpy
    import onnx
    import onnxruntime

    from hefjoin.emulator import ClientRunner

    del numpy, onnx, onnxruntime  # imported so that the clock does not see it
    runner = ClientRunner(har=har)
    runner.load_model_script(script(images))

    def work() -> None:
        runner.optimize(calibration)
        runner.save_har(quantized)

    return _timed(work)


def quantize_theirs(model: str, calibration: str, quantized: str) -> dict[str, float]:
    """Quantize an ONNX file with ONNX Runtime as its documentation advises for x86 with VNNI; returns its seconds.

    Unsigned activations, signed kernels per channel, ranges by minimum and maximum: what the emulator does too.
    """
    import numpy as np
    import onnx
    from onnxruntime import quantization

    _forbid_spinning()
    network = onnx.load(model)
    name = network.graph.input[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.frames = iter(np.load(calibration, mmap_mode="r"))

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self.frames, None)
            return None if frame is None else {name: normalized(frame[None])}

    def work() -> None:
        quantization.quantize_static(
            network,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )

    return _timed(work)


def _forbid_spinning() -> None:
    """Let ORT's calibration wait as our sessions do: what its threads burn while idle, and more so beside other
    work, is not the cost of quantizing. `quantize_static` has no option for it.
    """
    import onnxruntime

    make = onnxruntime.SessionOptions

    def without_spinning() -> Any:
        options = make()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    onnxruntime.SessionOptions = without_spinning


def _timed(work: Any) -> dict[str, float]:
    import time

    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def output_snr(ours: str, theirs: str, reference: str, frames: str) -> dict[str, list[float]]:
    """Return for each network the SNR in dB of (our, their) quantized output against the float network's."""
    import numpy as np

    from hefjoin.emulator import ClientRunner, InferenceContext
    from hefjoin.sessions import open_session
    from hefjoin.stages.accuracy import snr_db

    raw = np.load(frames)

    def outputs_of(path: str) -> list[Any]:
        session = open_session(Path(path).read_bytes())
        name = session.get_inputs()[0].name
        results = [session.run(None, {name: normalized(raw[index : index + 1])}) for index in range(len(raw))]
        return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]

    exact, rough_theirs = outputs_of(reference), outputs_of(theirs)
    runner = ClientRunner(har=ours)
    with runner.infer_context(InferenceContext.SDK_FP_OPTIMIZED) as context:
        same = runner.infer(context, raw)
    if (sameness := min(map(snr_db, exact, same))) < SAME_NETWORK_DB:
        raise BrokenMeasurement(f"the two quantizers did not get the same float network: {sameness:.1f} dB apart")
    with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
        rough_ours = runner.infer(context, raw)
    return {
        name: [snr_db(float_output, mine), snr_db(float_output, other)]
        for name, float_output, mine, other in zip(MODELS, exact, rough_ours, rough_theirs, strict=True)
    }
