"""Weights beside an ONNX model are known by file, tensor and bytes, and none is taken from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hefjoin.errors import InputError
from hefjoin.formats import onnx_file, onnx_weights

WIDE = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
INNER = np.arange(5, dtype=np.float32)


def save(folder: Path) -> Path:
    """Write a model whose convolution, branch and function keep their constants in two files; WIDE lies at byte 64."""
    inner = numpy_helper.from_array(INNER, "inner")
    branch = helper.make_graph([], "branch", [], [helper.make_empty_tensor_value_info("inner")], [inner])
    constant = helper.make_node("Constant", [], ["five"], value=numpy_helper.from_array(INNER, "five"))
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "wide"], ["y"]),
            helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch),
            helper.make_node("fives", [], ["v"], domain="local"),
        ],
        "net",
        [helper.make_empty_tensor_value_info(name) for name in ("x", "flag")],
        [helper.make_empty_tensor_value_info(name) for name in "yzv"],
        [numpy_helper.from_array(WIDE, "wide"), numpy_helper.from_array(np.arange(2), "small")],
    )
    function = helper.make_function("local", "fives", [], ["five"], [constant], [helper.make_opsetid("", 17)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[function])
    held = model.graph.node[1].attribute
    inside = [model.functions[0].node[0].attribute[0].t, *(item.g.initializer[0] for item in held)]
    for tensor, offset in ((model.graph.initializer[0], 64), *((each, 160) for each in inside)):
        move_out(tensor, "parts/net.data" if offset == 64 else "rest.data", offset)
    (folder / "parts").mkdir()
    (folder / "parts" / "net.data").write_bytes(bytes(64) + WIDE.tobytes())
    (folder / "rest.data").write_bytes(bytes(160) + INNER.tobytes())
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def move_out(tensor: TensorProto, location: str, offset: int) -> None:
    """Let a tensor lie in a file; it is written by whoever calls this."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset)):  # the length may be left out
        tensor.external_data.add(key=key, value=str(value))


def test_the_bytes_of_all_are_found_wherever_a_model_holds_tensors(tmp_path: Path) -> None:
    path = save(tmp_path)
    model = onnx_file.load(path)
    onnx_weights.refuse_unless_whole(model, path)
    assert onnx_weights.files(model) == ["parts/net.data", "rest.data"]
    found = list(onnx_weights.tensors(model))
    for tensor in found:
        onnx_weights.read_in(tensor, path.parent)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in found}
    np.testing.assert_array_equal(values["wide"], WIDE)
    for name in ("inner", "five"):
        np.testing.assert_array_equal(values[name], INNER)
    assert len(found) == 4
    assert not list(onnx_weights.tensors(model))


def refused(path: Path, change: Callable[[onnx.ModelProto], object] = lambda model: None) -> str:
    model = onnx_file.load(path)
    change(model)
    with pytest.raises(InputError, match="external weights cannot be read") as caught:
        onnx_weights.refuse_unless_whole(model, path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_and_short_files_are_all_told_with_tensor_and_bytes(tmp_path: Path) -> None:
    path = save(tmp_path)
    (tmp_path / "parts" / "net.data").unlink()
    with (tmp_path / "rest.data").open("r+b") as stream:
        stream.truncate(170)
    said = refused(path)
    assert "parts/net.data: tensor 'wide' takes 96 bytes from byte 64 on, no such file is there" in said
    assert "rest.data: tensor 'inner' takes 20 bytes from byte 160 on, 10 are there" in said
    assert "put the files beside the model" in said


@pytest.mark.parametrize("location", ["/etc/passwd", "../net.data", "parts/../../net.data", "", "."])
def test_a_file_that_is_not_below_the_models_folder_is_refused(location: str, tmp_path: Path) -> None:
    said = refused(
        save(tmp_path), lambda model: setattr(model.graph.initializer[0].external_data[0], "value", location)
    )
    assert f"tensor 'wide' lies in {location!r}, which is no file below the model's folder" in said


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("length", "95", "takes 96 bytes by shape and type, the model says 95 from byte 64 on"),
        ("offset", "-1", "the model says 96 from byte -1 on"),
        ("offset", "many", "has no whole number for its place"),
    ],
)
def test_a_place_that_cannot_be_is_refused(key: str, value: str, message: str, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].external_data.add(key=key, value=value)

    assert message in refused(save(tmp_path), change)


@pytest.mark.parametrize(("kind", "dims"), [(TensorProto.STRING, [3]), (99, [3]), (TensorProto.FLOAT, [-3])])
def test_what_has_no_size_is_refused(kind: int, dims: list[int], tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_type, tensor.dims[:] = kind, dims

    assert "has no size in bytes" in refused(save(tmp_path), change)


@pytest.mark.parametrize(
    ("kind", "size_bytes"),
    [(TensorProto.FLOAT16, 30), (TensorProto.BFLOAT16, 30), (TensorProto.INT4, 8), (TensorProto.DOUBLE, 120)],
)
def test_a_size_follows_from_shape_and_type(kind: int, size_bytes: int) -> None:
    assert onnx_weights.size_bytes(TensorProto(name="w", data_type=kind, dims=[3, 5])) == size_bytes


def test_of_many_problems_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    path = save(tmp_path)

    def change(model: onnx.ModelProto) -> None:
        for index in range(12):
            model.graph.initializer.add(name=f"w{index}", data_type=1, dims=[1])
            move_out(model.graph.initializer[-1], "gone.data", 0)

    said = refused(path, change)
    assert said.count("no such file is there") == 10
    assert "and 2 more" in said
