"""The compile ladder with the stand-in for the DFC: what is tried, what is kept, what is never tried again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.build import join_and_compile
from hefjoin.artifacts import Ref
from hefjoin.builds.find import Build
from hefjoin.errors import FitError, SpecError, ToolchainError
from hefjoin.results.compiled import Attempt
from hefjoin.sdk.process import DEADLINES_S
from hefjoin.sdk.toolchain import DFC_PYTHON, resolve
from hefjoin.spec_file import read_spec
from hefjoin.stages.compile import REPLAY, Compile
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.ladder import AS_DECLARED
from hefjoin.stages.script import assemble, before_compile, before_optimize
from hefjoin.stores import Store, open_store
from tests.fakes.dfc_environment import interpreter
from tests.tiny import pair, write_pair

SEED, FPS = "allocator_param(seed=7)", "performance_param(fps=30)"
AT_30_FPS = {"fits_when": {"fps": 30}}


def outcomes(attempts: tuple[Attempt, ...]) -> list[tuple[str, str]]:
    return [(attempt.label, attempt.outcome) for attempt in attempts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pair that fits at 30 frames per second and no more, and a DFC."""
    folder = tmp_path_factory.mktemp("ladder")
    write_pair(folder, pair(compile={"target_fps": 100, "attempts": [SEED, FPS]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DFC_PYTHON, str(interpreter(folder / "dfc")))
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        patch.setenv("FAKE_DFC", json.dumps(AT_30_FPS))
        yield folder


def build(folder: Path) -> Build:
    return join_and_compile(read_spec(folder / "tiny.yaml"), store=str(folder / "store"), sdk="dfc")


@pytest.fixture(scope="module")
def first(folder: Path) -> Build:
    return build(folder)


class TestBuild:
    def test_the_declared_attempts_are_made_in_order_until_one_fits(self, first: Build) -> None:
        compiled = first.manifest.compiled
        assert outcomes(compiled.attempts) == [
            (AS_DECLARED, "did not fit"),
            (SEED, "did not fit"),
            (FPS, "compiled"),
        ]
        assert (compiled.contexts, compiled.contexts_source, compiled.replayed) == (1, "hef", False)
        assert "fps=30" in compiled.script

    def test_each_attempt_keeps_its_script_its_numbers_and_its_log(self, first: Build, folder: Path) -> None:
        declared, seeded, last = first.manifest.compiled.attempts
        assert "fps=100" in declared.script
        assert "fps=100" in seeded.script
        assert "fps=100" not in last.script
        assert (declared.need["LCUs"], declared.have["LCUs"]) == (149, 96)
        assert "LCUs 149 of 96 (53 too many)" in declared.message
        assert (last.message, last.need) == ("", {})
        assert all(attempt.seconds > 0 for attempt in (declared, seeded, last))
        texts = [read(open_store(str(folder / "store")), attempt.log, folder) for attempt in (declared, last)]
        assert ["Mapping Failed" in text for text in texts] == [True, False]
        assert ["Successful Mapping" in text for text in texts] == [False, True]

    def test_what_the_mapping_takes_is_known_by_cluster(self, first: Build) -> None:
        (context,) = first.manifest.compiled.utilization
        assert len(context.clusters) == 8
        assert 0 < context.total.control < 1

    def test_the_next_build_repeats_nothing(self, first: Build, folder: Path) -> None:
        assert build(folder) == first

    def test_nothing_is_left_in_the_work_folder(self, first: Build, folder: Path) -> None:
        assert [path for path in (folder / "work").rglob("*") if path.is_file()] == []


def read(store: Store, ref: Ref, folder: Path) -> str:
    return store.get(ref, folder / "read").read_text(encoding="utf-8")


@pytest.fixture
def place(first: Build, folder: Path, tmp_path: Path) -> Workplace:
    """A copy of the store, as the first build left it."""
    del first
    shutil.copytree(folder / "store", tmp_path / "store")
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=resolve("dfc"))


@pytest.fixture
def stage(first: Build) -> Compile:
    """The first build's last stage."""
    manifest = first.manifest
    script = assemble(manifest.spec, manifest.check, manifest.joined)
    return Compile(
        joined=manifest.joined,
        har=manifest.quantized.har,
        quantized_by=before_optimize(script),
        script=before_compile(script),
        attempts=(SEED, FPS),
        single_context=True,
        outputs=manifest.quantized.output_layers,
        outputs_in_16_bits=(),
        hw_arch="hailo8",
        sdk=manifest.sdk,
    )


@pytest.fixture
def retrained(stage: Compile, place: Workplace, tmp_path: Path) -> Compile:
    """The same graph from another archive: a tar may end in empty blocks."""
    path = place.store.get(stage.har, tmp_path / "quantized.har")
    (tmp_path / "retrained.har").write_bytes(path.read_bytes() + bytes(10240))
    return stage.model_copy(update={"har": place.store.put(tmp_path / "retrained.har", "har")})


def behaves(monkeypatch: pytest.MonkeyPatch, **switches: Any) -> None:
    """Let the DFC behave otherwise from here on."""
    monkeypatch.setenv("FAKE_DFC", json.dumps(switches))


def tries(place: Workplace) -> int:
    return len(place.store.list_records("reuse/try"))


class TestKeptAttempts:
    def test_what_was_tried_is_not_tried_again_when_an_attempt_is_added(
        self, first: Build, stage: Compile, place: Workplace
    ) -> None:
        found = perform(stage.model_copy(update={"attempts": (SEED, FPS, "allocator_param(seed=8)")}), place)
        assert not found.run.is_reused
        kept = [attempt.model_copy(update={"is_reused": True}) for attempt in first.manifest.compiled.attempts]
        assert list(found.value.attempts) == kept
        assert tries(place) == 3

    def test_when_all_fail_each_is_told(self, stage: Compile, place: Workplace) -> None:
        with pytest.raises(FitError) as caught:
            perform(stage.model_copy(update={"attempts": (SEED,)}), place)
        assert [text for text in ("2 attempts", AS_DECLARED, SEED) if text not in str(caught.value)] == []
        assert str(caught.value).count("LCUs 149 of 96") == 2
        assert [row["label"] for row in caught.value.attributes["attempts"]] == [AS_DECLARED, SEED]

    def test_none_is_tried_that_is_not_declared(self, retrained: Compile, place: Workplace) -> None:
        with pytest.raises(FitError, match=r"LCUs 149 of 96 \(53 too many\)"):
            perform(retrained.model_copy(update={"attempts": ()}), place)
        assert tries(place) == 4

    def test_an_error_that_is_not_about_fitting_stops_at_once(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, asks_at_import=True)
        shutil.rmtree(tmp_path / "store" / "auto")
        with pytest.raises(ToolchainError, match="nobody answers"):
            perform(retrained, place)
        assert tries(place) == 3

    def test_a_reason_that_only_the_log_has_counts_as_one(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, reason_in_log_only=True, **AT_30_FPS)
        shutil.rmtree(tmp_path / "store" / "auto")
        first, *_ = attempts = perform(retrained, place).value.attempts
        assert outcomes(attempts) == [(AS_DECLARED, "did not fit"), (SEED, "did not fit"), (FPS, "compiled")]
        assert (first.need["LCUs"], first.have["LCUs"]) == (149, 96)

    def test_after_a_crash_the_next_attempt_is_made(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, crashes_until_seed=7)
        shutil.rmtree(tmp_path / "store" / "auto")
        compiled = perform(retrained, place).value
        assert outcomes(compiled.attempts) == [(AS_DECLARED, "failed"), (SEED, "compiled")]
        crashed, _ = compiled.attempts
        assert (crashed.message, crashed.need) == ("Compilation failed with unexpected crash", {})
        assert "Assertion" in read(place.store, crashed.log, tmp_path)

    def test_a_crash_is_tried_again_by_the_next_build(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, crashes_until_seed=8)
        shutil.rmtree(tmp_path / "store" / "auto")
        with pytest.raises(ToolchainError, match="compiler program crashed"):
            perform(retrained, place)
        assert tries(place) == 3
        behaves(monkeypatch)
        assert outcomes(perform(retrained, place).value.attempts) == [(AS_DECLARED, "compiled")]

    def test_a_crash_without_another_attempt_is_raised(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, crashes_until_seed=7)
        shutil.rmtree(tmp_path / "store" / "auto")
        with pytest.raises(ToolchainError, match="compiler program crashed"):
            perform(retrained.model_copy(update={"attempts": ()}), place)

    def test_attempts_that_cannot_be_made_are_refused_before_any(self, stage: Compile, place: Workplace) -> None:
        with pytest.raises(SpecError, match=r"compile.attempts\[0\]"):
            perform(stage.model_copy(update={"attempts": ("context_switch_param(mode=enabled)",)}), place)

    def test_without_the_demand_for_one_context_there_may_be_more(
        self, stage: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        behaves(monkeypatch, fits_when={"fps": 0}, contexts=2)
        free = stage.model_copy(update={"single_context": False, "script": "", "attempts": ()})
        compiled = perform(free, place).value
        assert compiled.contexts == 2
        assert len(compiled.utilization) == 2


class TestReplay:
    def test_the_decisions_of_an_earlier_build_serve_other_weights(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch, fits_when={"fps": 0})
        compiled = perform(retrained, place).value
        assert compiled.replayed
        assert outcomes(compiled.attempts) == [(REPLAY, "compiled")]
        assert "fps=30" in compiled.script
        assert compiled.auto_script is not None
        assert "place(" in read(place.store, compiled.auto_script, tmp_path)

    def test_a_step_that_dies_in_a_replay_ends_the_build(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(DEADLINES_S, "compile", 1.0)
        behaves(monkeypatch, compiler_seconds=60)
        with pytest.raises(ToolchainError, match="was stopped after 1 s"):
            perform(retrained, place)

    def test_where_they_cannot_be_replayed_the_declared_script_is_compiled_and_that_is_told(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        behaves(monkeypatch)
        (key,) = place.store.list_records("auto")
        (tmp_path / "wrong.alls").write_text("context_0.place(\n")
        wrong = place.store.put(tmp_path / "wrong.alls", "alls")
        place.store.replace_record(key, {"auto_script": wrong.model_dump(mode="json")})
        compiled = perform(retrained, place).value
        assert not compiled.replayed
        assert outcomes(compiled.attempts) == [(AS_DECLARED, "compiled")]
        assert any("could not be replayed" in text for text in compiled.warnings)

    def test_a_forced_build_decides_anew(
        self, retrained: Compile, place: Workplace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        behaves(monkeypatch)
        compiled = perform(retrained, replace(place, force=True)).value
        assert outcomes(compiled.attempts) == [(AS_DECLARED, "compiled")]


def test_outputs_that_came_out_narrower_than_asked_for_are_named(stage: Compile, place: Workplace) -> None:
    compiled = perform(stage.model_copy(update={"outputs_in_16_bits": ("left/fc1",)}), place).value
    (warning,) = [text for text in compiled.warnings if "16 bits" in text]
    assert "left/fc1" in warning
    assert "right/fc1" not in warning
