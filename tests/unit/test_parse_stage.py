"""What is wrong with a model is said in the spec's words, before the SDK is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from hefjoin.errors import SpecError
from hefjoin.results.networks import Network
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.contract import Workplace
from hefjoin.stages.parse import Parse
from hefjoin.stores.local import LocalStore
from tests.tiny import classifier

SDK = Sdk(provider="emulator", version="1")


def parse(folder: Path, dimensions: tuple[int | str, ...] = (1, 3, 16, 16), **fields: Any) -> Network:
    """Parse a classifier whose input has these dimensions; a text leaves one open."""
    model = classifier(0, 4)
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, dimensions, strict=True):
        axis.Clear()
        if isinstance(size, int):
            axis.dim_value = size
        else:
            axis.dim_param = size
    onnx.save(model, folder / "left.onnx")
    place = Workplace(
        store=LocalStore(folder / "store"), root=folder, toolchain=Toolchain(sdk=SDK, python=sys.executable)
    )
    plain: dict[str, Any] = {"input_shape": (), "start_nodes": (), "end_nodes": (), **fields}
    source = place.store.put(folder / "left.onnx", "onnx")
    (folder / "work").mkdir()
    return Parse(name="left", source=source, hw_arch="hailo8", sdk=SDK, **plain).run(folder / "work", place)


def test_a_model_whose_size_is_open_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse(tmp_path, ("batch", 3, "height", "width"))
    ((where, message),) = caught.value.problems
    assert where == "input_shape"
    assert "image (batch, 3, height, width) open; say it: input_shape: [1, 3, H, W]" in message
    assert "the model left" in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"input_shape": (1, 3, 24, 24)}, {"end_nodes": ("pool",), "input_shape": (1, 3, 8, 8)}]
)
def test_once_it_is_written_the_model_is_parsed(tmp_path: Path, fields: dict[str, Any]) -> None:
    found = parse(tmp_path, ("batch", 3, "height", "width"), **fields)
    assert found.inputs[0].shape == (*fields["input_shape"][2:], 3)


def test_an_open_batch_needs_no_word(tmp_path: Path) -> None:
    assert parse(tmp_path, ("batch", 3, 16, 16)).inputs[0].shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pol", "did you mean 'pool'?"),
        ("scores", "did you mean 'dense'?"),
        ("/model.22/Concat", "the last of its 5 is 'dense'"),
    ],
)
def test_a_misspelt_node_is_told_with_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(tmp_path, end_nodes=("relu", name), start_nodes=("conw",), input_shape=(1, 3, 16, 16))
    (start, end) = caught.value.problems
    assert (start.path, end.path) == ("start_nodes[0]", "end_nodes[1]")
    assert hint in end.message
    assert "did you mean 'conv'?" in start.message
