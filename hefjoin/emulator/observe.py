"""Look at tensors while the calibration set streams by once: what each algorithm declares, gathered for all together.

The rule: one pass, and memory that does not grow with the number of frames. Extremes are exact, reduced inside the
graph over every value. Histograms count values at a fixed grid of places, at most `PLACES` of a frame. Both add up, so
a pass that was interrupted goes on from what it had seen, to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hefjoin import sessions
from hefjoin.emulator import exceptions
from hefjoin.emulator import feeds as feeding
from hefjoin.emulator.checkpoint import Checkpoint, checkpoint
from hefjoin.emulator.graph import Array, Graph, with_outputs
from hefjoin.emulator.log import say

BINS = 1024
LEAST_REACH = 2.0**-100
"""Of a histogram; what is smaller lies in its two middle bins."""
PLACES = 256
"""Places of a frame, height times width, whose values are counted in histograms."""


class Histogram:
    """Counts of the values other than zero, channel by channel, over a range that doubles when it must.

    Bins are equally wide and lie evenly around zero; a channel's range is ± a power of two, so that two histograms
    of the same values are equal whatever the order in which the values came.
    """

    def __init__(self, channels: int) -> None:
        """Count nothing yet."""
        self.counts: Array = np.zeros((channels, BINS), dtype=np.int64)
        self.reach: Array = np.full(channels, LEAST_REACH)
        """Above every absolute value, by channel."""
        self.seen = 0
        """Values by channel, zeros included."""

    def add(self, values: Array) -> None:
        """Count values, float32, shape (channels, values)."""
        self.seen += values.shape[1]
        peak = np.max(np.abs(values), axis=1, initial=0.0)
        if not np.all(np.isfinite(peak)):
            return  # the extremes tell of it
        self._reach_to(peak.astype(np.float64))
        inverse = (BINS / 2 / self.reach).astype(np.float32)
        scaled, present = values * inverse[:, np.newaxis], np.count_nonzero(values, axis=1)
        bins = np.floor(scaled).astype(np.int32) + BINS // 2
        if np.count_nonzero(scaled) < present.sum():  # too small for float32; a positive one has its bin already
            bins -= (scaled == 0) & (values < 0)
        bins += np.arange(0, bins.shape[0] * BINS, BINS, dtype=np.int32)[:, np.newaxis]
        self.counts += np.bincount(bins.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)
        self.counts[:, BINS // 2] -= values.shape[1] - present

    def _reach_to(self, peak: Array) -> None:
        short = np.flatnonzero(peak >= self.reach)
        doublings = np.frexp(peak[short])[1] - np.frexp(self.reach[short])[1] + 1
        for channel, count in zip(short, doublings, strict=True):
            self.counts[channel] = _widened(self.counts[channel], int(count))
        self.reach[short] *= 2.0**doublings

    def centers(self) -> Array:
        """Return the middle of each bin: float64, shape (channels, `BINS`)."""
        return ((np.arange(BINS) + 0.5) * 2 / BINS - 1) * self.reach[:, np.newaxis]

    def divided(self, factor: Array) -> Histogram:
        """Return the histogram of the values divided by a positive factor of each channel."""
        other = Histogram(len(self.counts))
        other.counts, other.reach, other.seen = self.counts, self.reach / factor, self.seen
        return other

    def mean_square(self) -> Array:
        """Return the mean of the squared values, zeros included: float64, shape (channels,)."""
        total: Array = np.sum(self.counts * np.square(self.centers()), axis=1) / max(self.seen, 1)
        return total


def _widened(counts: Array, doublings: int) -> Array:
    for _ in range(doublings if counts.any() else 0):
        pairs = counts.reshape(-1, 2).sum(axis=1)
        counts = np.zeros_like(counts)
        counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
    return counts


@dataclass(frozen=True)
class Wish:
    """What an algorithm wants to know of a tensor, beside its extremes."""

    histogram: bool = True
    by_channel: bool = False
    """Channels apart (axis 1), not all values together."""

    def __or__(self, other: Wish) -> Wish:
        """Return the wish that serves both."""
        return Wish(self.histogram or other.histogram, self.by_channel or other.by_channel)


Wishes = dict[str, Wish]
"""By tensor, the inputs of a graph allowed."""


def merged(*wanted: Wishes) -> Wishes:
    """Return what serves all algorithms."""
    every: Wishes = {}
    for wishes in wanted:
        for name, wish in wishes.items():
            every[name] = every[name] | wish if name in every else wish
    return every


@dataclass
class Observation:
    """What was seen of a tensor."""

    low: Array
    """Smallest value: float32, shape (channels,), or () for all of them where they are not apart."""
    high: Array
    histogram: Histogram | None

    def count(self, sample: Array, by_channel: bool) -> None:
        """Add a sample of a frame's values, batch and channels first, to the histogram."""
        values = sample.reshape(sample.shape[1] if by_channel else 1, -1)
        self.histogram = self.histogram or Histogram(len(values))
        self.histogram.add(values)

    def divided(self, factor: Array) -> Observation:
        """Return what would have been seen of the tensor with its channels divided, positive factors."""
        histogram = self.histogram and self.histogram.divided(factor)
        return Observation(self.low / factor, self.high / factor, histogram)

    def arrays(self) -> dict[str, Array]:
        """Return all of it as arrays, for `of_arrays`."""
        found = {"low": self.low, "high": self.high}
        if self.histogram is not None:
            found |= {"reach": self.histogram.reach, "seen": np.array(self.histogram.seen)}
            found["counts"] = self.histogram.counts.astype(np.min_scalar_type(self.histogram.counts.max()))
        return found

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array]) -> Observation:
        """Return the observation whose `arrays` these are."""
        histogram = None
        if "counts" in arrays:
            histogram = Histogram(len(arrays["reach"]))
            histogram.counts, histogram.reach = arrays["counts"].astype(np.int64), arrays["reach"]
            histogram.seen = int(arrays["seen"])
        return cls(arrays["low"], arrays["high"], histogram)


