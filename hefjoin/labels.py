"""The labels of an evaluation set: the arrays beside the frames of an `.npz` that bear the models' names.

The rule: what does not fit model and metric is refused in seconds, all of it at once, and memory does not grow with the
number of frames.
"""

from __future__ import annotations

import difflib
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hefjoin.artifacts import CHUNK_BYTES
from hefjoin.calibration import Frames
from hefjoin.calibration_sources import BesideFrames
from hefjoin.errors import CalibrationError
from hefjoin.metrics.metric import Metric, Shape
from hefjoin.spec import METRICS

MOST_FRAMES_NAMED = 5


class Judge(NamedTuple):
    """How a model's first output is judged."""

    metric: Metric
    output: Shape
    """Without batch."""
    is_asked_for: bool
    """The spec names the metric; else it is what labels are taken for."""


class _Wrong(NamedTuple):
    """Labels whose values mean nothing."""

    frames: list[int]
    found: list[Any]
    """Lowest and highest of each batch."""


def write_labels(frames: Frames, judges: Mapping[str, Judge], path: Path) -> tuple[str, ...]:
    """Write the labels of the frames into one `.npz`, an array of shape (frames, …) for each model that has any.

    Args:
        frames: An evaluation set.
        judges: Every model, and how it is judged.
        path: Where to write; nothing is written where no model has labels.

    Returns:
        The models that have labels.

    Raises:
        CalibrationError: Labels that do not fit; all are listed.
    """
    labelled = {model: frames.beside[model] for model in judges if model in frames.beside}
    problems = [*_of_no_model(frames, judges), *_missing(frames, judges)]
    if labelled:
        with zipfile.ZipFile(path, "w") as archive:
            for model, labels in labelled.items():
                problem = _unlike(frames, labels, judges[model])
                if not problem:
                    with archive.open(f"{model}.npy", "w", force_zip64=True) as stream:
                        problem = _copy(frames, labels, judges[model], stream)
                if problem:
                    problems.append(f"{model}: {problem}")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise CalibrationError(f"the labels of the {frames.what} have {count}:\n{lines}")
    return tuple(labelled)


def _of_no_model(frames: Frames, judges: Mapping[str, Judge]) -> Iterator[str]:
    """Yield numbers that belong to no model; texts, such as the names of the images, may lie there."""
    for name, array in frames.beside.items():
        if name not in judges and array.dtype.kind in "biuf":
            near = difflib.get_close_matches(name, judges, 1)
            hint = f"did you mean {near[0]}?" if near else f"the models are {', '.join(judges)}"
            yield f"{name}: no model has this name, and labels bear that of theirs; {hint}"


def _missing(frames: Frames, judges: Mapping[str, Judge]) -> Iterator[str]:
    there = ", ".join(frames.beside) or "no arrays beside its frames"
    for model, judge in judges.items():
        if judge.is_asked_for and model not in frames.beside:
            yield f"{model}: none, and the spec wants {judge.metric.name} of it; the set has {there}"


def _unlike(frames: Frames, labels: BesideFrames, judge: Judge) -> str:
    """Return why an array cannot be the labels of a model, by its header; empty where it can."""
    if not labels.shape or labels.shape[0] != frames.available:
        count = f"{labels.shape[0]:,} labels" if labels.shape else "one value"
        return f"found {count} for {frames.available:,} frames, one for each is wanted"
    metric = judge.metric
    problem = metric.output_problem(judge.output) or metric.labels_problem(labels.dtype, labels.shape[1:], judge.output)
    if problem and not judge.is_asked_for:
        return f"{problem}. Name its metric in the spec: {METRICS}"
    if not problem and labels.is_fortran and len(labels.shape) > 1:
        return "found an array in Fortran order; save numpy.ascontiguousarray(array)"
    return problem


def _copy(frames: Frames, labels: BesideFrames, judge: Judge, stream: Any) -> str:
    """Copy the labels of the frames, and return what is wrong with their values; empty where nothing is."""
    header = {
        "descr": np.lib.format.dtype_to_descr(labels.dtype),
        "fortran_order": False,
        "shape": (frames.count, *labels.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(stream, header)
    size = max(1, math.prod(labels.shape[1:]) * labels.dtype.itemsize)
    wrong = _Wrong([], [])
    first, stop = frames.skipped, frames.skipped + frames.count
    for batch in labels.read(first, stop, max(1, CHUNK_BYTES // size)):
        stream.write(batch.tobytes())
        is_wrong: npt.NDArray[np.bool_] = judge.metric.wrong(batch, judge.output)
        if is_wrong.any():
            wrong.frames.extend((first + np.flatnonzero(is_wrong)).tolist())
            wrong.found.extend([batch[is_wrong].min(), batch[is_wrong].max()])
        first += len(batch)
    return _described(wrong, judge) if wrong.frames else ""


def _described(wrong: _Wrong, judge: Judge) -> str:
    named = ", ".join(map(str, wrong.frames[:MOST_FRAMES_NAMED]))
    more = f" and {len(wrong.frames) - MOST_FRAMES_NAMED:,} more" if len(wrong.frames) > MOST_FRAMES_NAMED else ""
    low, high = np.min(wrong.found), np.max(wrong.found)
    values = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"found {values} in the labels of frame{'s' if len(wrong.frames) > 1 else ''} {named}{more}, "
        f"{judge.metric.name} wants {judge.metric.wanted_values(judge.output)}"
    )
