"""The gates of a build: what it has to reach to become the latest of its name.

The rule: what was not measured is not evaluated; it holds nothing back, and is never taken for passed.
"""

from __future__ import annotations

from collections.abc import Iterator

from hefjoin.manifest import Gate
from hefjoin.report.by_turns import speed_change_text
from hefjoin.report.words import lost_text, p_value_text
from hefjoin.results.measured import Measured
from hefjoin.results.quantized import ModelAccuracy, Quantized
from hefjoin.results.timed import SpeedChange
from hefjoin.scores import AccuracyStage, ModelScores, Scored
from hefjoin.spec import GatesSpec
from hefjoin.stages.score import POST_PROCESSED


def judge(
    gates: GatesSpec, quantized: Quantized, measured: Measured, scored: Scored, speed: SpeedChange | None = None
) -> tuple[Gate, ...]:
    """Return every gate that the spec sets, with what was wanted and found.

    Args:
        gates: What the spec sets.
        quantized: What quantization cost.
        measured: The HEF as it ran.
        scored: Accuracy on labels.
        speed: Against the last promoted build that was measured alike; None where there is none.
    """
    judged = {accuracy.model: accuracy for accuracy in quantized.accuracy}
    models = dict.fromkeys(layer.partition("/")[0] for layer in quantized.output_layers)
    found = [gate for model in models for gate in _quality_gates(gates, model, judged.get(model), scored, "quantized")]
    if measured.source == "device":
        for accuracy in measured.accuracy:
            found += _quality_gates(gates, accuracy.model, accuracy, scored, "device")
    if gates.min_fps > 0:
        found.append(_fps_gate(gates.min_fps, measured))
    if gates.max_regression_percent < 100:
        found.append(_regression_gate(gates.max_regression_percent, measured, speed))
    return tuple(found)


def _quality_gates(
    gates: GatesSpec, model: str, accuracy: ModelAccuracy | None, scored: Scored, stage: AccuracyStage
) -> Iterator[Gate]:
    where = f"{model} on the device" if stage == "device" else model
    if gates.min_snr_db > 0:
        yield _snr_gate(gates.min_snr_db, where, accuracy)
    if gates.max_accuracy_drop < 100:
        scores = scored.of(model)
        if scores is not None:
            yield _drop_gate(gates.max_accuracy_drop, where, scores, stage)
        else:
            yield _disagreement_gate(gates.max_accuracy_drop, where, accuracy)


def _snr_gate(least: float, model: str, accuracy: ModelAccuracy | None) -> Gate:
    name, wanted = f"SNR of {model}", f"≥ {least:g} dB"
    if accuracy is None:
        return Gate(name=name, wanted=wanted, found=POST_PROCESSED, verdict="not evaluated")
    return _gate(name, wanted, f"{accuracy.snr_db:.1f} dB", accuracy.snr_db - least, f"dB below {least:g}")


def _drop_gate(most: float, model: str, scores: ModelScores, stage: AccuracyStage) -> Gate:
    """Judge what a stage lost on labels against the full-precision network; that it may be noise excuses nothing."""
    unit = "%" if scores.unit == "percent" else "points"
    name, wanted = f"accuracy drop ({scores.metric}) of {model}", f"≤ {most:g} {unit}"
    score, drop = scores.at(stage), scores.drop(stage)
    if score is None or drop is None:
        found = scores.not_available.get(stage, "the float network's value is zero, and nothing is a share of it")
        return Gate(name=name, wanted=wanted, found=found, verdict="not evaluated")
    difference = score.difference_to("fp-optimized")
    assert difference is not None
    found = f"{lost_text(drop)} {unit}, {difference.verdict}, {p_value_text(difference.p_value)}"
    return _gate(name, wanted, found, most - drop, f"{unit} above {most:g}")


def _disagreement_gate(most: float, model: str, accuracy: ModelAccuracy | None) -> Gate:
    """Judge, without labels, how far decisions differ from the float network's."""
    wanted = f"≤ {most:g} points"
    if accuracy is None or accuracy.disagreement_points is None:
        found = POST_PROCESSED if accuracy is None else "no labels, and its outputs are no decisions"
        return Gate(name=f"accuracy drop of {model}", wanted=wanted, found=found, verdict="not evaluated")
    worst = min(accuracy.outputs, key=lambda output: output.agreement)
    points = accuracy.disagreement_points
    name = f"disagreement ({worst.metric}) of {model}"
    return _gate(name, wanted, f"{lost_text(points)} points", most - points, f"points above {most:g}")


def _gate(name: str, wanted: str, found: str, margin: float, miss: str) -> Gate:
    """Return a gate that passed unless its margin is negative; a miss is never rounded to nothing."""
    if margin >= 0:
        return Gate(name=name, wanted=wanted, found=found, verdict="passed")
    by = f"{-margin:.1f}" if margin <= -0.05 else f"{-margin:.1g}"
    return Gate(name=name, wanted=wanted, found=found, verdict="failed", missed=f"{by} {miss}")


def _fps_gate(wanted: float, measured: Measured) -> Gate:
    name, least = "throughput at batch 1", f"≥ {wanted:g} FPS on a device"
    single = [batch for batch in measured.batches if batch.batch_size == 1]
    if measured.source != "device" or not single:
        found = "not measured on a device" if single else "not measured at batch 1"
        return Gate(name=name, wanted=least, found=found, verdict="not evaluated")
    return _gate(name, least, f"{single[0].fps:.0f} FPS", single[0].fps - wanted, f"FPS below {wanted:g}")


def _regression_gate(most: float, measured: Measured, speed: SpeedChange | None) -> Gate:
    """Judge a loss of throughput; one that chance explains is none."""
    name, wanted = "loss of throughput", f"≤ {most:g} % against the last build measured on this device"
    if measured.source != "device":
        return Gate(name=name, wanted=wanted, found="not measured on a device", verdict="not evaluated")
    if speed is None:
        return Gate(name=name, wanted=wanted, found="no earlier build was measured like this", verdict="not evaluated")
    loss = -speed.percent if speed.is_regression else 0.0
    return _gate(name, wanted, speed_change_text(speed), most - loss, f"% above {most:g}")
