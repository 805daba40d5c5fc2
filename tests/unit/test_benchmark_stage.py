"""The benchmark stage: accuracy on the device, what is judged and what is not, and a device that was not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin.artifacts import Ref
from hefjoin.calibration import Health
from hefjoin.devices.hailort import HailoRtDevice
from hefjoin.errors import DeviceError
from hefjoin.results.checked import Frames
from hefjoin.results.measured import Measured
from hefjoin.results.sources import Sdk
from hefjoin.sdk.log import Progress
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.accuracy import snr_db
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stores import open_store
from tests import runtime
from tests.tiny import images

LAYERS = ("left/fc1", "right/conv9")
SWITCHES = {"frame_ms": 0.2, "queue": 8}
COUNT = 12
HEALTH = Health(
    requested=COUNT, count=COUNT, dtype="uint8", min=0, max=255, mean=(1.0,), std=(1.0,), duplicates=0, blanks=0,
    looks_normalised=False, notes=(),
)  # fmt: skip


@pytest.fixture
def patch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with runtime.installed(tmp_path, **SWITCHES) as patch:
        yield patch


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    toolchain = Toolchain(sdk=Sdk(provider="dfc", version="3.33.0"), python=sys.executable)
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=toolchain)


@pytest.fixture
def hef(tmp_path: Path) -> Path:
    return runtime.write_dfc_hef(tmp_path / "pair.hef")


@pytest.fixture
def given(patch: pytest.MonkeyPatch, hef: Path, tmp_path: Path) -> dict[str, Any]:
    """What the device gives for the evaluation frames."""
    np.save(tmp_path / "frames.npy", images(COUNT))
    return HailoRtDevice().outputs(hef, tmp_path / "frames.npy")


def put_outputs(place: Workplace, folder: Path, **arrays: Any) -> Ref:
    np.savez(folder / "outputs.npz", allow_pickle=False, **arrays)
    return place.store.put(folder / "outputs.npz", "npz")


@pytest.fixture
def stage(place: Workplace, given: dict[str, Any], hef: Path, tmp_path: Path) -> Benchmark:
    """The stage for float outputs that the device gives exactly."""
    exact = {f"float_{index}": given[layer] for index, layer in enumerate(LAYERS)}
    return Benchmark(
        name="pair",
        hef=place.store.put(hef, "hef"),
        is_emulated=False,
        evaluation=Frames(npy=place.store.put(tmp_path / "frames.npy", "npy"), health=HEALTH),
        outputs=put_outputs(place, tmp_path, **exact),
        output_layers=LAYERS,
        batch_sizes=(1, 2),
        seconds=0.05,
        device="auto",
        host="here",
    )


def measured(stage: Benchmark, place: Workplace) -> Measured:
    return perform(stage, place).value


class TestAccuracy:
    def test_it_is_the_devices_outputs_against_the_float_networks(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], tmp_path: Path
    ) -> None:
        noisy = given["left/fc1"] + np.random.default_rng(0).normal(0, 5, (COUNT, 4)).astype(np.float32)
        outputs = put_outputs(place, tmp_path, float_0=noisy, float_1=given["right/conv9"])
        left, right = measured(stage.model_copy(update={"outputs": outputs}), place).accuracy
        assert (left.model, right.model, left.frames) == ("left", "right", COUNT)
        assert left.outputs[0].snr_db == pytest.approx(snr_db(noisy, given["left/fc1"]))
        assert left.outputs[0].agreement == np.mean(noisy.argmax(1) == given["left/fc1"].argmax(1))
        assert right.outputs[0].snr_db == 120.0

    def test_what_it_gave_is_kept_to_be_scored(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], tmp_path: Path
    ) -> None:
        outputs = put_outputs(place, tmp_path, float_0=given["left/fc1"][:, :3], float_1=given["right/conv9"])
        kept = measured(stage.model_copy(update={"outputs": outputs}), place).outputs
        assert kept is not None
        with np.load(place.store.get(kept, tmp_path / "device.npz")) as arrays:
            assert list(arrays) == ["device_1"]
            np.testing.assert_array_equal(arrays["device_1"], given["right/conv9"])

    def test_values_that_are_not_finite_are_noted(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = {**given, "left/fc1": np.full_like(given["left/fc1"], np.nan)}
        monkeypatch.setattr(HailoRtDevice, "outputs", lambda *_: broken)
        found = measured(stage, place)
        assert [accuracy.model for accuracy in found.accuracy] == ["right"]
        assert "accuracy of left/fc1: not available (the device gave values that are not finite)" in found.notes

    def test_an_output_of_one_row_and_column_is_compared_as_the_float_network_has_it(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], tmp_path: Path
    ) -> None:
        scores = given["left/fc1"].reshape(COUNT, 1, 1, 4)
        outputs = put_outputs(place, tmp_path, float_0=scores, float_1=given["right/conv9"])
        assert measured(stage.model_copy(update={"outputs": outputs}), place).accuracy[0].outputs[0].snr_db == 120.0

    def test_what_the_device_does_not_give_is_noted_and_its_model_not_judged(
        self, stage: Benchmark, place: Workplace
    ) -> None:
        found = measured(stage.model_copy(update={"output_layers": ("left/fc2", "right/conv9")}), place)
        assert [accuracy.model for accuracy in found.accuracy] == ["right"]
        assert "accuracy of left/fc2: not available (the device gave left/fc1, right/conv9)" in found.notes

    def test_an_output_of_another_size_is_noted_with_both_shapes(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], tmp_path: Path
    ) -> None:
        outputs = put_outputs(place, tmp_path, float_0=given["left/fc1"][:, :3], float_1=given["right/conv9"])
        found = measured(stage.model_copy(update={"outputs": outputs}), place)
        assert "accuracy of left/fc1: not available (shape (12, 4), the float network's (12, 3))" in found.notes

    def test_outputs_that_the_quantize_stage_did_not_judge_are_left_out(
        self, stage: Benchmark, place: Workplace, given: dict[str, Any], tmp_path: Path
    ) -> None:
        outputs = put_outputs(place, tmp_path, float_1=given["right/conv9"])
        found = measured(stage.model_copy(update={"outputs": outputs}), place)
        assert [accuracy.model for accuracy in found.accuracy] == ["right"]
        assert not [note for note in found.notes if "accuracy" in note]


class TestNoDevice:
    @pytest.fixture
    def unplugged(self, stage: Benchmark, patch: pytest.MonkeyPatch, tmp_path: Path) -> Benchmark:
        runtime.switch(patch, tmp_path, devices=[])
        return stage

    def test_a_missing_one_leaves_the_build_unmeasured_and_says_why(
        self, unplugged: Benchmark, place: Workplace
    ) -> None:
        found = measured(unplugged, place)
        assert (found.source, found.batches, found.accuracy) == ("not measured", (), ())
        assert "lists no Hailo device" in found.device

    def test_that_is_not_reused_and_the_measurement_after_it_is(
        self, unplugged: Benchmark, place: Workplace, patch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert [perform(unplugged, place).run.is_reused for _ in range(2)] == [False, False]
        runtime.switch(patch, tmp_path, **SWITCHES)
        plugged = perform(unplugged, place)
        assert (plugged.value.source, plugged.run.is_reused) == ("device", False)
        assert perform(unplugged, place).run.is_reused

    def test_one_that_was_asked_for_is_an_error(self, unplugged: Benchmark, place: Workplace) -> None:
        with pytest.raises(DeviceError, match="lists no Hailo device"):
            measured(unplugged.model_copy(update={"device": "hailort"}), place)

    @pytest.mark.parametrize("switches", [{"busy": True}, {"architecture": "HAILO15H"}, {"permission": False}])
    def test_one_that_is_there_and_does_not_serve_is_an_error(
        self, stage: Benchmark, place: Workplace, patch: pytest.MonkeyPatch, tmp_path: Path, switches: dict[str, Any]
    ) -> None:
        runtime.switch(patch, tmp_path, **switches)
        with pytest.raises(DeviceError):
            measured(stage, place)


def test_progress_counts_the_rounds(stage: Benchmark, place: Workplace, tmp_path: Path) -> None:
    seen: list[Progress] = []
    watched = Workplace(store=place.store, root=place.root, toolchain=place.toolchain, on_progress=seen.append)
    measured(stage, watched)
    assert seen == [Progress("Benchmark", done, 6) for done in range(1, 7)]


def test_a_figure_of_another_host_is_not_reused(stage: Benchmark) -> None:
    assert stage.key != stage.model_copy(update={"host": "there"}).key
