"""A model that keeps weights in files beside it goes through `fetch` and `parse` with them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from hefjoin.artifacts import file_sha256
from hefjoin.emulator import ClientRunner, InferenceContext
from hefjoin.errors import SpecError
from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched, Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.stages.contract import Workplace
from hefjoin.stages.fetch import fetch
from hefjoin.stages.parse import Parse
from hefjoin.stores.local import LocalStore
from tests.tiny import CLASSES, classifier, pair, write_pair

SDK = Sdk(provider="emulator", version="1")


def save_outside(folder: Path, name: str, seed: int = 0) -> None:
    (folder / "parts").mkdir(exist_ok=True)
    (folder / "parts" / f"{name}.data").unlink(missing_ok=True)
    onnx.save(
        classifier(seed, CLASSES[name]),
        folder / f"{name}.onnx",
        save_as_external_data=True,
        location=f"parts/{name}.data",
        size_threshold=0,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair whose first model has its weights in parts/left.data."""
    write_pair(tmp_path)
    save_outside(tmp_path, "left")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fetched(folder: Path, spec: BuildSpec) -> Fetched:
    return fetch(spec, LocalStore(folder / "store").put, folder / "cache")


def parses(spec: BuildSpec, found: Fetched) -> dict[str, Parse]:
    return {
        model.name: Parse.of(spec, model, found.models[model.name], SDK, found.weights.get(model.name))
        for model in spec.models
    }


def parsed(stage: Parse, folder: Path) -> Network:
    place = Workplace(
        store=LocalStore(folder / "store"), root=folder, toolchain=Toolchain(sdk=SDK, python=sys.executable)
    )
    work = folder / f"work-{stage.key[:8]}"
    work.mkdir()
    return stage.run(work, place)


def outputs(network: Network, folder: Path, frames: Any) -> Any:
    runner = ClientRunner(har=LocalStore(folder / "store").get(network.har, folder / "got.har"))
    with runner.infer_context(InferenceContext.SDK_NATIVE) as context:
        return runner.infer(context, frames)


def test_both_files_lie_in_the_store_and_reach_the_step(folder: Path) -> None:
    spec = validate_spec(pair())
    found = fetched(folder, spec)
    assert found.weights.keys() == {"left"}
    assert found.weights["left"]["parts/left.data"].sha256 == file_sha256(folder / "parts" / "left.data")
    stage = parses(spec, found)["left"]
    frames = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "left.onnx", providers=["CPUExecutionProvider"])
    (exact,) = session.run(None, {"image": frames.transpose(0, 3, 1, 2)})
    shutil.rmtree(folder / "parts")
    np.testing.assert_array_equal(outputs(parsed(stage, folder), folder, frames), exact)


def test_other_weights_under_an_equal_model_are_parsed_anew(folder: Path) -> None:
    spec = validate_spec(pair())
    before = fetched(folder, spec)
    save_outside(folder, "left", seed=9)
    after = fetched(folder, spec)
    assert before.models == after.models
    first, second = parses(spec, before), parses(spec, after)
    assert first["left"].key != second["left"].key
    assert first["right"].key == second["right"].key


def test_a_model_with_its_own_preprocessing_keeps_its_weights(folder: Path) -> None:
    raw = pair()
    raw["models"][0] |= {"mean": [1.0, 2.0, 3.0]}
    spec = validate_spec(raw)
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    outside = outputs(parsed(parses(spec, fetched(folder, spec))["left"], folder), folder, frames)
    onnx.save(classifier(0, CLASSES["left"]), folder / "left.onnx")
    inside = fetched(folder, spec)
    assert not inside.weights
    np.testing.assert_array_equal(outside, outputs(parsed(parses(spec, inside)["left"], folder), folder, frames))


def test_weights_that_are_not_whole_are_told_for_all_models_at_once(folder: Path) -> None:
    save_outside(folder, "right")
    (folder / "parts" / "left.data").unlink()
    with (folder / "parts" / "right.data").open("r+b") as stream:
        stream.truncate(10)
    with pytest.raises(SpecError) as caught:
        fetched(folder, validate_spec(pair()))
    (first, missing), (second, short) = caught.value.problems
    assert (first, second) == ("models[0].source", "models[1].source")
    assert "parts/left.data: tensor 'w' takes 864 bytes from byte 0 on, no such file is there" in missing
    assert "parts/right.data: tensor 'w' takes 864 bytes from byte 0 on, 10 are there" in short
    assert not (folder / "store" / "objects").exists()


def test_a_name_that_leads_out_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "left.onnx", load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    (folder / "left.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match=r"lies in '\.\./secret', which is no file below the model's folder"):
        fetched(folder, validate_spec(pair()))
