"""`hefjoin check` and a build never disagree: what it accepts is parsed, checked and joined; what it refuses is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hefjoin.errors import HefJoinError
from hefjoin.results.checked import JoinCheck
from hefjoin.sdk.toolchain import Toolchain, resolve
from hefjoin.spec import BuildSpec
from hefjoin.spec_file import read_spec
from hefjoin.stages.check import Check
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.examine import examine
from hefjoin.stages.fetch import fetch
from hefjoin.stages.join import Join
from hefjoin.stages.parse import Parse
from hefjoin.stages.preflight import preflight
from hefjoin.stages.script_check import require_sound
from hefjoin.stores import open_store
from tests import steps, tiny


@pytest.fixture(autouse=True)
def steps_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    steps.here(monkeypatch)


class File(NamedTuple):
    """What may be odd about the right model's file."""

    size: int
    channels: int
    layout: str
    dtype: int
    batch: int | str
    has_tail: bool
    flattens_by: str
    opset: int

    def write(self, path: Path) -> None:
        """Write a classifier like it."""
        model = tiny.classifier(1, 6, size=self.size)
        graph = model.graph
        model.opset_import[0].version = self.opset
        if self.channels != 3:
            kernel = next(tensor for tensor in graph.initializer if tensor.name == "w")
            values = onnx.numpy_helper.to_array(kernel)[:, : self.channels]
            kernel.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), "w"))
        if self.flattens_by == "Reshape":
            (flat,) = (node for node in graph.node if node.name == "flat")
            flat.op_type = "Reshape"
            flat.input.append("target")
            first = self.batch if isinstance(self.batch, int) else 1
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([first, 8], np.int64), "target"))
        name = "image"
        for kind, attributes in self._front():
            graph.node.insert(0, helper.make_node(kind, ["to_be"], [f"{kind}_out"], kind, **attributes))
            for node in graph.node[1:]:
                node.input[:] = [f"{kind}_out" if given == name else given for given in node.input]
            graph.node[0].input[:] = [name]
        shape: list[Any] = [self.batch, self.channels, self.size, self.size]
        if self.layout == "NHWC":
            shape = [self.batch, self.size, self.size, self.channels]
        outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 6])]
        if self.has_tail:
            graph.node.append(helper.make_node("Hardmax", ["scores"], ["best"], "tail"))
            outputs = [helper.make_tensor_value_info("best", TensorProto.FLOAT, [None, 6])]
        del graph.input[:], graph.output[:]
        graph.input.append(helper.make_tensor_value_info("image", self.dtype, shape))
        graph.output.extend(outputs)
        onnx.save(model, path)

    def _front(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the nodes before the first convolution, the one next to it first."""
        if self.layout == "NHWC":
            yield "Transpose", {"perm": [0, 3, 1, 2]}
        if self.dtype != TensorProto.FLOAT:
            yield "Cast", {"to": TensorProto.FLOAT}


def mostly(*values: Any) -> st.SearchStrategy[Any]:
    """Return the first value nine times out of ten: a spec with one mistake says more than one with six."""
    return st.integers(0, 9).flatmap(lambda draw: st.sampled_from(values[1:]) if draw == 9 else st.just(values[0]))


FILES = st.builds(
    File,
    size=mostly(16, 24),
    channels=mostly(3, 1),
    layout=mostly("NCHW", "NHWC"),
    dtype=mostly(TensorProto.FLOAT, TensorProto.UINT8, TensorProto.DOUBLE),
    batch=mostly(1, "N", 2),
    has_tail=mostly(False, True),
    flattens_by=mostly("Flatten", "Reshape"),
    opset=mostly(17, 9, 13, 99),
)
NUMBERS = mostly([120.0, 115.0, 105.0], [], [0.5], [1.0, 2.0], [1.0] * 4)
RIGHTS = st.fixed_dictionaries(
    {
        "name": mostly("right", "Right", "other"),
        "source": mostly("right.onnx", "left.onnx", "missing.onnx"),
        "mean": NUMBERS,
        "std": NUMBERS,
        "color": mostly("rgb", "bgr"),
        "input_shape": mostly([], [1, 3, 16, 16], [1, 16, 16, 3], [1, 3, 24, 24], [2, 3, 16, 16]),
        "start_nodes": mostly([], ["conv"], ["relu"], ["nowhere"]),
        "end_nodes": mostly([], ["dense"], ["nowhere"]),
        "script": mostly("", "quantization_param(conv1, precision_mode=a8_w4)", "quantization_param(conv9, bits=4)"),
        "metric": mostly("", "top-1", "iou"),
    }
)
OF_THE_COMMAND_ALONE = ("model scripts", "metrics")
"""A build has other places for these: it fails before its rows are made."""
SETS = {
    "bytes": tiny.images(12),
    "scaled": (tiny.images(12) / 255).astype(np.float32),
    "floats": tiny.images(12).astype(np.float32),
    "large": tiny.images(12, size=24),
    "first": tiny.images(12).transpose(0, 3, 1, 2),
}


def built(spec: BuildSpec, folder: Path, toolchain: Toolchain) -> JoinCheck | HefJoinError:
    """Go the way of a build up to the join; return what `check` gave, or what ended it."""
    place = Workplace(open_store(str(folder / "store")), folder / "work", toolchain)
    try:
        preflight(spec)
        fetched = fetch(spec, place.put, folder / "cache")
        networks = {
            model.name: perform(Parse.of(spec, model, fetched.models[model.name], toolchain.sdk), place).value
            for model in spec.models
        }
        require_sound(spec, networks, toolchain.sdk.provider)
        checked = perform(Check.of(spec, networks, fetched), place).value
        perform(Join.of(spec, networks, checked, toolchain.sdk), place)
    except HefJoinError as error:
        return error
    return checked


@settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(file=FILES, right=RIGHTS, frames=mostly(*SETS), count=mostly(8, 12, 50))
def test_what_passes_is_joined_and_what_fails_is_not(
    file: File, right: dict[str, Any], frames: str, count: int
) -> None:
    toolchain = resolve("emulator")
    with TemporaryDirectory() as name:
        folder = Path(name)
        tiny.write_model(folder / "left.onnx", 0, 4)
        file.write(folder / "right.onnx")
        np.save(folder / "images.npy", SETS[frames])
        left = {"name": "left", "source": "left.onnx", "mean": [120.0, 115.0, 105.0], "std": [120.0, 115.0, 105.0]}
        raw = tiny.pair(models=[left, right], calibration={"source": "images.npy", "count": count})
        (folder / "spec.yaml").write_text(yaml.safe_dump(raw))
        try:
            spec = read_spec(folder / "spec.yaml")
        except HefJoinError:  # no spec at all, for either
            return
        found = examine(spec, toolchain, folder / "cache")
        end = built(spec, folder, toolchain)
        failing = [(row.what, row.remedy) for row in found.rows if row.verdict == "fails"]
        assert bool(failing) == isinstance(end, HefJoinError), f"check: {failing}; the build: {end}"
        if isinstance(end, JoinCheck):
            assert end.comparisons == tuple(row for row in found.rows if row.what not in OF_THE_COMMAND_ALONE)
