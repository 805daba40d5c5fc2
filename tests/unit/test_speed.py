"""Whether a build is slower than one before it: what is compared, what is not, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import main
from hefjoin.builds.history import history
from hefjoin.builds.rows import add_build, add_to_row
from hefjoin.builds.speed import change_since_promoted, speed_change
from hefjoin.manifest import DeviceHost, Manifest, Published
from hefjoin.results.measured import BatchMeasurement, Measured
from hefjoin.scores import Scored
from hefjoin.spec import GatesSpec
from hefjoin.stages.gates import judge
from hefjoin.stores import Store, open_store
from tests.builds import make_manifest

METHOD = "HailoRT InferModel.run_async, 8 frames in flight"


def measured(*fps: float, source: Any = "device", spread: float = 0.01, method: str = METHOD) -> Measured:
    """Return figures at batch size 1, 2, 4, …"""
    batches = tuple(
        BatchMeasurement(
            batch_size=2**index, rounds_fps=(each,), fps=each, fps_low=each * (1 - spread), fps_high=each * (1 + spread)
        )
        for index, each in enumerate(fps)
    )
    return Measured(source=source, device="HAILO8 at 0000:01:00.0", batches=batches, load_average=0.5, method=method)


def build(build_id: str, figures: Measured, host: str = "box") -> Manifest:
    made = make_manifest()
    return made.model_copy(
        update={
            "build_id": build_id,
            "measured": figures,
            "machine": made.machine.model_copy(update={"host": host}),
            "measured_by": None,
        }
    )


def leave(store: Store, folder: Path, manifest: Manifest, *, is_promoted: bool = True) -> None:
    """Put a build into a store."""
    path = folder / f"{manifest.build_id}.json"
    path.write_text(manifest.model_dump_json(), encoding="utf-8")
    ref = store.put(path, "json")
    published = Published(
        build_id=manifest.build_id,
        provider=manifest.sdk.provider,
        name=manifest.spec.name,
        created_at=manifest.created_at,
        host=manifest.machine.host,
        manifest=ref,
        report=ref,
        hef=ref,
        hef_name="pair.hef",
        record="",
    )
    add_build(store, published)
    if is_promoted:
        add_to_row(store, published)


def gate(most: float, figures: Measured, earlier: Manifest | None) -> Any:
    change = speed_change(earlier, figures, "box") if earlier else None
    (found,) = judge(
        GatesSpec(max_regression_percent=most), make_manifest().quantized, figures, Scored(models=()), change
    )
    return found


def test_the_change_is_that_of_the_batch_size_that_lost_most() -> None:
    found = speed_change(build("old", measured(100, 200, 400)), measured(99.9, 180, 420), "box")
    assert found is not None
    assert (found.batch_size, found.earlier, found.source) == (2, "old", "device")
    assert found.percent == pytest.approx(-10)
    assert found.is_regression


def test_a_loss_that_chance_may_explain_gives_way_to_one_it_does_not() -> None:
    earlier = measured(100, 200).batches
    wide = earlier[0].model_copy(update={"fps_low": 50.0})
    old = build("old", measured(100, 200).model_copy(update={"batches": (wide, earlier[1])}))
    found = speed_change(old, measured(80, 190), "box")
    assert found is not None
    assert (found.batch_size, found.is_regression) == (2, True)


@pytest.mark.parametrize(
    ("later", "host"),
    [
        (measured(90), "other box"),
        (measured(90, source="emulator"), "box"),
        (measured(90, method="hailortcli run, 3 runs of 2 s for each batch size"), "box"),
        (measured(100), "box"),
        (Measured(source="not measured", device="no worker", batches=(), load_average=0.1), "box"),
        (measured(90).model_copy(update={"device": "HAILO8 at 0000:02:00.0"}), "box"),
    ],
    ids=["machine", "source", "method", "the same figures", "nothing", "chip"],
)
def test_what_was_measured_otherwise_or_is_the_same_measurement_is_not_compared(later: Measured, host: str) -> None:
    assert speed_change(build("old", measured(100)), later, host) is None


def test_another_number_in_the_method_is_no_other_way() -> None:
    other = METHOD.replace("8 frames", "16 frames")
    assert speed_change(build("old", measured(100)), measured(90, method=other), "box") is not None


def test_the_machine_is_that_of_the_device_where_a_benchmark_was_handed_over() -> None:
    old = build("old", measured(100), host="builder")
    by = DeviceHost(machine=old.machine.model_copy(update={"host": "box"}), versions={})
    assert speed_change(old.model_copy(update={"measured_by": by}), measured(90), "box") is not None
    assert speed_change(old.model_copy(update={"measured_by": by}), measured(90), "builder") is None


class TestGate:
    def test_a_loss_above_the_limit_fails_and_says_all(self) -> None:
        found = gate(5, measured(92), build("20261101-before", measured(100)))
        assert found.verdict == "failed"
        assert found.found == "8.0 % slower than 20261101-before, 92.0 after 100 FPS at batch 1"
        assert found.missed == "3.0 % above 5"

    @pytest.mark.parametrize("fps", [96.5, 100.5, 130])
    def test_a_smaller_loss_or_a_gain_passes(self, fps: float) -> None:
        assert gate(5, measured(fps), build("old", measured(100))).verdict == "passed"

    def test_a_loss_that_the_intervals_do_not_show_passes_and_says_so(self) -> None:
        found = gate(5, measured(92, spread=0.1), build("old", measured(100, spread=0.1)))
        assert found.verdict == "passed"
        assert "no change shown" in found.found

    def test_zero_allows_no_shown_loss_at_all(self) -> None:
        assert gate(0, measured(97), build("old", measured(100))).verdict == "failed"
        assert gate(0, measured(103), build("old", measured(100))).verdict == "passed"

    def test_an_emulator_s_figure_and_a_first_one_are_not_evaluated(self) -> None:
        emulated = gate(5, measured(50, source="emulator"), build("old", measured(100, source="emulator")))
        assert (emulated.verdict, emulated.found) == ("not evaluated", "not measured on a device")
        assert gate(5, measured(50), None).verdict == "not evaluated"

    def test_without_the_field_there_is_no_such_gate(self) -> None:
        assert judge(GatesSpec(), make_manifest().quantized, measured(50), Scored(models=())) == ()


class TestInAStore:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path / "store"))

    def since(self, store: Store, figures: Measured, host: str = "box") -> str:
        made = make_manifest()
        found = change_since_promoted(store, made.sdk.provider, made.spec.name, figures, host)
        return found.earlier if found else ""

    def test_the_last_promoted_build_of_the_machine_counts(self, store: Store, tmp_path: Path) -> None:
        leave(store, tmp_path, build("1", measured(100)))
        leave(store, tmp_path, build("2", measured(101)))
        leave(store, tmp_path, build("3", measured(70)), is_promoted=False)
        leave(store, tmp_path, build("4", measured(99), host="other"))
        assert self.since(store, measured(90)) == "2"
        assert self.since(store, measured(90), "other") == "4"
        assert self.since(store, measured(90), "a third") == ""

    def test_a_build_that_is_repeated_is_compared_as_it_was_the_first_time(self, store: Store, tmp_path: Path) -> None:
        leave(store, tmp_path, build("1", measured(100)))
        leave(store, tmp_path, build("2", measured(95)))
        assert self.since(store, measured(95)) == "1"

    def test_what_is_lost_is_passed_over(self, store: Store, tmp_path: Path) -> None:
        leave(store, tmp_path, build("1", measured(100)))
        lost = build("2", measured(95))
        leave(store, tmp_path, lost)
        for path in (tmp_path / "store").rglob("*"):
            if path.is_file() and b'"build_id":"2"' in path.read_bytes() and b"schema_version" in path.read_bytes():
                path.chmod(0o644)
                path.unlink()
        assert self.since(store, measured(90)) == "1"

    def test_history_says_of_each_build_whether_it_is_a_regression(self, store: Store, tmp_path: Path) -> None:
        for build_id, fps in (("1", 100.0), ("2", 90.0), ("3", 90.3)):
            leave(store, tmp_path, build(build_id, measured(fps)))
        made = make_manifest()
        found = history(store, made.sdk.provider, made.spec.name)
        assert [entry.speed and entry.speed.is_regression for entry in found] == [None, True, False]
        done = CliRunner().invoke(main, ["history", made.spec.name, "--store", str(tmp_path / "store")])
        assert done.exit_code == 0, done.output
        text = " ".join(done.output.split())
        assert "regression: " in text
        assert text.count("regression: ") == 1
