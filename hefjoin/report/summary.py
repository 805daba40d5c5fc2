"""A build in a few lines: the rows and sentences that page, markdown and command line share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from hefjoin.report import words
from hefjoin.report.markdown import escaped, table

if TYPE_CHECKING:
    from hefjoin.manifest import Gate, Manifest, StageRun
    from hefjoin.results.quantized import ModelAccuracy
    from hefjoin.scores import AccuracyStage, ModelScores

HEADINGS = ("Model", "SNR, worst output", "Accuracy, float → quantized", "Drop")
SCORE_HEADINGS = ("Model", "Metric", "Stage", "Value", "Difference, 95 % interval", "What it means")
STAGES: tuple[AccuracyStage, ...] = ("native", "fp-optimized", "quantized", "device")
DEVICE_TOLERANCE_DB = 3.0
"""The compiler's simulation is said not to be bit-exact; more than this is no rounding."""
EMULATOR_NOTICE = (
    "Nothing here was measured on a Hailo device: the networks were quantized and compiled by hefjoin's emulator. "
    "Its throughput is that of a CPU and no statement about the chip, and its HEF does not run on one."
)


@dataclass(frozen=True)
class ModelRow:
    """What quantizing cost one model, ready to print; every figure with its source."""

    model: str
    snr: str
    accuracy: str
    drop: str


@dataclass(frozen=True)
class ScoreRow:
    """What one model is worth on labels at one stage, ready to print."""

    model: str
    metric: str
    stage: str
    value: str
    difference: str
    meaning: str


def summary_rows(manifest: Manifest) -> list[ModelRow]:
    """Return the main table: one row for each model."""
    judged = {each.model: each for each in manifest.quantized.accuracy}
    source = manifest.quality_source
    scored = {each.model: each for each in manifest.scored.models if each.at("quantized")}
    return [_model_row(model, judged.get(model), scored.get(model), source) for model in manifest.models]


def _model_row(model: str, accuracy: ModelAccuracy | None, scores: ModelScores | None, source: str) -> ModelRow:
    if accuracy is None:
        return ModelRow(model=model, snr="–", accuracy="not judged: its outputs are post-processed", drop="–")
    return ModelRow(
        model=model,
        snr=words.sourced(words.db_text(accuracy.snr_db), source),
        accuracy=words.sourced(words.accuracy_text(accuracy, scores), source),
        drop=_drop(accuracy, scores, source),
    )


def _drop(accuracy: ModelAccuracy, scores: ModelScores | None, source: str) -> str:
    if scores is None:
        points = accuracy.disagreement_points
        return words.sourced(words.drop_text(points, "points"), source if points is not None else "")
    drop, score = scores.drop("quantized"), scores.at("quantized")
    difference = score.difference_to("fp-optimized") if score else None
    if drop is None or difference is None:
        return "–"
    noise = f", {difference.verdict}" if drop else ""
    return words.sourced(f"{words.drop_text(drop, scores.unit)}{noise}", source)


def score_rows(manifest: Manifest) -> list[ScoreRow]:
    """Return the table of labelled models: one row for each stage, also for those that are not available."""
    return [_score_row(manifest, scores, stage) for scores in manifest.scored.models for stage in STAGES]


def _score_row(manifest: Manifest, scores: ModelScores, stage: AccuracyStage) -> ScoreRow:
    score = scores.at(stage)
    if score is None:
        reason = scores.not_available.get(stage, "no outputs")
        value = reason if reason == "not measured" else f"not available: {reason}"
        difference = meaning = "–"
    else:
        source = manifest.measured.source if stage == "device" else manifest.quality_source
        value = words.sourced(words.score_text(scores.kind, score.value), source)
        found = next(iter(score.differences), None)
        difference = words.difference_text(scores.kind, found) if found else "the reference"
        meaning = words.verdict_text(found) if found else "–"
    return ScoreRow(scores.model, words.metric_text(scores.metric), stage, value, difference, meaning)


