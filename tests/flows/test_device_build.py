"""The main job on a machine with the compiler and the chip: strict stand-ins for both, from ONNX files to figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.report import score_rows
from hefjoin.sdk.toolchain import DFC_PYTHON
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tests import runtime
from tests.fakes.dfc_environment import interpreter
from tests.tiny import CLASSES, images, pair, write_pair

FRAMES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("device")
    write_pair(folder, pair(gates={"min_fps": 1}, evaluation={"source": "eval.npz", "count": FRAMES}))
    labels = np.random.default_rng(2).integers(0, CLASSES["left"], FRAMES)
    np.savez(folder / "eval.npz", images=images(FRAMES, seed=3), left=labels)
    (folder / "here").mkdir()
    with runtime.installed(folder, frame_ms=1.0) as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        patch.setenv(DFC_PYTHON, str(interpreter(folder / "venv")))
        patch.delenv("HAILORT_LOGGER_PATH")
        patch.chdir(folder / "here")
        yield folder


@pytest.fixture(scope="module")
def built(folder: Path) -> Build:
    found: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"))
    return found


def test_the_figures_are_those_of_a_device(built: Build) -> None:
    measured = built.manifest.measured
    assert measured.source == "device"
    assert [batch.batch_size for batch in measured.batches] == [1, 2]
    assert measured.versions["HailoRT"] == "4.23.0"


def test_a_gate_on_throughput_is_evaluated(built: Build) -> None:
    assert [gate.verdict for gate in built.manifest.gates] == ["passed"]


def test_a_labelled_model_is_scored_at_four_stages(built: Build, folder: Path) -> None:
    (left,) = built.manifest.scored.models
    assert [score.stage for score in left.stages] == ["native", "fp-optimized", "quantized", "device"]
    store, outputs = open_store(str(folder / "store")), built.manifest.measured.outputs
    assert outputs is not None
    with np.load(store.get(outputs, folder / "device.npz")) as given, np.load(folder / "eval.npz") as true:
        assert left.stages[3].value == np.mean(given["device_0"].reshape(FRAMES, -1).argmax(1) == true["left"])
    row = next(row for row in score_rows(built.manifest) if row.stage == "device")
    assert row.value.endswith("(device)")


def test_each_model_is_judged_on_what_the_device_gave(built: Build) -> None:
    on_device, quantized = built.manifest.measured.accuracy, built.manifest.quantized.accuracy
    assert [accuracy.model for accuracy in on_device] == list(CLASSES)
    assert [accuracy.frames for accuracy in on_device] == [accuracy.frames for accuracy in quantized]
    assert {output.layer for accuracy in on_device for output in accuracy.outputs} == set(
        built.manifest.joined.output_layers
    )


def test_nothing_falls_into_the_working_directory(built: Build, folder: Path) -> None:
    assert list((folder / "here").iterdir()) == []


def test_the_measurement_is_reused_as_everything_else_is(built: Build, folder: Path) -> None:
    again: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"))
    assert again.manifest.build_id == built.manifest.build_id


def test_a_build_that_became_slower_is_not_promoted_where_the_spec_says_how_much_it_may_lose(
    built: Build, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chip slows down; the benchmark is done anew because it shall take another time, the rest is reused."""
    spec = read_spec(folder / "tiny.yaml")
    benchmark = spec.benchmark.model_copy(update={"seconds": spec.benchmark.seconds + 0.1})
    gates = spec.gates.model_copy(update={"max_regression_percent": 20})
    runtime.switch(monkeypatch, folder, frame_ms=20.0)
    slower: Build = join_and_compile(
        spec.model_copy(update={"benchmark": benchmark, "gates": gates}), store=str(folder / "store")
    )
    regression = slower.manifest.gates[-1]
    assert regression.verdict == "failed"
    assert f"slower than {built.manifest.build_id}" in regression.found
    assert slower.published.record == ""