def kept(model: onnx.ModelProto, wishes: Wishes, feeds: feeding.Feeds, count: int) -> Checkpoint:
    """Return how far an earlier run of the same pass over the first `count` frames came, if it was interrupted."""

    def parts() -> Iterator[bytes]:
        yield from (Path(code).read_bytes() for code in (__file__, feeding.__file__, sessions.__file__))
        yield model.SerializeToString()
        yield repr(list(wishes.items())).encode()
        yield feeds.sha256(count)

    return checkpoint("calibration", parts)


def observe(
    model: onnx.ModelProto,
    wishes: Wishes,
    frames: Iterable[dict[str, Array]],
    progress: Callable[[int], None],
    earlier: Checkpoint | None = None,
) -> dict[str, Observation]:
    """Return what each tensor shows over all frames.

    Args:
        model: A float graph.
        wishes: What the algorithms want.
        frames: Feeds of the graph, one frame each, without those that an earlier run has seen.
        progress: Called with the number of frames done.
        earlier: From `kept`; what is seen is kept there too.

    Raises:
        exceptions.AccelerasNumerizationError: Tensors hold infinities or NaN; the first of them are named.
    """
    earlier = earlier or Checkpoint()
    counted = [name for name, wish in wishes.items() if wish.histogram]
    session = _session(model, wishes, counted)
    inputs = [info.name for info in session.get_inputs()]
    seen = _seen(wishes, earlier)
    for done, feeds in enumerate(frames, earlier.done + 1):
        found = iter(session.run(None, {name: feeds[name] for name in inputs}))
        for item in seen.values():
            item.low, item.high = np.minimum(item.low, next(found)), np.maximum(item.high, next(found))
        for name in counted:
            seen[name].count(next(found), wishes[name].by_channel)
        progress(done)
        earlier.offer(done, lambda: _arrays(seen))
    earlier.remove()
    _refuse_odd(seen)
    return seen


