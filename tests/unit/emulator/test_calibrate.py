"""Ranges are the smallest and largest values over all frames; collecting them takes no memory per frame."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import graphs
import numpy as np
import onnx
import psutil
import pytest
from graphs import Array, conv, conv_weights, network, node, normal
from onnx import TensorProto, helper

from hefjoin.emulator import exceptions
from hefjoin.emulator.calibrate import Ranges, collect_ranges
from hefjoin.emulator.feeds import Feeds


def two_convolutions(size: int = 8) -> tuple[onnx.ModelProto, list[str]]:
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 2, 4, 3, 3)
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")]
    return network(nodes, weights, inputs={"x": (1, 3, size, size)}), ["x", "a", "r", "y"]


def ranges_of(frames: Array) -> Ranges:
    model, tensors = two_convolutions()
    return collect_ranges(model, tensors, ({"x": frame[np.newaxis]} for frame in frames), lambda done: None)


def test_ranges_are_those_of_numpy() -> None:
    model, tensors = two_convolutions()
    frames = normal(6, 3, 8, 8)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors[1:3])
    every = [graphs.run(model, frame[np.newaxis]) for frame in frames]
    values = {name: np.stack([run[index] for run in every]) for index, name in enumerate("yar")} | {"x": frames}
    wanted = {name: (float(values[name].min()), float(values[name].max())) for name in tensors}
    assert ranges_of(frames) == wanted


def test_the_order_of_the_frames_does_not_matter() -> None:
    frames = list(normal(6, 3, 8, 8))
    wanted = ranges_of(np.stack(frames))
    for seed in range(3):
        random.Random(seed).shuffle(frames)
        assert ranges_of(np.stack(frames)) == wanted


def test_what_is_not_finite_is_named() -> None:
    model = network([node("Log", "x", "y"), node("Neg", "y", "z")])
    with pytest.raises(
        exceptions.AccelerasNumerizationError, match=r"not finite on the calibration set: y, z \(2 of 3 tensors\)"
    ):
        collect_ranges(model, ["x", "y", "z"], [{"x": np.zeros((1, 3, 8, 8), np.float32)}], lambda done: None)


def test_one_frame_after_the_other_is_reported() -> None:
    done: list[int] = []
    model, tensors = two_convolutions()
    frames = ({"x": frame[np.newaxis]} for frame in normal(3, 3, 8, 8))
    collect_ranges(model, tensors, frames, done.append)
    assert done == [1, 2, 3]


def test_the_graph_is_left_as_it_was() -> None:
    model, tensors = two_convolutions()
    before = model.SerializeToString()
    collect_ranges(model, tensors, iter([{"x": normal(1, 3, 8, 8)}]), lambda done: None)
    assert model.SerializeToString() == before


def test_memory_does_not_grow_with_the_frames() -> None:
    size = 256
    model, tensors = two_convolutions(size)
    frame_bytes = 3 * size * size * 4
    process, seen = psutil.Process(), []

    def frames() -> Iterator[dict[str, Array]]:
        for index in range(120):
            if index in (20, 119):
                seen.append(process.memory_info().rss)
            yield {"x": normal(1, 3, size, size, seed=index)}

    collect_ranges(model, tensors, frames(), lambda done: None)
    warm, end = seen
    assert end - warm < 20 * frame_bytes  # keeping the input alone would take 99


@pytest.fixture
def small() -> onnx.ModelProto:
    return two_convolutions()[0]


def test_frames_from_a_file_are_those_of_the_array(small: onnx.ModelProto, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    from_file = Feeds(small, str(tmp_path / "frames.npy"))
    assert (from_file.count, from_file.is_uint8) == (40, True)
    for given, frame in zip(from_file.frames(), frames, strict=True):
        assert given["x"].dtype == np.float32
        np.testing.assert_array_equal(given["x"][0], frame.transpose(2, 0, 1))


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
