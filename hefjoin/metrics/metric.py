"""The metrics that a spec can name, each with what it asks of outputs and labels.

The rule: what does not fit is told in words before anything is computed, found beside wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hefjoin.errors import InputError
from hefjoin.metrics import own

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
"""Of one frame: (features,) or (height, width, channels)."""

MetricKind = Literal["hits", "overlap", "error", "score"]
"""Of a frame's number: 0 or 1; 0–1; an error in the output's unit, the less the better; on an own scale, the more."""

IOU_THRESHOLD = 0.5


class Metric(Protocol):
    """One way to judge an output."""

    @property
    def name(self) -> str:
        """As the spec has it, nothing left out."""

    @property
    def kind(self) -> MetricKind:
        """What its numbers are."""

    def output_problem(self, output: Shape) -> str:
        """Return why it cannot judge an output of that shape; empty where it can."""

    def labels_problem(self, dtype: np.dtype[Any], label: Shape, output: Shape) -> str:
        """Return why labels of that type, and of that shape per frame, are none for it; empty where they are."""

    def wrong(self, labels: Array, output: Shape) -> npt.NDArray[np.bool_]:
        """Return which labels, shape (frames, …), have values that mean nothing to it."""

    def wanted_values(self, output: Shape) -> str:
        """Return in words what values it wants."""

    def score(self, output: Array, label: Any) -> float:
        """Judge one frame: its output, float32 of that shape, against its label."""


@dataclass(frozen=True)
class TopK:
    """Whether the true class is among the k highest scores; of equal ones the first is the higher, as in argmax."""

    k: int
    kind: MetricKind = "hits"

    @property
    def name(self) -> str:
        """`top-1`."""
        return f"top-{self.k}"

    def output_problem(self, output: Shape) -> str:
        """Want a list of scores, more of them than k."""
        classes = math.prod(output)
        if classes != output[-1]:
            return f"{self.name} wants one score for each class, found a map of shape {output}; there are iou and mae"
        if self.k >= classes:
            return f"{self.name} is met by every label, found {classes} score{'s' if classes != 1 else ''}"
        return ""

    def labels_problem(self, dtype: np.dtype[Any], label: Shape, output: Shape) -> str:
        """Want one whole number a frame."""
        del output
        if dtype.kind in "iu" and label == ():
            return ""
        return f"found {_described(dtype, label)}, {self.name} wants classes, whole numbers of shape (frames,)"

    def wrong(self, labels: Array, output: Shape) -> npt.NDArray[np.bool_]:
        """Find classes that have no score."""
        return np.asarray((labels < 0) | (labels >= math.prod(output)))

    def wanted_values(self, output: Shape) -> str:
        """Classes are counted from 0."""
        return f"0 to {math.prod(output) - 1}, one of its {math.prod(output)} scores"

    def score(self, output: Array, label: Any) -> float:
        """Return 1 for a hit, 0 else."""
        scores = output.ravel()
        its = scores[int(label)]
        higher = np.count_nonzero(scores > its) + np.count_nonzero(scores[: int(label)] == its)
        return float(higher < self.k and not np.isnan(its))


@dataclass(frozen=True)
class Iou:
    """Intersection over union of a one-channel map above a threshold with a mask; 1 where both are empty."""

    threshold: float = IOU_THRESHOLD
    kind: MetricKind = "overlap"

    @property
    def name(self) -> str:
        """`iou@0.5`."""
        return f"iou@{self.threshold:g}"

    def output_problem(self, output: Shape) -> str:
        """Want a map of one channel."""
        if len(output) == 3 and output[-1] == 1:
            return ""
        return f"{self.name} wants a map of one channel, (height, width, 1), found {output}"

    def labels_problem(self, dtype: np.dtype[Any], label: Shape, output: Shape) -> str:
        """Want a mask of the map's size, its last axis present or not."""
        if dtype.kind in "biu" and label in (output, output[:-1]):
            return ""
        height, width, _ = output
        wanted = f"masks of 0 and 1 of the map's size, whole numbers or bool of shape (frames, {height}, {width})"
        return f"found {_described(dtype, label)}, {self.name} wants {wanted}"

    def wrong(self, labels: Array, output: Shape) -> npt.NDArray[np.bool_]:
        """Find masks with other values than 0 and 1."""
        del output
        return np.asarray(((labels != 0) & (labels != 1)).reshape(len(labels), -1).any(axis=1))

    def wanted_values(self, output: Shape) -> str:
        """A mask says yes or no."""
        del output
        return "0 and 1"

    def score(self, output: Array, label: Any) -> float:
        """Return the overlap, 0–1."""
        found, true = output.ravel() > self.threshold, np.asarray(label).ravel() != 0
        union = np.count_nonzero(found | true)
        return float(np.count_nonzero(found & true) / union) if union else 1.0


