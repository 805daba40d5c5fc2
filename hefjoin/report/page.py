"""The report: one HTML page with everything inside, made from the manifest, the outputs and the frames.

The rule: Python says what is shown, `page.html.j2` where; all text passes the template's escaping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Template
from markupsafe import Markup

from hefjoin.artifacts import Ref
from hefjoin.manifest import Manifest, StageRun
from hefjoin.report import bars, compared, duet, foretold, graph, maps, noise, plots, summary, words
from hefjoin.report.template import page_environment
from hefjoin.results.checked import Forecast
from hefjoin.results.covered import Covered
from hefjoin.results.measured import BatchMeasurement, Measured
from hefjoin.results.quantized import OutputAccuracy
from hefjoin.scores import ModelScores

Array = np.ndarray[Any, np.dtype[Any]]

MOST_SCATTERS = 12
MOST_MAPS = 4
FRAMES_TO_CHOOSE_FROM = 64
TIMINGS = (
    ("hw_fps", "Chip alone", "FPS"),
    ("latency_p50_ms", "Latency p50", "ms"),
    ("latency_p95_ms", "p95", "ms"),
    ("latency_p99_ms", "p99", "ms"),
    ("overall_latency_ms", "Latency, mean of one frame", "ms"),
    ("hw_latency_ms", "Latency of the chip alone", "ms"),
)
"""Columns of the table of timings, shown where they were measured."""


@dataclass(frozen=True)
class StageBar:
    """How long a stage took to build."""

    name: str
    note: str
    is_reused: bool
    seconds: str
    width_percent: float


@dataclass(frozen=True)
class Output:
    """An output of the quantized network with what is known of it."""

    index: int
    model: str
    layer: str
    shape: tuple[int, ...]
    """Without batch."""
    accuracy: OutputAccuracy

    @property
    def title(self) -> str:
        """Model and output."""
        return f"{self.model}: {words.layer_text(self.layer)}"


@dataclass(frozen=True)
class MapFrame:
    """A frame and the maps that the models made of it, as (caption, address of the picture)."""

    index: int
    pictures: tuple[tuple[str, str], ...]


def render_page(manifest: Manifest, outputs: Path, frames: Path) -> str:
    """Return the page; see `hefjoin.report.render`."""
    colors = plots.colors_of(manifest)
    with np.load(outputs) as arrays:
        pictures = _pictures(manifest, colors, arrays, frames)
    return _template().render(
        manifest=manifest,
        colors=colors,
        is_emulated=manifest.sdk.provider == "emulator",
        notice=summary.EMULATOR_NOTICE,
        verdict=summary.verdict_text(manifest),
        headings=summary.HEADINGS,
        rows=summary.summary_rows(manifest),
        scores=_scores(manifest),
        native={each.layer: each for each in manifest.quantized.native},
        key_figures=_key_figures(manifest),
        gates=[(gate, words.gate_found_text(manifest, gate)) for gate in manifest.gates],
        quality_source=manifest.quality_source,
        graph=graph.draw_graph(manifest.joined, colors),
        resources=bars.resources(manifest.forecast, colors),
        foretold=_foretold(manifest.forecast),
        repair_outputs=noise.repair_outputs(manifest.repair) if manifest.repair else [],
        repair_rows=noise.repair_rows(manifest.repair) if manifest.repair else [],
        has_own_noise=any(each.own_snr_db is not None for each in manifest.quantized.layer_noise),
        coupled_rows=noise.coupled_rows(manifest),
        **_timings(manifest.measured),
        history=_history(manifest),
        utilization=bars.utilization(manifest),
        **_covered(manifest.covered, colors),
        stages=_stage_bars(manifest.stages),
        scripts=_scripts(manifest),
        warnings=summary.warnings(manifest),
        artifacts=_artifacts(manifest),
        spec_yaml=_spec_yaml(manifest),
        **pictures,
    )


def _template() -> Template:
    environment = page_environment()
    environment.filters |= {
        "db": words.db_text,
        "duration": words.duration_text,
        "figure": figure,
        "machine": words.machine_text,
        "metric": words.metric_text,
        "minus": words.minus,
        "moment": words.moment_text,
        "percent": words.percent,
        "share": duet.share_text,
        "plural": words.plural,
        "cosine": partial(noise.figure_text, digits=5),
        "ratio": partial(noise.figure_text, digits=1),
        "rate": words.rate_text,
        "shape": words.shape_text,
        "significant": words.significant,
        "size": words.size_text,
        "sourced": words.sourced,
        "agreement": words.agreement_text,
        "contexts": words.contexts_text,
        "overflow": words.overflow_text,
    }
    environment.filters |= {
        "answered": partial(foretold.compared_text, is_answer=True),
        "change": foretold.change_text,
        "found": compared.found_text,
        "foreseen": partial(foretold.compared_text, is_answer=False),
        "trust": foretold.trust_text,
        "verdict": compared.VERDICTS.__getitem__,
    }
    environment.globals |= {"fit_text": words.fit_text, "fps_forecast_text": words.fps_forecast_text}
    return environment.get_template("page.html.j2")


def figure(text: str) -> Markup:
    """Return a text whose last bracket, the source, is set as a label."""
    value, bracket, source = text.rpartition(" (")
    if not bracket or not source.endswith(")"):
        return Markup("{}").format(text)
    return Markup('{} <span class="source">{}</span>').format(value, source[:-1])


def _key_figures(manifest: Manifest) -> list[tuple[str, str]]:
    network, compiled = manifest.joined.network, manifest.compiled
    worst = min((each.snr_db for each in manifest.quantized.accuracy), default=None)
    source = manifest.quality_source
    return [
        ("Contexts", words.contexts_text(compiled)),
        ("Throughput", words.fps_text(manifest.measured)),
        ("SNR of the worst output", "–" if worst is None else words.sourced(words.db_text(worst), source)),
        ("Parameters, joined", words.si(network.parameters)),
        ("Multiply-accumulates per frame", words.si(network.macs)),
        ("Emulated HEF" if compiled.is_emulated else "HEF", words.size_text(compiled.hef.size_bytes)),
    ]


def _scores(manifest: Manifest) -> list[tuple[ModelScores, list[summary.ScoreRow]]]:
    """Return each labelled model with the rows of its table."""
    rows = summary.score_rows(manifest)
    return [(scores, [row for row in rows if row.model == scores.model]) for scores in manifest.scored.models]


def _outputs(manifest: Manifest, arrays: Mapping[str, Array]) -> list[Output]:
    """Return the outputs that were judged."""
    accuracy = {output.layer: (each.model, output) for each in manifest.quantized.accuracy for output in each.outputs}
    return [
        Output(index, accuracy[layer][0], layer, arrays[f"float_{index}"].shape[1:], accuracy[layer][1])
        for index, layer in enumerate(manifest.quantized.output_layers)
        if layer in accuracy
    ]


def _pictures(
    manifest: Manifest, colors: Mapping[str, str], arrays: Mapping[str, Array], frames: Path
) -> dict[str, Any]:
    """Return what is drawn from outputs and frames: SNR per layer, scatters, maps."""
    source = manifest.quality_source
    outputs = _outputs(manifest, arrays)
    shown = sorted(sorted(outputs, key=lambda each: each.accuracy.snr_db)[:MOST_SCATTERS], key=lambda o: o.index)
    return {
        "outputs": outputs,
        "noise": noise.by_model(manifest, colors, source),
        "scatters": [
            plots.plot_scatter(
                each.title,
                arrays[f"float_{each.index}"],
                arrays[f"quantized_{each.index}"],
                each.accuracy,
                colors[each.model],
                source,
            )
            for each in shown
        ],
        "scatters_left_out": len(outputs) - len(shown),
        "map_frames": list(_map_frames(manifest, outputs, colors, arrays, frames)),
    }


def _map_frames(
    manifest: Manifest,
    outputs: Sequence[Output],
    colors: Mapping[str, str],
    arrays: Mapping[str, Array],
    frames: Path,
) -> Iterator[MapFrame]:
    found = [
        maps.MapOutput(
            title=each.title,
            color=colors[each.model],
            exact=arrays[f"float_{each.index}"][:FRAMES_TO_CHOOSE_FROM],
            rough=arrays[f"quantized_{each.index}"][:FRAMES_TO_CHOOSE_FROM],
        )
        for each in [each for each in outputs if maps.is_map(each.shape)][:MOST_MAPS]
    ]
    if not found:
        return
    source = manifest.quality_source
    pixels = np.load(frames, mmap_mode="r")
    for index in maps.choose_frames(found):
        frame = pixels[index][..., ::-1] if manifest.check.color == "bgr" else pixels[index]
        pictures = [(f"frame {index}", maps.photograph(frame))]
        for each in found:
            pictures.append((f"{each.title}, float", maps.overlay(frame, each.exact[index], each)))
            pictures.append((f"{each.title}, quantized ({source})", maps.overlay(frame, each.rough[index], each)))
        yield MapFrame(index, tuple(pictures))


def _timings(measured: Measured) -> dict[str, Any]:
    batches, source = measured.batches, measured.source
    has_latency = any(batch.latency_p50_ms is not None for batch in batches)
    return {
        "throughput": plots.plot_throughput(batches, source) if batches else "",
        "latency": plots.plot_latency(batches, source) if has_latency else "",
        "timing_columns": [
            (heading, partial(_timing, field=field, unit=unit))
            for field, heading, unit in TIMINGS
            if any(getattr(batch, field) is not None for batch in batches)
        ],
        "sensors": _sensors(measured),
    }


def _history(manifest: Manifest) -> str:
    """Return the throughput of this build and of those before it; nothing of the first."""
    measured, past = manifest.measured, manifest.earlier
    if not past:
        return ""
    batch = min(measured.batches, key=lambda each: each.batch_size)
    points = [(each.created_at, each.fps, measured.source) for each in past]
    points.append((manifest.created_at, batch.fps, measured.source))
    return plots.plot_history(points, f"throughput at batch {batch.batch_size}")


def _timing(batch: BatchMeasurement, *, field: str, unit: str) -> str:
    value = getattr(batch, field)
    return "–" if value is None else f"{words.significant(value)}{words.THIN}{unit}"


def _sensors(measured: Measured) -> list[str]:
    """Return what the device said of itself while it ran, and what it could not say."""
    source = measured.source
    lines = [
        f"{name}: {words.range_text(found, unit)} ({source})"
        for name, found, unit in (
            ("Power", measured.power_w, "W"),
            ("Temperature", measured.temperature_c, "°C"),
        )
        if found is not None
    ]
    if measured.is_throttled is not None:
        lines.append(f"The chip {'slowed itself down' if measured.is_throttled else 'did not throttle'} ({source})")
    if measured.versions:
        lines.append(", ".join(f"{name} {version}" for name, version in measured.versions.items()))
    return [*lines, *measured.notes]


def _covered(covered: Covered | None, colors: Mapping[str, str]) -> dict[str, Any]:
    """Return what is said in short of a calibration set that was looked at."""
    if covered is None:
        return {"covered": None}
    return {
        "covered": covered,
        "cover_sentence": duet.sentence(covered),
        "cover_advice": list(duet.advice(covered)),
        "cover_curve": plots.plot_coverage(covered.curves, colors, covered.subset.loss, covered.source),
    }


def _foretold(forecast: Forecast) -> list[tuple[str, str]]:
    """Return (question, answer with its source) of all that a forecast says beside its bars."""
    found = [(f"One context {kind}", answer) for kind, answer in foretold.answers(forecast)]
    found += [(label, foretold.rate_forecast_text(fps)) for label, fps in foretold.rates(forecast)]
    if forecast.latency is not None:
        found.append(("Latency", foretold.latency_text(forecast.latency)))
    return found


def _stage_bars(stages: Sequence[StageRun]) -> list[StageBar]:
    longest = max((run.seconds for run in stages), default=0) or 1
    return [
        StageBar(
            name=run.title,
            note=summary.stage_note(run),
            is_reused=run.is_reused,
            seconds=words.duration_text(run.seconds),
            width_percent=100 * run.seconds / longest,
        )
        for run in stages
    ]


def _scripts(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the model scripts, one where both steps ran the same."""
    quantized, compiled = manifest.quantized.script.strip(), manifest.compiled.script.strip()
    if quantized == compiled:
        return [("Quantized and compiled with", quantized)]
    return [("Quantized with", quantized), ("Compiled with", compiled)]


def _spec_yaml(manifest: Manifest) -> str:
    spec = manifest.spec.model_dump(mode="json")
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _artifacts(manifest: Manifest) -> list[tuple[str, Ref]]:
    fetched = manifest.fetched
    beside = [(name, file, ref) for name, files in fetched.weights.items() for file, ref in files.items()]
    return [
        *((f"model {name}", ref) for name, ref in fetched.models.items()),
        *((f"weights of {name}, {file}", ref) for name, file, ref in beside),
        ("calibration frames", manifest.check.calibration.npy),
        ("evaluation frames", manifest.check.evaluation.npy),
        *([("labels", manifest.check.labels.npz)] if manifest.check.labels else []),
        *((f"HAR of {name}", network.har) for name, network in manifest.models.items()),
        ("joined HAR", manifest.joined.network.har),
        ("quantized HAR", manifest.quantized.har),
        ("outputs", manifest.quantized.outputs),
        *([("outputs of the device", manifest.measured.outputs)] if manifest.measured.outputs else []),
        ("HEF", manifest.compiled.hef),
        *((f"log of compiling, {attempt.label}", attempt.log) for attempt in manifest.compiled.attempts),
    ]
