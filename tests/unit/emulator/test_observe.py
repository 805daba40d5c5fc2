"""One pass over the frames: extremes and histograms are numpy's, and take no memory per frame."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import graphs
import numpy as np
import onnx
import pytest
from graphs import Array, conv, conv_weights, network, node, normal
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.observe import BINS, PLACES, Histogram, Observation, Wish, observe

Feeds = dict[str, Array]


def two_convolutions(size: int = 8) -> tuple[onnx.ModelProto, list[str]]:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 2, 4, 3, 3)
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")]
    model = network(nodes, weights, inputs={"x": (1, 3, size, size)})
    return onnx.shape_inference.infer_shapes(model), ["x", "a", "r", "y"]


def seen_of(frames: Array, wish: Wish = Wish()) -> dict[str, Observation]:  # noqa: B008
    model, tensors = two_convolutions(frames.shape[-1])
    feeds = ({"x": frame[np.newaxis]} for frame in frames)
    return observe(model, dict.fromkeys(tensors, wish), feeds, lambda done: None)


def values_of(frames: Array) -> dict[str, Array]:
    """Return all values of the four tensors: shape (frames, channels, height, width)."""
    model, tensors = two_convolutions(frames.shape[-1])
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors[1:3])
    every = [graphs.run(model, frame[np.newaxis]) for frame in frames]
    return {name: np.concatenate([run[index] for run in every]) for index, name in enumerate("yar")} | {"x": frames}


def test_extremes_are_those_of_numpy() -> None:
    frames = normal(6, 3, 8, 8)
    found, apart, values = seen_of(frames), seen_of(frames, Wish(by_channel=True)), values_of(frames)
    for name, wanted in values.items():
        assert (found[name].low, found[name].high) == (wanted.min(), wanted.max())
        np.testing.assert_array_equal(apart[name].low, wanted.min(axis=(0, 2, 3)))
        np.testing.assert_array_equal(apart[name].high, wanted.max(axis=(0, 2, 3)))


def test_histograms_count_every_value_but_zeros() -> None:
    frames = normal(6, 3, 8, 8)
    found, values = seen_of(frames, Wish(by_channel=True)), values_of(frames)
    for name, wanted in values.items():
        histogram = found[name].histogram
        assert histogram is not None
        for channel, reach in enumerate(histogram.reach):
            numbers = wanted[:, channel].ravel().astype(np.float64)
            counts, _ = np.histogram(numbers[numbers != 0], bins=BINS, range=(-reach, reach))
            np.testing.assert_array_equal(histogram.counts[channel], counts)
        np.testing.assert_allclose(histogram.mean_square(), np.mean(wanted**2.0, axis=(0, 2, 3)), rtol=0.02)


def test_large_images_are_counted_at_a_grid_of_places() -> None:
    histogram = seen_of(normal(2, 3, 64, 64))["a"].histogram
    assert histogram is not None
    assert 2 * 4 * PLACES / 2 < histogram.seen <= 2 * 4 * PLACES


def test_the_order_of_the_frames_does_not_matter() -> None:
    frames = list(normal(6, 3, 8, 8) * np.geomspace(1, 100, 6)[:, None, None, None].astype(np.float32))
    wanted = seen_of(np.stack(frames))["y"].histogram
    for seed in range(3):
        random.Random(seed).shuffle(frames)
        found = seen_of(np.stack(frames))["y"].histogram
        assert wanted is not None
        assert found is not None
        np.testing.assert_array_equal(found.counts, wanted.counts)


@example([[-(2.0**-98)], [2.0**60]])
@example([[2.0**-98, -(2.0**-140), 0.0], [2.0**60]])
@given(st.lists(st.lists(st.floats(-(2.0**80), 2.0**80, width=32), min_size=1, max_size=5), min_size=1, max_size=5))
def test_a_growing_histogram_is_the_one_of_all_values(parts: list[list[float]]) -> None:
    grown, whole = Histogram(1), Histogram(1)
    for part in parts:
        grown.add(np.array([part], np.float32))
    whole.add(np.array([[value for part in parts for value in part]], np.float32))
    assert grown.reach == whole.reach
    assert grown.counts.sum() == whole.counts.sum()
    np.testing.assert_array_equal(grown.counts, whole.counts)


def test_what_is_not_finite_is_named() -> None:
    model = onnx.shape_inference.infer_shapes(network([node("Log", "x", "y"), node("Neg", "y", "z")]))
    feeds = [{"x": np.zeros((1, 3, 8, 8), np.float32)}]
    with pytest.raises(
        exceptions.AccelerasNumerizationError, match=r"not finite on the calibration set: y, z \(2 of 3 tensors\)"
    ):
        observe(model, dict.fromkeys(["x", "y", "z"], Wish()), feeds, lambda done: None)


def test_frames_are_asked_for_once_and_reported_one_by_one() -> None:
    done: list[int] = []
    model, tensors = two_convolutions()
    frames = iter([{"x": frame[np.newaxis]} for frame in normal(3, 3, 8, 8)])
    observe(model, dict.fromkeys(tensors, Wish()), frames, done.append)
    assert done == [1, 2, 3]


def test_the_graph_is_left_as_it_was() -> None:
    model, tensors = two_convolutions(64)
    before = model.SerializeToString()
    observe(model, dict.fromkeys(tensors, Wish(by_channel=True)), [{"x": normal(1, 3, 64, 64)}], lambda done: None)
    assert model.SerializeToString() == before


@pytest.mark.alone
def test_memory_is_flat_in_the_number_of_frames() -> None:
    model, tensors = two_convolutions(64)

    def frames(count: int) -> Iterator[Feeds]:
        for index in range(count):
            yield {"x": normal(1, 3, 64, 64, seed=index)}

    peaks = []
    for count in (16, 256):
        tracemalloc.start()
        observe(model, dict.fromkeys(tensors, Wish(by_channel=True)), frames(count), lambda done: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= 1.1 * peaks[0]
