"""What an ONNX file holds, and what a file that is none is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hefjoin.errors import InputError
from hefjoin.formats import onnx_file

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def model() -> onnx.ModelProto:
    """Conv, Relu, If with an Identity in each branch; the weight is also an input, as old exporters write it."""
    weight = numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "weight")
    bias = numpy_helper.from_array(np.zeros(8, np.float32), "bias")
    branch = helper.make_graph(
        [helper.make_node("Identity", ["relu"], ["kept"])],
        "branch",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(5, np.float32), "inner")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight", "bias"], ["conv"]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch),
        ],
        "net",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, None]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [8, 3, 3, 3]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [weight, bias],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="test", producer_version="2")


def test_summarizes_a_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(), path)
    found = onnx_file.read(path)
    assert (found.ir_version, found.producer) == (9, "test 2")
    assert found.opsets == {"ai.onnx": 17, "com.microsoft": 1}
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in found.inputs] == [
        ("image", ("batch", 3, 32, "?"), "FLOAT"),
        ("flag", (), "BOOL"),
    ]
    assert [(tensor.name, tensor.shape) for tensor in found.outputs] == [("out", None)]
    assert found.operators == {"Identity": 2, "Conv": 1, "Relu": 1, "If": 1}
    assert found.parameters == 8 * 3 * 3 * 3 + 8 + 2 * 5
    assert found.size_bytes == path.stat().st_size


def test_an_input_that_is_no_tensor_is_named_by_its_kind(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    assert (onnx_file.read(path).inputs[0].dtype, onnx_file.read(path).inputs[0].shape) == ("SEQUENCE", None)


def test_external_weights_are_counted_without_them(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="net.data", size_threshold=100)
    (tmp_path / "net.data").unlink()
    assert onnx_file.read(path).parameters == 234


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, 0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>404", "no ONNX model: 24 bytes that start with 3c 21"),
        (model().SerializeToString()[:-200], "truncated, .* the file ends inside `graph`"),
        (model().SerializeToString()[:1], "truncated|no ONNX model|damaged"),
        (
            onnx.ModelProto(ir_version=9, producer_name="x").SerializeToString(),
            "5 bytes of protobuf without a graph",
        ),
        (b"\x08\x09\x3a\x02\xff\xff", "damaged inside its fields, its 6 bytes have the right length"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        onnx_file.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dims", [[2**63 - 1, 2], [-1], [2] * 100_000], ids=["product", "negative", "axes"])
def test_a_weight_of_no_possible_shape_is_refused(dims: list[int], tmp_path: Path) -> None:
    broken = model()
    broken.graph.initializer.add(name="odd").dims.extend(dims)
    path = tmp_path / "net.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(InputError, match=rf"'odd' has the shape .*\({len(dims):,} axes\)"):
        onnx_file.read(path)


@pytest.mark.parametrize("name", ["absent.onnx", "."])
def test_no_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file there"):
        onnx_file.load(tmp_path / name)


def test_a_model_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    proto = model()
    del proto.opset_import[1]
    content = proto.SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"truncated|without a graph|cut off behind its graph"):
            onnx_file.read(path)


@fuzz
@given(content=st.binary(max_size=300), changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255))))
def test_any_bytes_are_read_or_refused(content: bytes, changes: list[tuple[int, int]], tmp_path: Path) -> None:
    damaged = bytearray(model().SerializeToString())
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    path = tmp_path / "net.onnx"
    for some in (content, bytes(damaged)):
        path.write_bytes(some)
        try:
            onnx_file.read(path)
        except InputError:
            continue
