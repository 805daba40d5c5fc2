"""The figures by which builds are compared, each with its unit and its source."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hefjoin.artifacts import Record
from hefjoin.manifest import Manifest


class Figure(Record):
    """A number of a build."""

    name: str
    value: float | None
    """None where JSON has no word for it: noise-free, or not a number."""
    unit: str
    source: str
    """`device`, `emulator`, `DFC`, `forecast` or `hef`; empty for what is simply so, as a size."""


def figures(build: Manifest) -> dict[str, Figure]:
    """Return all figures of a build, by name."""
    return {figure.name: figure for figure in _figures(build)}


def _figures(build: Manifest) -> Iterator[Figure]:
    source = build.quality_source
    for layer, snr_db in build.quantized.snr_by_output.items():
        yield _figure(f"SNR of {layer}", snr_db, "dB", source)
    for scores in build.scored.models:
        for score in scores.stages:
            is_share = scores.kind in ("hits", "overlap")
            where = source if score.stage != "device" else build.measured.source
            name = f"{scores.metric} of {scores.model}, {'as run' if score.stage == 'device' else score.stage}"
            yield _figure(name, 100 * score.value if is_share else score.value, "%" if is_share else "", where)
    for each in build.quantized.accuracy:
        if each.disagreement_points is not None:
            yield _figure(f"disagreement of {each.model}", each.disagreement_points, "points", source)
    for batch in build.measured.batches:
        yield _figure(f"throughput at batch {batch.batch_size}", batch.fps, "FPS", build.measured.source)
    if build.forecast.fps is not None:
        yield _figure("throughput expected on the chip", build.forecast.fps.fps, "FPS", "forecast")
    yield _figure("contexts", build.compiled.contexts, "", build.compiled.contexts_source)
    fit = build.forecast.joined
    yield _figure("layer controllers used", 100 * fit.controller_utilisation, "%", fit.source)
    yield _figure("weight memory used", 100 * fit.weight_utilisation, "%", fit.source)
    yield _figure("size of HEF", build.compiled.hef.size_bytes, "bytes", "")


def _figure(name: str, value: float, unit: str, source: str) -> Figure:
    return Figure(name=name, value=float(value) if math.isfinite(value) else None, unit=unit, source=source)