def _seen(wishes: Wishes, earlier: Checkpoint) -> dict[str, Observation]:
    """Return what was seen before the first frame of this run."""
    if not earlier.done:
        return {name: Observation(np.array(np.inf), np.array(-np.inf), None) for name in wishes}
    say(f"Going on behind frame {earlier.done}, where an earlier run was interrupted")
    parts: dict[int, dict[str, Array]] = {index: {} for index in range(len(wishes))}
    for key, array in earlier.taken().items():
        index, _, field = key.partition("/")
        parts[int(index)][field] = array
    return {name: Observation.of_arrays(parts[index]) for index, name in enumerate(wishes)}


def _arrays(seen: Mapping[str, Observation]) -> dict[str, Array]:
    return {
        f"{index}/{field}": array for index, item in enumerate(seen.values()) for field, array in item.arrays().items()
    }


def _refuse_odd(seen: Mapping[str, Observation]) -> None:
    odd = [name for name, item in seen.items() if not np.all(np.isfinite((item.low, item.high)))]
    if odd:
        raise exceptions.AccelerasNumerizationError(
            f"not finite on the calibration set: {', '.join(odd[:3])} ({len(odd)} of {len(seen)} tensors); "
            "look for a division by zero or the logarithm of it, and for a normalization that is missing"
        )


def _session(model: onnx.ModelProto, wishes: Mapping[str, Wish], counted: Sequence[str]) -> Any:
    shapes = Graph(model).shapes
    version = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    parts = [_extremes(name, len(shapes[name]) if wish.by_channel else 0, version) for name, wish in wishes.items()]
    parts += [_sample(name, shapes.get(name, ())) for name in counted]
    nodes = [node for part in parts for node in part[0]]
    constants = [tensor for part in parts for tensor in part[1]]
    outputs = [name for part in parts for name in part[2]]
    before = len(model.graph.node), len(model.graph.initializer)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    try:
        return sessions.open_session(with_outputs(model, outputs))
    finally:
        del model.graph.node[before[0] :]
        del model.graph.initializer[before[1] :]


Part = tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[str]]
"""Nodes to add, their constants, and the outputs to ask for."""


def _extremes(name: str, rank: int, version: int) -> Part:
    """Return the reductions to the smallest and largest value, of each channel (axis 1) or, with rank 0, of all."""
    axes = [axis for axis in range(rank) if axis != 1]
    inputs, constants = [name], []
    if axes and version >= 18:
        inputs.append(f"{name}/axes")
        constants.append(numpy_helper.from_array(np.array(axes), inputs[1]))
    nodes = [helper.make_node(kind, inputs, [f"{name}/{kind}"], keepdims=0) for kind in ("ReduceMin", "ReduceMax")]
    for node in nodes if axes and version < 18 else ():
        node.attribute.append(helper.make_attribute("axes", axes))
    return nodes, constants, [node.output[0] for node in nodes]


def _sample(name: str, shape: tuple[int, ...]) -> Part:
    """Return what takes values at a grid of at most `PLACES` places; all of them where there is no image."""
    places = list(shape[2:]) if len(shape) == 4 else [1, 1]
    step = math.ceil(math.sqrt(max(1, places[0] * places[1] / PLACES)))
    if step == 1:
        return [], [], [name]
    steps = [min(step, size) for size in places]
    values = {"start": [step // 2 for step in steps], "end": places, "axes": [2, 3], "step": steps}
    constants = [numpy_helper.from_array(np.array(value), f"{name}/sample_{key}") for key, value in values.items()]
    node = helper.make_node("Slice", [name, *(tensor.name for tensor in constants)], [f"{name}/sample"])
    return [node], constants, [node.output[0]]
