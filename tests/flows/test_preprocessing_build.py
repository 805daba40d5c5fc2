"""A build of two models that want to see the image differently: each sees what it wants, from one raw input.

On both providers: what is put into the models' graphs is in the operators that each of them takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.spec_file import read_spec
from hefjoin.stages.join import TOLERANCE
from hefjoin.stores import open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import images, pair, write_pair

pytestmark = pytest.mark.long

WANTED: list[dict[str, Any]] = [
    {"mean": [104.0, 117.0, 123.0], "std": [], "color": "bgr"},
    {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    raw = pair()
    for model, wanted in zip(raw["models"], WANTED, strict=True):
        model |= wanted
    write_pair(folder, raw)
    return folder


@pytest.fixture(scope="module", params=["emulator", "dfc"])
def built(folder: Path, request: pytest.FixtureRequest) -> Build:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        if request.param == "dfc":
            patch.setenv(DFC_PYTHON, str(interpreter(folder / "venv")))
        found: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"), sdk=request.param)
    return found


def test_the_shared_input_is_raw_and_the_join_is_proved_on_it(built: Build) -> None:
    manifest = built.manifest
    assert (manifest.check.mean, manifest.check.std, manifest.check.color) == ((), (), "rgb")
    assert [row.max_abs_difference <= TOLERANCE * row.largest_value for row in manifest.joined.equality] == [True] * 2
    assert "normalization" not in manifest.quantized.script
    handled = {row.what: dict(row.values) for row in manifest.check.comparisons if row.verdict == "handled"}
    assert handled["color"] == {"left": "bgr", "right": "rgb"}
    assert handled["mean and std"]["left"] == "mean [104, 117, 123], std 1"


def test_the_float_outputs_are_those_of_frames_prepared_on_the_host(built: Build, folder: Path, tmp_path: Path) -> None:
    store = open_store(str(folder / "store"))
    outputs = np.load(store.get(built.manifest.quantized.outputs, tmp_path / "outputs.npz"))
    frames = images(32)[16:].astype(np.float32)
    for index, (wanted, name) in enumerate(zip(WANTED, ("left", "right"), strict=True)):
        seen = frames[..., ::-1] if wanted.get("color") == "bgr" else frames
        seen = (seen - np.float32(wanted["mean"])) / np.float32(wanted["std"] or 1)
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        exact = np.concatenate([session.run(None, {"image": one[None].transpose(0, 3, 1, 2)})[0] for one in seen])
        got = outputs[f"float_{index}"]
        assert np.abs(got - exact).max() <= TOLERANCE * np.abs(exact).max()