@dataclass(frozen=True)
class Mae:
    """Mean of the absolute errors, in the output's own unit: the less the better."""

    kind: MetricKind = "error"
    name: str = "mae"

    def output_problem(self, output: Shape) -> str:
        """Take any output."""
        del output
        return ""

    def labels_problem(self, dtype: np.dtype[Any], label: Shape, output: Shape) -> str:
        """Want as many numbers as the output has, axes of one left out or not."""
        if dtype.kind in "biuf" and _without_ones(label) == _without_ones(output):
            return ""
        sizes = ", ".join(map(str, _without_ones(output)))
        wanted = f"numbers like its output {output}: shape (frames, {sizes})" if sizes else "numbers of shape (frames,)"
        return f"found {_described(dtype, label)}, mae wants {wanted}"

    def wrong(self, labels: Array, output: Shape) -> npt.NDArray[np.bool_]:
        """Find labels with NaN or infinity."""
        del output
        return np.asarray(~np.isfinite(labels).reshape(len(labels), -1).all(axis=1))

    def wanted_values(self, output: Shape) -> str:
        """Any that can be subtracted."""
        del output
        return "finite numbers"

    def score(self, output: Array, label: Any) -> float:
        """Return the error of a frame."""
        return float(np.mean(np.abs(output.ravel().astype(np.float64) - np.asarray(label).ravel())))


@dataclass(frozen=True)
class Own:
    """A person's own function of one frame: `function(output, label) -> float`, the more the better.

    `output` is float32, (features,) or (height, width, channels), dequantized; `label` is the frame's part of the
    labels, whatever type it has. Both are read-only. The same function judges every stage.
    """

    name: str
    function: Callable[[Array, Any], Any]
    kind: MetricKind = "score"

    def output_problem(self, output: Shape) -> str:
        """Take any output; the function knows what it wants."""
        del output
        return ""

    def labels_problem(self, dtype: np.dtype[Any], label: Shape, output: Shape) -> str:
        """Take any labels but Python objects, which are not read."""
        del output
        return f"found {_described(dtype, label)}, which is not read" if dtype.hasobject else ""

    def wrong(self, labels: Array, output: Shape) -> npt.NDArray[np.bool_]:
        """Take any value."""
        del output
        return np.zeros(len(labels), np.bool_)

    def wanted_values(self, output: Shape) -> str:
        """Ask for nothing."""
        del output
        return ""

    def score(self, output: Array, label: Any) -> float:
        """Call the function.

        Raises:
            InputError: It raised, or gave no finite number.
        """
        try:
            found = self.function(output, label)
        except Exception as error:  # whatever a person's own function raises is told to them
            raise InputError(f"{self.name} raised {type(error).__name__}: {error}") from error
        value = np.asarray(found)
        if value.ndim or value.dtype.kind not in "biuf" or not np.isfinite(value):
            raise InputError(f"{self.name} gave {str(found)[:60]!r}, wanted one finite number")
        return float(value)


def metric(text: str) -> Metric:
    """Return the metric of that name; empty is top-1.

    Args:
        text: As a spec has it, so of the form that `hefjoin.spec.METRIC_PATTERN` allows.

    Raises:
        InputError: A function of one's own that cannot be loaded.
    """
    if ":" in text:
        return Own(text, own.load(text))
    if text == "mae":
        return Mae()
    if text.startswith("iou"):
        threshold = text.partition("@")[2]
        return Iou(float(threshold) if threshold else IOU_THRESHOLD)
    return TopK(int(text.removeprefix("top-") or 1))


def _described(dtype: np.dtype[Any], label: Shape) -> str:
    return f"{dtype} of shape ({', '.join(['frames', *map(str, label)])}{',' if not label else ''})"


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)
