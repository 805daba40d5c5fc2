"""How figures read: units, digits and source words, the same on the page, in markdown and on the command line.

A figure and its source are one text, `412 FPS at batch 1 (emulator)`; numbers and units are kept together by a
narrow no-break space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hefjoin.forecast.fit import Fit
    from hefjoin.manifest import Gate, Machine, Manifest
    from hefjoin.metrics.metric import MetricKind
    from hefjoin.results.checked import Forecast
    from hefjoin.results.compiled import Attempt, Compiled
    from hefjoin.results.measured import Measured, Range
    from hefjoin.results.quantized import ModelAccuracy, OutputAccuracy, Repair
    from hefjoin.scores import AccuracyStage, Difference, ModelScores

THIN = "\u202f"
FLOAT_TO_QUANTIZED: tuple[AccuracyStage, AccuracyStage] = ("fp-optimized", "quantized")
EXACT_DB = 120.0
"""From here on there is no noise worth a figure."""


def sourced(text: str, source: str) -> str:
    """Return a figure with the word that says where it comes from."""
    return f"{text} ({source})" if source else text


def significant(value: float, digits: int = 3) -> str:
    """Return a number rounded to that many significant digits, never an exponent, thousands apart.

    >>> significant(0.99951), significant(41.26), significant(12345.6)
    ('1.00', '41.3', '12,300')
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    magnitude = math.floor(math.log10(abs(rounded)))
    return minus(f"{rounded:,.{max(0, digits - 1 - magnitude)}f}")


def minus(text: str) -> str:
    """Return a number's text with a real minus sign, and none before zero."""
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.lstrip("-")


def si(value: float) -> str:
    """Return a count with three digits and a prefix.

    >>> si(11_684_712).replace(THIN, " "), si(512)
    ('11.7 M', '512')
    """
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{significant(value / limit)}{THIN}{prefix}"
    return f"{value:,.0f}"


def size_text(size_bytes: int) -> str:
    """Return a file's size in decimal units."""
    return f"{si(size_bytes)}B" if size_bytes >= 1000 else f"{size_bytes}{THIN}B"


def percent(share: float) -> str:
    """Return a share of 1 as a percentage with one decimal."""
    return f"{minus(f'{100 * share:.1f}')}{THIN}%"


def db_text(snr_db: float) -> str:
    """Return a signal-to-noise ratio."""
    return f"≥{THIN}{EXACT_DB:.0f}{THIN}dB" if snr_db >= EXACT_DB else f"{minus(f'{snr_db:.1f}')}{THIN}dB"


def lost_text(value: float) -> str:
    """Return what was lost with one decimal, small ones with their first two digits.

    >>> lost_text(1.26), lost_text(0.0312), lost_text(-0.3)
    ('1.3', '0.031', '−0.3')
    """
    return minus(f"{value:.1f}") if value == 0 or abs(value) >= 0.1 else significant(value, 2)


def drop_text(lost: float | None, unit: str) -> str:
    """Return a drop in `points` of a hundred or in `percent` of the float value; a dash where there is none."""
    if lost is None:
        return "–"
    return f"{lost_text(lost)}{THIN}{'%' if unit == 'percent' else unit}"


def p_value_text(p_value: float) -> str:
    """Return a probability as papers print it.

    >>> p_value_text(0.4213), p_value_text(0.0123), p_value_text(1e-7)
    ('p = 0.42', 'p = 0.012', 'p < 0.001')
    """
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def score_text(kind: MetricKind, value: float) -> str:
    """Return a figure of a metric: hits in percent, an overlap with three digits, others with four."""
    if kind == "hits":
        return percent(value)
    return minus(f"{value:.3f}") if kind == "overlap" else significant(value, 4)


def difference_text(kind: MetricKind, difference: Difference) -> str:
    """Return a difference of two stages, its 95 % interval in brackets where there is one."""
    ends = [end for end in (difference.low, difference.high) if end is not None]
    largest = max(abs(value) for value in (difference.value, *ends)) or 1
    scale, decimals = {"hits": (100, 1), "overlap": (1, 3)}.get(kind, (1, max(0, 1 - math.floor(math.log10(largest)))))

    def signed(value: float) -> str:
        text = minus(f"{scale * value:+,.{decimals}f}")
        return text if any(digit in text for digit in "123456789") else text.lstrip("+")

    figure = f"{signed(difference.value)}{f'{THIN}points' if kind == 'hits' else ''}"
    return f"{figure} ({' to '.join(map(signed, ends))})" if ends else figure


def verdict_text(difference: Difference) -> str:
    """Return in words whether a difference is one, and on how many frames the two stages are apart."""
    better, worse = difference.frames_better, difference.frames_worse
    if not better and not worse:
        return "the same on every frame"
    frames = f"better on {plural(better, 'frame')}, worse on {worse:,}"
    if not better or not worse:
        frames = f"{'better' if better else 'worse'} on {plural(better or worse, 'frame')}"
    return f"{difference.verdict}, {p_value_text(difference.p_value)}: {frames}"


def rate_text(fps: float, digits: int = 3) -> str:
    """Return frames per second; whose they are has to stand beside it."""
    return f"{significant(fps, digits)}{THIN}FPS"


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape without batch, `224 × 224 × 3`."""
    return f"{THIN}×{THIN}".join(f"{size:,}" for size in shape)


def layer_text(name: str) -> str:
    """Return a layer's name without its scope."""
    return name.partition("/")[2] or name