def figure_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Return what is true of the joined network as a whole: (label, figure with its source)."""
    by = [("Measured by", words.machine_text(manifest.measured_by.machine))] if manifest.measured_by else []
    return [
        ("Contexts", words.contexts_text(manifest.compiled)),
        ("Throughput", words.fps_text(manifest.measured)),
        *by,
        ("Throughput expected on the chip", words.fps_forecast_text(manifest.forecast)),
    ]


def failed_gates(manifest: Manifest) -> list[str]:
    """Return each gate that failed, with what was wanted and what was found."""
    return [
        f"{gate.name} wanted {gate.wanted}, found {words.gate_found_text(manifest, gate)}"
        for gate in _gates(manifest, "failed")
    ]


def verdict_text(manifest: Manifest) -> str:
    """Return whether the build became the latest of its name, and which gates say so."""
    skipped = [gate.name for gate in _gates(manifest, "not evaluated")]
    also = f"; {', '.join(skipped)} not evaluated" if skipped else ""
    if failed := failed_gates(manifest):
        return f"Not promoted: {'; '.join(failed)}{also}"
    passed = len(_gates(manifest, "passed"))
    text = f"Promoted: {words.plural(passed, 'gate')} passed" if passed else "Promoted: no gate stood in the way"
    return text + also


def warnings(manifest: Manifest) -> list[str]:
    """Return what a person should know before relying on the build, each once."""
    quantized, check = manifest.quantized, manifest.check
    own = list(_worse_on_device(manifest))
    if quantized.effective_level != quantized.requested_level:
        own.append(
            f"Optimization level {quantized.requested_level} was asked for, {quantized.effective_level} was used."
        )
    if not check.evaluation_is_held_out:
        own.append(
            "No frames were left to evaluate on: the calibration frames served twice, so SNR and agreement flatter."
        )
    return list(dict.fromkeys([*own, *quantized.warnings, *manifest.compiled.warnings]))


def _worse_on_device(manifest: Manifest) -> Iterator[str]:
    """Yield each model whose outputs on the device are not those that the compiler foresaw."""
    foreseen = {each.model: each.snr_db for each in manifest.quantized.accuracy}
    for each in manifest.measured.accuracy:
        expected = foreseen.get(each.model)
        if expected is not None and each.snr_db < expected - DEVICE_TOLERANCE_DB:
            yield (
                f"{each.model} has {words.db_text(each.snr_db)} on the device "
                f"({manifest.measured.source}), {words.db_text(expected)} were expected "
                f"({manifest.quality_source}): do not rely on this HEF before that is understood."
            )


def stage_note(run: StageRun) -> str:
    """Return whether a stage was built or reused, and why."""
    how = "reused" if run.is_reused else "built"
    return run.reason if run.reason.startswith(how) else f"{how}: {run.reason}"


@dataclass(frozen=True)
class Added:
    """What a summary has beside the manifest's own figures, each as markdown; what is empty is left out."""

    links: str = ""
    """To report, HEF and manifest."""
    snr: str = ""
    """Picture of the outputs' SNR."""
    history: str = ""
    """Picture of the last builds."""
    graph: str = ""
    """Picture of the joined network."""
    commands: str = ""
    """That fetch report, HEF and manifest."""


def summary_markdown(manifest: Manifest, added: Added = Added()) -> str:
    """Return the build as markdown for the Prefect UI."""
    parts = [f"## {escaped(manifest.spec.name)}", f"**{escaped(verdict_text(manifest))}**", added.links]
    if manifest.sdk.provider == "emulator":
        parts.append(EMULATOR_NOTICE)
    parts.append(table(HEADINGS, (astuple(row) for row in summary_rows(manifest))))
    if rows := score_rows(manifest):
        parts.append(table(SCORE_HEADINGS, (astuple(row) for row in rows)))
    parts += [added.snr, table(("Joined network", "Figure"), figure_rows(manifest)), added.history]
    if manifest.gates:
        gates = [
            (gate.name, gate.wanted, words.gate_found_text(manifest, gate), gate.verdict) for gate in manifest.gates
        ]
        parts.append(table(("Gate", "Wanted", "Found", "Verdict"), gates))
    if manifest.repair and (repaired := words.repair_text(manifest.repair)):
        parts.append(f"**Repair.** {escaped(repaired)}")
    parts += [escaped(words.fit_text(manifest.forecast.joined)), added.graph]
    stages = [(run.title, words.duration_text(run.seconds), stage_note(run)) for run in manifest.stages]
    parts += [table(("Stage", "Time to build", "Why"), stages), added.commands]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gates(manifest: Manifest, verdict: str) -> list[Gate]:
    return [gate for gate in manifest.gates if gate.verdict == verdict]
