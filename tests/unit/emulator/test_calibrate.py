"""Calibration: the range of least error, by brute force over every pair of ends; frames as their callers give them."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from graphs import Array, network, node
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.emulator import exceptions
from hefjoin.emulator.calibrate import SHARES, WORTH, least_error_range, percentile_range, tightened
from hefjoin.emulator.feeds import Feeds
from hefjoin.emulator.observe import Histogram, Observation


def seen(values: Array) -> Observation:
    histogram = Histogram(1)
    histogram.add(values.reshape(1, -1).astype(np.float32))
    return Observation(np.min(values), np.max(values), histogram)


def lost(values: Array, low: float, high: float) -> float:
    """Return what the rule charges a range with."""
    step = (high - low) / 255
    beyond = np.maximum(values - high, 0) ** 2 + np.maximum(low - values, 0) ** 2
    return float(beyond.sum() + np.count_nonzero(values) * step**2 / 12)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_range_loses_less(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 500)
    found = tightened(values.min(), values.max(), values, np.ones(500), 8)
    shares = np.arange(1, SHARES + 1, 8) / SHARES
    others = [lost(values, values.min() * a, values.max() * b) for a in shares for b in shares]
    assert lost(values, *found) <= max(min(others), (1 - WORTH) * lost(values, values.min(), values.max())) + 1e-9


def test_a_rare_peak_is_clipped_and_what_saves_little_is_not() -> None:
    values, counts = np.linspace(-1, 1, 101), np.full(101, 100_000)
    for peak, clipped in ((1.05, 1.05), (3.0, 1.0)):
        found = tightened(-1.0, peak, np.append(values, peak), np.append(counts, 1), 8)
        assert found == (-1.0, pytest.approx(clipped, abs=0.05))


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=30))
def test_a_range_lies_within_what_was_seen_and_holds_zero(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    low, high = least_error_range(seen(values), 8)
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)


@pytest.mark.parametrize("values", [np.zeros(4), np.array([5.0]), np.array([-3.0, 0.0])])
def test_at_sixteen_bits_all_that_was_seen_is_kept(values: Array) -> None:
    assert least_error_range(seen(values), 16) == (min(values.min(), 0), max(values.max(), 0))


def test_percentiles_are_those_of_numpy() -> None:
    values = np.maximum(np.random.default_rng(1).standard_normal(50_000), 0)
    low, high = percentile_range(seen(values), 0.0, 99.9)
    assert low == 0
    assert high == pytest.approx(np.percentile(values, 99.9), abs=2 * 8 / 1024)
    assert percentile_range(seen(values), 0.0, 100.0) == (values.min(), values.max())


@pytest.fixture
def small() -> onnx.ModelProto:
    return graphs.small_net()


def test_frames_from_a_file_are_those_of_the_array(small: onnx.ModelProto, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    from_file = Feeds(small, str(tmp_path / "frames.npy"))
    assert (from_file.count, from_file.is_uint8) == (40, True)
    for fed, frame in zip(from_file.frames(), frames, strict=True):
        assert fed["x"].dtype == np.float32
        np.testing.assert_array_equal(fed["x"][0], frame.transpose(2, 0, 1))


def test_a_dictionary_feeds_each_input() -> None:
    model = network([node("Concat", "x z", "y", axis=1)], inputs={"x": (1, 3, 8, 8), "z": (1, 1, 8, 8)})
    data = {"z": graphs.frames(5, 8, 8, 1), "x": graphs.frames(3)}
    found = list(Feeds(model, data).frames())
    assert len(found) == 3
    np.testing.assert_array_equal(found[2]["z"][0, 0], data["z"][2, :, :, 0])


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((4, 3, 8, 8), r"Data shape \(4, 3, 8, 8\) for layer x doesn't match network's input shape \(8, 8, 3\)"),
        ((4, 8, 8), r"Data shape \(4, 8, 8\) for layer x doesn't match"),
        ((0, 8, 8, 3), r"Data shape \(0, 8, 8, 3\) for layer x doesn't match"),
        ((), r"Data shape \(\) for layer x doesn't match"),
    ],
)
def test_a_wrong_shape_names_the_layer_and_both_shapes(
    small: onnx.ModelProto, shape: tuple[int, ...], text: str
) -> None:
    with pytest.raises(exceptions.BadInputsShape, match=text):
        Feeds(small, np.zeros(shape, np.float32))


def test_keys_that_are_no_input_layers_are_refused(small: onnx.ModelProto) -> None:
    with pytest.raises(exceptions.BadInputsShape, match="the data set has image; the input layers are x"):
        Feeds(small, {"image": graphs.frames(1)})


def test_one_array_for_two_inputs_is_refused() -> None:
    model = network([node("Concat", "x z", "y", axis=1)], inputs={"x": graphs.IMAGE, "z": graphs.IMAGE})
    with pytest.raises(exceptions.BadInputsShape, match="one array for 2 inputs; give a dictionary of x, z"):
        Feeds(model, graphs.frames(1))


def test_other_data_is_refused(small: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    for dataset in ([[1.0]], {"x": [[1.0]]}, *(str(tmp_path / name) for name in ("text.npy", "empty.npy", "two.npz"))):
        with pytest.raises(exceptions.InvalidArgumentsException, match=r"\.npy"):
            Feeds(small, dataset)