def shortened(text: str, most: int) -> str:
    """Return a text cut to a length, with an ellipsis where something is missing."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,}{THIN}{noun}{'' if count == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """Return a time as a person would say it.

    >>> [duration_text(s).replace(THIN, " ") for s in (0.034, 4.21, 59.97, 95, 7260)]
    ['34 ms', '4.2 s', '1 min 0 s', '1 min 35 s', '2 h 1 min']
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}{THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def moment_text(iso: str) -> str:
    """Return an ISO 8601 moment as `2025-11-23 07:14 UTC`."""
    return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def fps_text(measured: Measured) -> str:
    """Return the throughput at the smallest batch, with its source, or that there is none."""
    if not measured.batches:
        return measured.source
    batch = min(measured.batches, key=lambda each: each.batch_size)
    return sourced(f"{rate_text(batch.fps)} at batch {batch.batch_size}", measured.source)


def machine_text(machine: Machine) -> str:
    """Return a machine: `device-1: AMD Ryzen, 8 cores`."""
    return f"{machine.host}: {machine.cpu}, {plural(machine.cores, 'core')}"


def range_text(found: Range, unit: str) -> str:
    """Return what a sensor showed: its mean, and where it moved its ends."""
    mean = f"{significant(found.mean)}{THIN}{unit}"
    if found.low == found.high:
        return mean
    return f"{mean}, {significant(found.low)} to {significant(found.high)}{THIN}{unit}"


def overflow_text(attempt: Attempt) -> str:
    """Return what did not fit, `LCUs 149 of 96`; without numbers, the compiler's reason."""
    over = [
        f"{name} {need:,g} of {attempt.have[name]:,g}"
        for name, need in attempt.need.items()
        if name in attempt.have and need > attempt.have[name]
    ]
    return ", ".join(over) or attempt.message.partition("\n")[0]


def contexts_text(compiled: Compiled) -> str:
    """Return how many contexts the HEF takes, with its source."""
    return sourced(plural(compiled.contexts, "context"), compiled.contexts_source)


def fps_forecast_text(forecast: Forecast) -> str:
    """Return the throughput expected at batch 1, its range, and that it is a forecast; or why there is none."""
    fps = forecast.fps
    if fps is None:
        return f"no forecast: {forecast.fps_note}"
    low, high = significant(fps.low_fps, 2), rate_text(fps.high_fps, 2)
    return sourced(f"{rate_text(fps.fps, 2)} at batch 1, likely {low} to {high}", fps.source)


def fit_text(fit: Fit) -> str:
    """Return whether a network fits one context, in a sentence that says it is a forecast."""
    answer = {
        "fits": "fits one context",
        "uncertain": "may or may not fit one context",
        "does not fit": f"does not fit one context but takes about {fit.contexts}",
    }[fit.verdict]
    return (
        f"Forecast: {answer}; the probability of more than one is "
        f"{percent(fit.probability_of_more_contexts)}. Used up first: {fit.limiting_resource}."
    )


def repair_text(repair: Repair) -> str:
    """Return what a repair raised, what that brought each output, and why it ended; empty where nothing was to do."""
    if not repair.rounds:
        return f"Nothing was raised: {repair.ending}." if repair.missed else ""
    changes = [f"{layer} {db_text(old)} → {db_text(repair.reached_db[layer])}" for layer, old in repair.snr_db.items()]
    memory = [percent(fit.weight_utilisation) for fit in (repair.fit, repair.reached_fit)]
    return (
        f"{', '.join(repair.raised)} raised to {repair.mode} in {plural(len(repair.rounds), 'round')}: "
        f"{', '.join(changes)}; weight memory {memory[0]} → {memory[1]} ({repair.fit.source}). "
        f"It ended because {repair.ending}."
    )


def agreement_text(output: OutputAccuracy) -> str:
    """Return how far an output agrees with that of the float network, and what was counted."""
    value = percent(output.agreement) if output.metric.startswith("top-") else f"{output.agreement:.3f}"
    return f"agreement with float {minus(value)}, {output.metric}"


def accuracy_text(accuracy: ModelAccuracy, scores: ModelScores | None) -> str:
    """Return the metric, float → quantized, where there are labels; else the worst output's agreement with float."""
    if scores is None:
        return agreement_text(min(accuracy.outputs, key=lambda output: output.agreement))
    values = [score_text(scores.kind, score.value) for stage in FLOAT_TO_QUANTIZED if (score := scores.at(stage))]
    return f"{metric_text(scores.metric)} {' → '.join(values)}"


def metric_text(metric: str) -> str:
    """Return a metric as a person reads it; of a function its name alone.

    >>> metric_text("iou@0.3"), metric_text("top-5"), metric_text("ours.metrics:edit_distance")
    ('IoU at 0.3', 'top-5', 'edit_distance')
    """
    if metric.startswith("iou@"):
        return f"IoU at {minus(metric.removeprefix('iou@'))}"
    return "MAE" if metric == "mae" else metric.rpartition(":")[2]


def gate_found_text(manifest: Manifest, gate: Gate) -> str:
    """Return what a gate found, and by how much it missed; a figure gets its source."""
    if not any(letter.isdigit() for letter in gate.found):
        return gate.found
    is_measured = "FPS" in gate.found or gate.name.endswith("on the device")
    found = sourced(gate.found, manifest.measured.source if is_measured else manifest.quality_source)
    return f"{found}, {gate.missed}" if gate.missed else found
