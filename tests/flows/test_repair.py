"""Repair and couplings: what is raised, what it brings, what is told, what is never done twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.build import join_and_compile
from hefjoin.builds.find import Build
from hefjoin.emulator import ClientRunner, InferenceContext
from hefjoin.formats import hef as hef_file
from hefjoin.results.quantized import Coupled, Quantized, Repair, Repaired, RepairRound
from hefjoin.sdk.toolchain import DFC_PYTHON, resolve
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.spec_file import read_spec
from hefjoin.stages.candidates import Candidates
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.couple import Couple
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.repair import RepairStage
from hefjoin.stores import open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import pair, write_pair

pytestmark = pytest.mark.long

FOUR_BITS = {"precision": "a8_w4"}


def build(folder: Path, sdk: Any, floor_db: float) -> Build:
    spec = pair(gates={"min_snr_db": floor_db}, quantization=FOUR_BITS)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    found: Build = join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"), sdk=sdk)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("repair")
    write_pair(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        yield folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Build:
    return build(folder, "emulator", 12.0)


@pytest.fixture
def place(folder: Path) -> Workplace:
    return Workplace(store=open_store(str(folder / "store")), root=folder / "work", toolchain=resolve("emulator"))


def spec_with(**changes: Any) -> BuildSpec:
    return validate_spec(pair(**{"quantization": FOUR_BITS, **changes}))


def quantized_by(spec: BuildSpec, first: Build, place: Workplace) -> Quantized:
    made = first.manifest
    return perform(Quantize.of(spec, made.check, made.joined, place), place).value


def repaired(first: Build, place: Workplace, floor_db: float, budget: int = 8, script: str = "") -> Repair:
    spec = spec_with(gates={"min_snr_db": floor_db}, quantization={**FOUR_BITS, "repair_layers": budget}, script=script)
    made, found = first.manifest, quantized_by(spec, first, place)
    return perform(RepairStage.of(spec, made.check, made.joined, found, place), place).value.repair


def with_snr(quantized: Quantized, snr_db: dict[str, float]) -> Quantized:
    """Return a network as if its outputs had been measured otherwise."""
    accuracy = tuple(
        each.model_copy(
            update={"outputs": tuple(o.model_copy(update={"snr_db": snr_db[o.layer]}) for o in each.outputs)}
        )
        for each in quantized.accuracy
    )
    return quantized.model_copy(update={"accuracy": accuracy})


class TestBuild:
    def test_layers_are_raised_until_every_output_reaches_the_floor(self, first: Build) -> None:
        manifest, repair = first.manifest, first.manifest.repair
        assert repair is not None
        assert min(repair.snr_db.values()) < 12.0 <= min(repair.reached_db.values())
        assert (repair.missed, repair.ending) == ((), "every output reaches 12 dB")
        assert repair.raised
        assert all(layer.startswith("right/") for layer in repair.raised)
        assert repair.reached_fit.parameters > repair.fit.parameters
        assert repair.reached_db == manifest.quantized.snr_by_output
        lines = [f"quantization_param({layer}, precision_mode=a16_w16)\n" for layer in repair.raised]
        assert manifest.quantized.script.endswith("".join(lines))

    def test_the_hef_has_what_was_raised_and_the_camera_still_sends_bytes(
        self, first: Build, folder: Path, tmp_path: Path
    ) -> None:
        path = open_store(str(folder / "store")).get(first.manifest.compiled.hef, tmp_path / "hef")
        (group,) = hef_file.read(path).groups
        raised = first.manifest.quantized.raised
        assert [stream.dtype for stream in group.inputs] == ["UINT8"]
        assert {stream.name: stream.dtype for stream in group.outputs} == {
            layer: "UINT16" if layer in raised else "UINT8" for layer in first.manifest.joined.output_layers
        }

    def test_the_next_build_repeats_nothing(self, first: Build, folder: Path) -> None:
        assert build(folder, "emulator", 12.0) == first


class TestLimits:
    def test_a_floor_out_of_reach_takes_the_budget_or_says_what_is_in_the_way(
        self, first: Build, place: Workplace
    ) -> None:
        repair = repaired(first, place, 99.0, budget=3)
        assert len(repair.raised) <= 3
        assert repair.missed
        assert "used up" in repair.ending or "no matter of bits" in repair.ending
        assert any(held.layer == "right/avgpool1" and "avgpool" in held.reason for held in repair.held)

    def test_rounds_that_another_build_did_are_not_done_again(self, first: Build, place: Workplace) -> None:
        before, after = (repaired(first, place, floor_db, budget=3) for floor_db in (99.0, 98.5))
        assert before.raised == after.raised
        assert all(each.is_reused for each in after.rounds)

    @pytest.mark.parametrize(("left_db", "goes_on"), [(39.0, True), (37.0, False)])
    def test_a_round_that_brought_one_output_something_is_not_the_last(
        self, first: Build, place: Workplace, left_db: float, goes_on: bool
    ) -> None:
        """Though the other one still misses the floor, and got nothing: none of its layers was raised."""
        spec = spec_with(gates={"min_snr_db": 38.0})
        made, found = first.manifest, quantized_by(spec, first, place)
        before = found.snr_by_output | {"left/fc1": 37.0}
        stage = RepairStage.of(spec, made.check, made.joined, with_snr(found, before), place)
        after = before | {"left/fc1": left_db}
        done = RepairRound(
            raised=("left/fc1",), expected_db=dict.fromkeys(before, 40.0), snr_db=after, fit=stage.candidates.fit(())
        )
        ending = stage._ending(with_snr(found, after), [done])
        assert (ending == "") is goes_on

    def test_without_a_budget_nothing_is_raised(self, first: Build, place: Workplace) -> None:
        repair = repaired(first, place, 12.0, budget=0)
        assert (repair.rounds, repair.ending) == ((), "quantization.repair_layers is 0")

    def test_a_layer_whose_precision_a_script_says_is_left(self, first: Build, place: Workplace) -> None:
        lines = [f"quantization_param({layers}, precision_mode=a8_w4)" for layers in ("right/fc1", "{conv*}")]
        repair = repaired(first, place, 99.0, script="\n".join(lines))
        assert repair.raised == ("left/fc1",)
        assert ("right/fc1", "a script of the spec says its precision") in {(h.layer, h.reason) for h in repair.held}

    def test_the_single_context_is_not_given_up(self, first: Build) -> None:
        made = first.manifest
        candidates = Candidates.of(made.spec, made.check, made.joined)
        heavy = tuple(
            layer.model_copy(update={"parameters": 10_000_000}) if layer.name.endswith("conv1") else layer
            for layer in candidates.layers
        )
        full = candidates.model_copy(update={"layers": heavy})
        assert "no longer fit one context: 115% of the weight memory" in full.why_not("left/conv1", ())
        assert full.why_not("left/fc1", ()) == ""
        assert full.model_copy(update={"single_context": False}).why_not("left/conv1", ()) == ""

    def test_the_lines_that_mend_are_told_for_each_model(self, first: Build) -> None:
        made = first.manifest
        assert {mend.output for mend in made.mends} == set(made.joined.output_layers)
        for mend in made.mends:
            kernel = mend.layer.rpartition("/")[2] in ("conv1", "fc1") and mend.layer not in made.quantized.raised
            assert mend.line == (f"quantization_param({mend.layer}, precision_mode=a16_w16)" if kernel else "")
            assert bool(mend.reason) != kernel


class TestDfc:
    def test_the_same_rounds_run_with_the_vendors_calls(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DFC_PYTHON, str(interpreter(tmp_path / "dfc")))
        manifest = build(folder, "dfc", 37.5).manifest
        repair = manifest.repair
        assert repair is not None
        assert "left/fc1" in repair.raised
        assert repair.reached_db["left/fc1"] > 37.5 > repair.snr_db["left/fc1"]
        assert all(each.own_snr_db is None for each in manifest.quantized.layer_noise)
        assert "quantization_param(left/fc1, precision_mode=a16_w16)" in manifest.quantized.script
        assert not manifest.compiled.is_emulated
        assert build(folder, "dfc", 37.5).manifest == manifest


def coupled(spec: BuildSpec, first: Build, place: Workplace) -> tuple[list[str], Coupled]:
    """Return what changes numbers, in words, and each model alone."""
    made, found = first.manifest, quantized_by(spec, first, place)
    unrepaired = Repaired(quantized=found, repair=None, mends=())
    coupled = perform(Couple.of(spec, made.models, made.check, made.joined, unrepaired, place), place).value
    return [tie.text for tie in coupled.couplings if tie.changes_numbers], coupled


class TestCouplings:
    def test_where_nothing_couples_nothing_is_run(self, first: Build) -> None:
        assert first.manifest.coupled.alone_db == {}
        texts = [each.text for each in first.manifest.coupled.couplings if not each.changes_numbers]
        assert len(texts) == len(first.manifest.coupled.couplings) == 2
        assert "the same 16 frames" in texts[0]
        assert "left got 0" in texts[1]

    def test_compression_over_all_weights_is_set_against_each_model_alone(
        self, first: Build, folder: Path, place: Workplace
    ) -> None:
        command = "model_optimization_flavor(compression_level=3)"
        texts, found = coupled(spec_with(quantization={}, script=command), first, place)
        assert texts == [
            f"`{command}` in the joint script chooses the layers that lose or gain bits over the weights of all models"
        ]
        assert not all(found.alone_bits_equal.values())
        assert found.alone_db["right/fc1"] == pytest.approx(alone_by_hand(folder / "right.onnx", command), abs=1e-6)

    def test_a_level_that_changes_nothing_is_shown_to_change_nothing(self, first: Build, place: Workplace) -> None:
        texts, found = coupled(spec_with(quantization={"optimization_level": 1}), first, place)
        assert len(texts) == 1
        assert "64 frames" in texts[0]
        assert all(found.alone_bits_equal.values())


def alone_by_hand(path: Path, command: str) -> float:
    """Return the SNR of a model quantized by the emulator's own calls, with the script a person would write for it."""
    images = np.load(path.with_name("images.npy"))
    runner = ClientRunner()
    runner.translate_onnx_model(str(path), "net")
    lines = (
        "n = normalization([120.0, 115.0, 105.0], [60.0, 58.0, 57.0])",
        "model_optimization_config(calibration, calibset_size=16)",
        command,
    )
    runner.load_model_script("\n".join(lines))
    runner.optimize(images[:16])
    found = []
    for how in (InferenceContext.SDK_FP_OPTIMIZED, InferenceContext.SDK_QUANTIZED):
        with runner.infer_context(how) as context:
            found.append(np.asarray(runner.infer(context, images[16:32]), np.float64))
    exact, rough = found
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - rough) ** 2)))
