"""Gates, numbered names, and what a gate that failed does not do."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hefjoin.builds.rows import latest
from hefjoin.manifest import Gate, Manifest
from hefjoin.results.checked import Frames
from hefjoin.results.measured import Measured
from hefjoin.results.quantized import ModelAccuracy, OutputAccuracy, Quantized
from hefjoin.results.sources import Sdk
from hefjoin.scores import ModelScores, Scored, StageScore
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import GatesSpec
from hefjoin.stages.contract import Workplace
from hefjoin.stages.gates import judge
from hefjoin.stages.publish import publish
from hefjoin.stores import open_store
from tests.builds import difference, make_manifest, write_arrays
from tests.kept import object_path


def accuracy(model: str = "left", snr: float = 30.0, agreement: float = 0.98) -> ModelAccuracy:
    good = OutputAccuracy(layer=f"{model}/a", snr_db=60.0, metric="top-1", agreement=1.0)
    worst = OutputAccuracy(layer=f"{model}/b", snr_db=snr, metric="top-1", agreement=agreement)
    return ModelAccuracy(model=model, frames=50, outputs=(good, worst))


def measured(source: Any, fps: float = 100.0) -> Measured:
    first = make_manifest().measured.batches[0].model_copy(update={"fps": fps})
    return make_manifest().measured.model_copy(update={"source": source, "batches": (first,)})


def quantized(*models: ModelAccuracy, unjudged: tuple[str, ...] = ()) -> Quantized:
    layers = tuple(output.layer for model in models for output in model.outputs)
    changes = {"accuracy": models, "output_layers": (*layers, *unjudged), "unjudged": unjudged}
    return make_manifest().quantized.model_copy(update=changes)


NO_LABELS = Scored(models=())


def scores(model: str, metric: str, kind: Any, exact: float, change: float, **options: Any) -> ModelScores:
    """A model whose quantized score is `exact` + `change`; on a device it lost twice as much."""
    return ModelScores(
        model=model,
        layer=f"{model}/a",
        metric=metric,
        kind=kind,
        frames=50,
        not_available={"native": "a script"},
        stages=(
            StageScore(stage="fp-optimized", value=exact, differences=()),
            *(
                StageScore(
                    stage=stage,
                    value=exact + factor * change,
                    differences=(difference("fp-optimized", factor * change, 0.1, 0.4213, 3, 5, **options),),
                )
                for stage, factor in (("quantized", 1), ("device", 2))
            ),
        ),
    )


def verdicts(gates: GatesSpec, *models: ModelAccuracy, source: str = "emulator", fps: float = 100.0) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in judge(gates, quantized(*models), measured(source, fps), NO_LABELS)}


class TestGates:
    def test_none_is_set_by_default(self) -> None:
        assert judge(GatesSpec(), quantized(accuracy()), measured("device"), NO_LABELS) == ()

    @pytest.mark.parametrize(("least", "verdict"), [(29.9, "passed"), (30.0, "passed"), (30.1, "failed")])
    def test_snr_is_that_of_each_models_worst_output(self, least: float, verdict: str) -> None:
        found = verdicts(GatesSpec(min_snr_db=least), accuracy(), accuracy("right", snr=50))
        assert found == {"SNR of left": verdict, "SNR of right": "passed"}

    @pytest.mark.parametrize(("most", "verdict"), [(2.5, "passed"), (1.5, "failed"), (0, "failed")])
    def test_accuracy_drop_without_labels_is_the_disagreement(self, most: float, verdict: str) -> None:
        found = verdicts(GatesSpec(max_accuracy_drop=most), accuracy(agreement=0.98))
        assert found == {"disagreement (top-1) of left": verdict}

    def test_a_model_whose_outputs_became_boxes_is_not_evaluated(self) -> None:
        build = quantized(accuracy(), unjudged=("right/yolov8_nms_postprocess",))
        gates = judge(GatesSpec(min_snr_db=20, max_accuracy_drop=5), build, measured("device"), NO_LABELS)
        assert {gate.name: gate.verdict for gate in gates if "right" in gate.name} == {
            "SNR of right": "not evaluated",
            "accuracy drop of right": "not evaluated",
        }

    def test_what_the_device_gave_is_judged_beside_what_the_compiler_foresaw(self) -> None:
        on_device = measured("device").model_copy(update={"accuracy": (accuracy(snr=-5.0),)})
        gates = judge(GatesSpec(min_snr_db=20), quantized(accuracy(snr=30.0)), on_device, NO_LABELS)
        assert {gate.name: gate.verdict for gate in gates} == {
            "SNR of left": "passed",
            "SNR of left on the device": "failed",
        }

    def on_labels(self, most: float, *found: ModelScores, source: str = "emulator") -> dict[str, Gate]:
        models = [accuracy(each.model, agreement=0.5) for each in found]
        device = measured(source).model_copy(update={"accuracy": tuple(models)})
        gates = judge(GatesSpec(max_accuracy_drop=most), quantized(*models), device, Scored(models=found))
        return {gate.name: gate for gate in gates}

    def test_accuracy_drop_with_labels_is_the_loss_and_a_gain_passes(self) -> None:
        gained, lost = scores("left", "top-1", "hits", 0.9, 0.01), scores("right", "iou@0.5", "overlap", 0.9, -0.02)
        found = self.on_labels(0, gained, lost)
        assert {name: gate.verdict for name, gate in found.items()} == {
            "accuracy drop (top-1) of left": "passed",
            "accuracy drop (iou@0.5) of right": "failed",
        }
        assert found["accuracy drop (iou@0.5) of right"].wanted == "≤ 0 points"

    def test_noise_excuses_nothing_and_is_told(self) -> None:
        (gate,) = self.on_labels(1.9, scores("left", "top-1", "hits", 0.9, -0.02)).values()
        assert (gate.verdict, gate.found) == ("failed", "2.0 points, within noise, p = 0.42")

    @pytest.mark.parametrize("change", [-0.007, -0.02, -0.29])
    def test_a_drop_of_just_what_is_allowed_passes(self, change: float) -> None:
        found = self.on_labels(round(-100 * change, 1), scores("left", "top-1", "hits", 0.9, change))
        assert [gate.verdict for gate in found.values()] == ["passed"]

    @pytest.mark.parametrize(
        ("metric", "kind", "exact", "change", "found"),
        [
            ("mae", "error", 2.0, 0.1, "5.0 %, within noise, p = 0.42"),
            ("mae", "error", 2.0, -0.1, "−5.0 %, within noise, p = 0.42"),
            ("own:f", "score", -40.0, -1.0, "2.5 %, within noise, p = 0.42"),
            ("own:f", "score", 0.0, 0.0, "0.0 %, within noise, p = 0.42"),
            ("mae", "error", 0.0, 0.1, "the float network's value is zero, and nothing is a share of it"),
        ],
    )
    def test_errors_and_own_metrics_drop_in_percent_of_the_float_value(
        self, metric: str, kind: str, exact: float, change: float, found: str
    ) -> None:
        (gate,) = self.on_labels(3, scores("left", metric, kind, exact, change)).values()
        assert (gate.wanted, gate.found) == ("≤ 3 %", found)
        verdict = "not evaluated" if "zero" in found else "failed" if found.startswith("5") else "passed"
        assert gate.verdict == verdict

    def test_labels_judge_the_device_too(self) -> None:
        found = self.on_labels(3, scores("left", "top-1", "hits", 0.9, -0.02), source="device")
        assert {name: gate.verdict for name, gate in found.items()} == {
            "accuracy drop (top-1) of left": "passed",
            "accuracy drop (top-1) of left on the device": "failed",
        }

    @pytest.mark.parametrize(
        ("source", "fps", "verdict"),
        [("device", 120, "passed"), ("device", 119, "failed"), ("emulator", 1e6, "not evaluated")],
    )
    def test_throughput_counts_on_a_device_only(self, source: str, fps: float, verdict: str) -> None:
        found = verdicts(GatesSpec(min_fps=120), accuracy(), source=source, fps=fps)
        assert found == {"throughput at batch 1": verdict}

    def test_throughput_is_that_of_batch_1_wherever_it_stands(self) -> None:
        eight, one = (
            make_manifest().measured.batches[0].model_copy(update={"batch_size": size, "fps": fps})
            for size, fps in ((8, 400.0), (1, 90.0))
        )
        on_device = measured("device").model_copy(update={"batches": (eight, one)})
        (gate,) = judge(GatesSpec(min_fps=100), quantized(accuracy()), on_device, NO_LABELS)
        assert (gate.name, gate.verdict) == ("throughput at batch 1", "failed")

    def test_throughput_without_batch_1_is_not_evaluated(self) -> None:
        eight = make_manifest().measured.batches[0].model_copy(update={"batch_size": 8, "fps": 400.0})
        on_device = measured("device").model_copy(update={"batches": (eight,)})
        (gate,) = judge(GatesSpec(min_fps=100), quantized(accuracy()), on_device, NO_LABELS)
        assert gate.verdict == "not evaluated"

    def test_a_gate_says_what_was_wanted_and_found(self) -> None:
        (gate,) = judge(GatesSpec(min_snr_db=20), quantized(accuracy()), measured("emulator"), NO_LABELS)
        assert gate == Gate(name="SNR of left", wanted="≥ 20 dB", found="30.0 dB", verdict="passed")

    @pytest.mark.parametrize(
        ("gates", "missed"),
        [
            (GatesSpec(min_snr_db=32), "2.0 dB below 32"),
            (GatesSpec(min_snr_db=30.004), "0.004 dB below 30.004"),
            (GatesSpec(min_fps=500), "380.0 FPS below 500"),
        ],
    )
    def test_a_failed_gate_says_by_how_much_and_never_by_nothing(self, gates: GatesSpec, missed: str) -> None:
        on_device = measured("device", fps=120)
        failed = [gate for gate in judge(gates, quantized(accuracy()), on_device, NO_LABELS) if gate.missed]
        assert [(gate.verdict, gate.missed) for gate in failed] == [("failed", missed)]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    toolchain = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=toolchain)


@pytest.fixture
def built(place: Workplace, tmp_path: Path) -> Manifest:
    """A build whose outputs and frames are in the store."""
    manifest = make_manifest()
    outputs, frames = write_arrays(manifest, tmp_path)
    kept = Frames(npy=place.store.put(frames, "npy"), health=manifest.check.evaluation.health)
    hef = manifest.compiled.hef.model_copy(update={"media": "emulated.hef"})
    return make_manifest(
        quantized=manifest.quantized.model_copy(update={"outputs": place.store.put(outputs, "npz")}),
        check=manifest.check.model_copy(update={"evaluation": kept}),
        compiled=manifest.compiled.model_copy(update={"hef": hef}),
    )


def another(manifest: Manifest, build_id: str, **changes: Any) -> Manifest:
    return manifest.model_copy(update={"build_id": build_id, **changes})


def test_a_build_is_named_with_manifest_report_and_hef(place: Workplace, built: Manifest, tmp_path: Path) -> None:
    published = publish(built, place).published
    assert published.record == "names/emulator/resnet-pair/000001"
    assert published.hef_name == "resnet-pair.emulated.hef"
    got = place.store.get(published.manifest, tmp_path / "manifest.json")
    assert Manifest.model_validate_json(got.read_text(encoding="utf-8")) == built
    report = place.store.get(published.report, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "resnet-pair" in report
    assert latest(place.store, "emulator", "resnet-pair") == published
    assert list(place.root.iterdir()) == []


def test_the_next_build_has_the_next_number_and_is_the_latest(place: Workplace, built: Manifest) -> None:
    for number in (1, 9, 41):
        place.store.create_record(f"names/emulator/resnet-pair/{number:06d}", {})
    published = publish(built, place).published
    assert published.record == "names/emulator/resnet-pair/000042"
    assert latest(place.store, "emulator", "resnet-pair") == published


def test_a_build_stands_beside_those_that_were_measured_as_it_was(
    place: Workplace, built: Manifest, tmp_path: Path
) -> None:
    publish(built, place)
    elsewhere = built.machine.model_copy(update={"host": "builder-2"})
    publish(another(built, "elsewhere", machine=elsewhere, measured=measured("emulator", 90.0)), place)
    publish(another(built, "otherwise", measured=measured("device", 900.0)), place)
    publish(another(built, "slower", measured=measured("emulator", 33.0)), place)
    last = publish(another(built, "last", measured=measured("emulator", 44.0)), place)
    assert [(each.build_id, each.fps) for each in last.manifest.earlier] == [(built.build_id, 41.75), ("slower", 33.0)]
    page = place.store.get(last.published.report, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Against the builds before" in page
    assert "44.0\u202fFPS" in page
    unmeasured = built.measured.model_copy(update={"source": "not measured", "batches": ()})
    assert publish(another(built, "unmeasured", measured=unmeasured), place).manifest.earlier == ()


def test_emulated_and_real_builds_have_rows_of_their_own(place: Workplace, built: Manifest) -> None:
    publish(built, place)
    assert publish(another(built, "real", sdk=Sdk(provider="dfc", version="3.33.0")), place).published.record == (
        "names/dfc/resnet-pair/000001"
    )
    newest = latest(place.store, "emulator", "resnet-pair")
    assert newest is not None
    assert newest.build_id == built.build_id


def publish_both(place: Workplace, *manifests: Manifest) -> list[str]:
    barrier = threading.Barrier(2, timeout=60)

    def run(manifest: Manifest) -> str:
        barrier.wait()
        return publish(manifest, place).published.record

    with ThreadPoolExecutor(2) as pool:
        return sorted(pool.map(run, manifests))


def test_two_at_once_get_two_numbers(place: Workplace, built: Manifest) -> None:
    other = built.spec.model_copy(update={"gates": GatesSpec(min_snr_db=1)})
    found = publish_both(place, another(built, "b1"), another(built, "b2", spec=other))
    assert found == ["names/emulator/resnet-pair/000001", "names/emulator/resnet-pair/000002"]


def test_two_at_once_that_come_to_the_same_are_one(place: Workplace, built: Manifest) -> None:
    found = publish_both(place, another(built, "b1"), another(built, "b2"))
    assert found == ["names/emulator/resnet-pair/000001"] * 2
    assert len(place.store.list_records("builds")) == 1


def test_one_that_repeats_a_build_that_was_held_back_is_that_build(place: Workplace, built: Manifest) -> None:
    gate = Gate(name="SNR of resnet_a", wanted="≥ 99 dB", found="30.0 dB", verdict="failed", missed="69.0 dB below 99")
    publish(another(built, "b1", gates=(gate,)), place)
    assert publish(another(built, "b2", gates=(gate,)), place).manifest.build_id == "b1"
    assert place.store.list_records("names") == []


def test_one_that_repeats_a_build_whose_naming_was_killed_names_it(place: Workplace, built: Manifest) -> None:
    publish(another(built, "b1"), place)
    place.store.remove_record("names/emulator/resnet-pair/000001")
    found = publish(another(built, "b2"), place)
    assert (found.manifest.build_id, found.published.record) == ("b1", "names/emulator/resnet-pair/000001")
    assert [key[-2:] for key in place.store.list_records("builds")] == ["b1"]


def test_a_damaged_record_is_written_anew(place: Workplace, built: Manifest, tmp_path: Path) -> None:
    first = publish(built, place).published
    for key in (first.record, f"builds/emulator/resnet-pair/{first.build_id}"):
        path = Path(place.store.uri.removeprefix("file://")) / f"{key}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert publish(another(built, "b2"), place).published.build_id == first.build_id
        assert path.read_bytes() == whole


def test_a_damaged_record_of_earlier_is_removed(place: Workplace, built: Manifest) -> None:
    first = publish(built, place).published
    forced = publish(another(built, "b2"), replace(place, force=True)).published
    path = Path(place.store.uri.removeprefix("file://")) / f"{first.record}.json"
    path.write_text("{")
    assert publish(another(built, "b3"), place).published == forced
    assert place.store.list_records("names") == [forced.record]


def test_a_build_whose_report_is_lost_is_another(place: Workplace, built: Manifest) -> None:
    first = publish(built, place).published
    object_path(place.store, first.report).write_text("")
    assert publish(another(built, "b2"), place).published.record == "names/emulator/resnet-pair/000002"


def test_a_forced_build_is_another_even_where_it_comes_to_the_same(place: Workplace, built: Manifest) -> None:
    publish(built, place)
    forced = publish(another(built, "b2"), replace(place, force=True))
    assert (forced.published.record, forced.manifest.parent) == ("names/emulator/resnet-pair/000002", built.build_id)


@pytest.mark.parametrize(("verdict", "is_named"), [("not evaluated", True), ("failed", False)])
def test_a_failed_gate_keeps_the_artifacts_and_makes_no_name(
    place: Workplace, built: Manifest, verdict: Any, is_named: bool
) -> None:
    gate = Gate(name="SNR of left", wanted="≥ 20 dB", found="12 dB", verdict=verdict)
    published = publish(another(built, "b1", gates=(gate,)), place).published
    assert place.store.has(published.manifest)
    assert place.store.has(published.report)
    assert place.store.read_record("builds/emulator/resnet-pair/b1") == published.model_copy(
        update={"record": ""}
    ).model_dump(mode="json")
    assert bool(published.record) is is_named
    assert bool(place.store.list_records("names")) is is_named
    assert (latest(place.store, "emulator", "resnet-pair") is not None) is is_named
