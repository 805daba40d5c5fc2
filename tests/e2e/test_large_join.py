"""Two networks whose weights are more than one ONNX file can hold: joined by reference, each computes what it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from hefjoin.emulator import ClientRunner, InferenceContext

PIXELS, FEATURES, HEADS = 3 * 32 * 32, 32_768, 3
NET_BYTES = HEADS * PIXELS * FEATURES * 4
"""1.125 GiB."""
PEAK_BYTES = 600 << 20
SECONDS = 120
"""For writing 2.25 GiB on a disk that others use too; without them it is a few."""

PEAK = """
import sys, time
from pathlib import Path
from hefjoin.emulator import ClientRunner, JoinAction
def peak(since):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024, time.monotonic() - since)
began = time.monotonic()
"""
PARSE = (
    PEAK
    + """
runner = ClientRunner()
runner.translate_onnx_model(sys.argv[1], sys.argv[2])
runner.save_har(sys.argv[3])
peak(began)
"""
)
JOIN = (
    PEAK
    + """
left, right = (ClientRunner(har=path) for path in sys.argv[1:3])
left.join(right, join_action=JoinAction.AUTO_JOIN_INPUTS)
left.save_har(sys.argv[3])
peak(began)
"""
)
OPTIMIZE = (
    PEAK
    + """
import numpy
try:
    ClientRunner(har=sys.argv[1]).optimize(numpy.zeros((1, 32, 32, 3), numpy.float32))
except Exception as error:
    print(error)
peak(began)
"""
)


def write(folder: Path, name: str, seed: int, opset: int) -> Path:
    """Write a network of large fully connected heads, its weights in a file of holes and a few values."""
    rng = np.random.default_rng(seed)
    nodes, weights = [helper.make_node("Flatten", ["x"], ["f"], "/f")], []
    with (folder / f"{name}.data").open("wb") as stream:
        for head in range(HEADS):
            begin = head * NET_BYTES // HEADS
            tensor = TensorProto(name=f"w{head}", data_type=TensorProto.FLOAT, dims=[PIXELS, FEATURES])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", f"{name}.data"), ("offset", begin), ("length", NET_BYTES // HEADS)):
                tensor.external_data.add(key=key, value=str(value))
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", ["f", f"w{head}"], [f"y{head}"], f"/y{head}"))
            for place in rng.integers(0, PIXELS * FEATURES, 100):
                stream.seek(begin + 4 * int(place))
                stream.write(rng.standard_normal(1).astype(np.float32).tobytes())
        stream.truncate(NET_BYTES)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = [helper.make_tensor_value_info(f"y{head}", TensorProto.FLOAT, None) for head in range(HEADS)]
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder / f"{name}.onnx"


def step(script: str, *arguments: object) -> list[str]:
    """Run a script in a process of its own and hold it to its memory; return what it printed before."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    *lines, last = done.stdout.splitlines()
    peak_bytes, seconds = last.split()
    assert int(peak_bytes) < PEAK_BYTES
    assert float(seconds) < SECONDS
    return lines


def alone(path: Path, x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return list(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x}))


@pytest.mark.timeout(900)
def test_more_than_two_gigabytes_join_by_reference(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, seed, opset) for name, seed, opset in (("a", 1, 13), ("b", 2, 17))]
    hars = [path.with_suffix(".har") for path in paths]
    for path, har in zip(paths, hars, strict=True):
        step(PARSE, path, path.stem, har)
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    exact = [array for path in paths for array in alone(path, x)]
    for path in paths:
        path.unlink()
        path.with_suffix(".data").unlink()
    joined = tmp_path / "joined.har"
    step(JOIN, *hars, joined)
    assert joined.stat().st_size > 2 * NET_BYTES > onnx.checker.MAXIMUM_PROTOBUF
    for har in hars:
        har.unlink()
    refusal = "\n".join(step(OPTIMIZE, joined))
    assert f"{2 * NET_BYTES:,} bytes of weights (a {NET_BYTES:,}, b {NET_BYTES:,} of the large ones)" in refusal
    runner = ClientRunner(har=joined)
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        found = runner.infer(context, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    joined.unlink()
    for got, wanted in zip(found, exact, strict=True):
        assert np.count_nonzero(wanted) > 50
        np.testing.assert_array_equal(got, wanted)
