"""The main job with the Dataflow Compiler as provider: a stand-in in an environment of its own, as a wheel would be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.errors import JoinError
from hefjoin.formats import hef as hef_file
from hefjoin.manifest import Manifest
from hefjoin.sdk.toolchain import DFC_PYTHON, Choice
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import CLASSES, pair, write_pair

VERSION = "3.33.0"
STORE = "store"


def build(folder: Path, sdk: Choice = "auto") -> Build:
    found: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / STORE), sdk=sdk)
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return interpreter(tmp_path_factory.mktemp("dfc") / "venv", VERSION)


@pytest.fixture(scope="module")
def folder(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder, pair(quantization={"optimization_level": 2}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        patch.setenv(DFC_PYTHON, str(python))
        yield folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Build:
    return build(folder)


def test_the_configured_dfc_is_what_auto_means(first: Build) -> None:
    manifest = first.manifest
    assert (manifest.sdk.provider, manifest.sdk.version) == ("dfc", VERSION)
    assert not manifest.compiled.is_emulated
    assert manifest.compiled.sdk_version == VERSION
    assert (manifest.compiled.contexts, manifest.compiled.contexts_source) == (1, "hef")


def test_nothing_is_said_to_be_measured_without_a_device(first: Build) -> None:
    assert first.manifest.measured.source == "not measured"
    assert first.manifest.measured.batches == ()


def test_the_joined_network_is_proved_and_judged_per_model(first: Build) -> None:
    manifest = first.manifest
    assert manifest.joined.input_layer == "left/input_layer1"
    assert list(manifest.joined.model_of_output.values()) == list(CLASSES)
    assert {row.layer for row in manifest.joined.equality} == set(manifest.joined.output_layers)
    assert [accuracy.model for accuracy in manifest.quantized.accuracy] == list(CLASSES)
    assert {noise.layer for noise in manifest.quantized.layer_noise} >= set(manifest.joined.output_layers)


def test_the_level_that_fell_without_a_gpu_is_told(first: Build) -> None:
    assert (first.manifest.quantized.requested_level, first.manifest.quantized.effective_level) == (2, 0)
    assert any("no available GPU" in warning for warning in first.manifest.quantized.warnings)


def test_the_hef_is_published_under_the_dfcs_names(first: Build, folder: Path, tmp_path: Path) -> None:
    published, store = first.published, open_store(str(folder / STORE))
    assert published.record == "names/dfc/tiny/000001"
    assert published.hef_name == "tiny.hef"
    hef = hef_file.read(store.get(published.hef, tmp_path / "tiny.hef"), verify=True)
    assert not hef.is_emulated
    assert hef.hw_arch == "HAILO8"
    (group,) = hef.groups
    assert [stream.name for stream in group.outputs] == list(first.manifest.joined.output_layers)
    path = store.get(published.manifest, tmp_path / "manifest.json")
    assert Manifest.model_validate_json(path.read_text(encoding="utf-8")) == first.manifest


def test_a_second_build_without_a_device_again_is_the_first(first: Build, folder: Path) -> None:
    assert build(folder) == first


def test_nothing_is_left_in_the_work_folder(first: Build, folder: Path) -> None:
    del first
    assert [path for path in (folder / "work").rglob("*") if path.is_file()] == []


def test_the_emulator_builds_beside_it_under_its_own_name(first: Build, folder: Path) -> None:
    del first
    emulated = build(folder, sdk="emulator")
    assert emulated.published.record == "names/emulator/tiny/000001"
    assert not any(run.is_reused for run in emulated.manifest.stages if run.stage in ("parse", "join", "compile"))


def test_a_join_that_shares_nothing_stops_the_build(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path)
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
    monkeypatch.setenv(DFC_PYTHON, str(python))
    monkeypatch.setenv("FAKE_DFC", json.dumps({"keeps_both_inputs": True}))
    with pytest.raises(JoinError, match=r"2 inputs \(left/input_layer1, right/input_layer1\)"):
        build(tmp_path)
    assert open_store(str(tmp_path / STORE)).list_records("builds") == []


def test_a_single_context_that_is_found_at_the_second_attempt(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path, pair(compile={"single_context": True, "attempts": ["performance_param(fps=30)"]}))
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
    monkeypatch.setenv(DFC_PYTHON, str(python))
    monkeypatch.setenv("FAKE_DFC", json.dumps({"fits_when": {"fps": 30}}))
    compiled = build(tmp_path).manifest.compiled
    assert compiled.contexts == 1
    assert len(compiled.attempts) == 2
