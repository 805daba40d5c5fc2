"""The main job as Prefect runs it: all stages once, then only what changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from flows.build import join_and_compile
from flows.cli import main
from hefjoin.builds.find import Build
from hefjoin.builds.history import history
from hefjoin.builds.rollback import roll_back
from hefjoin.builds.rows import latest
from hefjoin.builds.schema import json_schema
from hefjoin.builds.verify import verify
from hefjoin.errors import JoinError
from hefjoin.formats import hef as hef_file
from hefjoin.manifest import Manifest
from hefjoin.spec_file import read_spec
from hefjoin.stores import open_store
from tests.benchmarks import plain
from tests.flows.runs import artifacts, task_runs
from tests.tiny import CLASSES, write_model, write_pair

STAGES = [
    *("parse left", "parse right", "check", "forecast", "join", "quantize", "repair", "couple"),
    *("compile", "benchmark", "score"),
]
RUNS = [
    "read spec", "fetch",
    "parse left", "parse right", "check tiny", "forecast tiny", "join tiny", "quantize joined_left_right",
    "repair joined_left_right",
    "couple joined_left_right",
    "compile joined_left_right", "benchmark tiny", "score tiny", "publish tiny",
]  # fmt: skip


class Ran(NamedTuple):
    """A build and what Prefect knows of it."""

    build: Build
    runs: dict[str, Any]
    artifacts: list[Any]

    @property
    def states(self) -> dict[str, str]:
        return {name: run.state.name for name, run in self.runs.items()}

    @property
    def is_reused(self) -> dict[str, bool]:
        return {f"{run.stage} {run.subject}".strip(): run.is_reused for run in self.build.manifest.stages}


def build(folder: Path) -> Ran:
    spec = read_spec(folder / "tiny.yaml")
    state: Any = join_and_compile(spec, store=str(folder / "store"), sdk="emulator", return_state=True)
    run_id = state.state_details.flow_run_id
    return Ran(state.result(), task_runs(run_id, len(RUNS)), artifacts(run_id))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        yield folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Ran:
    return build(folder)


@pytest.fixture(scope="module")
def second(folder: Path, first: Ran) -> Ran:
    del first
    return build(folder)


@pytest.fixture(scope="module")
def changed(folder: Path, second: Ran) -> Ran:
    """The third build, after `right` was trained again."""
    del second
    write_model(folder / "right.onnx", seed=77, classes=CLASSES["right"])
    return build(folder)


class TestFirst:
    def test_every_stage_ran_under_its_name(self, first: Ran) -> None:
        assert sorted(first.runs) == sorted(RUNS)
        assert set(first.states.values()) == {"Completed"}
        assert list(first.is_reused) == STAGES
        assert not any(first.is_reused.values())
        assert {run.reason for run in first.build.manifest.stages} == {"built, because it is new"}

    def test_the_published_manifest_is_the_builds_own(self, first: Ran, folder: Path, tmp_path: Path) -> None:
        store = open_store(str(folder / "store"))
        path = store.get(first.build.published.manifest, tmp_path / "manifest.json")
        assert Manifest.model_validate_json(path.read_text(encoding="utf-8")) == first.build.manifest

    def test_the_manifest_holds_what_was_asked_for(self, first: Ran) -> None:
        manifest = first.build.manifest
        assert list(manifest.models) == list(CLASSES)
        assert manifest.check.calibration.health.count == 16
        assert manifest.check.evaluation_is_held_out
        assert manifest.joined.model_of_output.keys() == {t.layer for t in manifest.joined.network.outputs}
        assert all(row.is_bit_equal for row in manifest.joined.equality)
        assert [row.model for row in manifest.joined.equality] == list(CLASSES)
        assert [accuracy.model for accuracy in manifest.quantized.accuracy] == list(CLASSES)
        assert [batch.batch_size for batch in manifest.measured.batches] == [1, 2]
        assert manifest.measured.source == "emulator"
        assert manifest.parent == ""

    def test_the_manifest_is_what_its_schema_says(self, first: Ran) -> None:
        Draft202012Validator(json_schema("manifest")).validate(first.build.manifest.model_dump(mode="json"))

    def test_all_that_was_left_is_there_and_is_the_only_entry_of_the_history(self, first: Ran, folder: Path) -> None:
        store = open_store(str(folder / "store"))
        found = verify(store, first.build.published)
        assert (found.findings, found.unchecked) == ((), ())
        assert found.artifacts == len(list(store.objects()))
        (entry,) = history(store, "emulator", "tiny")
        assert (entry.state, entry.records, entry.parent, entry.changed) == ("latest", (1,), "", ())

    def test_the_hef_holds_one_input_and_every_output(self, first: Ran, folder: Path, tmp_path: Path) -> None:
        published = first.build.published
        path = open_store(str(folder / "store")).get(published.hef, tmp_path / published.hef_name)
        found = hef_file.read(path, verify=True)
        assert found.is_emulated
        (group,) = found.groups
        assert len(group.inputs) == 1
        assert {stream.name for stream in group.outputs} == set(first.build.manifest.joined.model_of_output)
        assert published.hef_name == "tiny.emulated.hef"

    def test_a_summary_with_pictures_is_in_the_ui(self, first: Ran) -> None:
        (summary,) = [artifact for artifact in first.artifacts if artifact.key]
        assert (summary.key, summary.type) == ("build-tiny", "markdown")
        assert summary.description == "Promoted: no gate stood in the way"
        assert "emulator" in summary.data
        assert summary.data.count("](data:image/svg+xml;base64,") == 2  # the first build has no history
        assert urlsplit(first.build.published.report.uri).path in summary.data

    def test_nothing_is_left_in_the_work_folder(self, first: Ran, folder: Path) -> None:
        assert [path for path in (folder / "work").rglob("*") if path.is_file()] == []


class TestSecond:
    def test_every_stage_is_reused_and_its_state_says_so(self, second: Ran) -> None:
        stages = {name: state for name, state in second.states.items() if name not in ("read spec", "fetch")}
        assert sorted(stages) == sorted(RUNS[2:])
        assert set(stages.values()) == {"Reused"}
        assert second.runs["parse left"].state.message.startswith("same inputs as on ")

    def test_what_changed_nothing_is_the_build_before(self, first: Ran, second: Ran, folder: Path) -> None:
        assert second.build == first.build
        assert open_store(str(folder / "store")).list_records("names") == ["names/emulator/tiny/000001"]


def test_the_script_that_the_flow_is_timed_against_does_the_same_stages(folder: Path, second: Ran) -> None:
    assert plain.build(str(folder / "tiny.yaml"), str(folder / "store")) == [True] * len(second.is_reused)


class TestChanged:
    def test_only_the_changed_model_and_the_joint_stages_run(self, changed: Ran) -> None:
        assert changed.is_reused == {title: title == "parse left" for title in STAGES}
        assert changed.states["parse left"] == "Reused"
        assert {changed.states[name] for name in RUNS if name != "parse left"} == {"Completed"}

    def test_it_is_the_next_of_its_name(self, first: Ran, changed: Ran) -> None:
        assert changed.build.published.record == "names/emulator/tiny/000002"
        assert changed.build.manifest.parent == first.build.manifest.build_id
        assert changed.build.manifest.changed == ("right's model",)

    def test_each_says_what_changed(self, changed: Ran) -> None:
        reasons = {f"{run.stage} {run.subject}".strip(): run.reason for run in changed.build.manifest.stages}
        assert reasons["parse right"] == "built, because source.sha256 changed"
        assert "networks[1][1].har.sha256" in reasons["join"]
        assert reasons["parse left"].startswith("same inputs as on ")
        assert changed.runs["parse right"].state.message == reasons["parse right"]


def test_a_rollback_is_not_undone_by_building_the_same_again(folder: Path, first: Ran, changed: Ran) -> None:
    store = open_store(str(folder / "store"))
    _, record = roll_back(store, "tiny", "emulator")
    assert record.build_id == first.build.manifest.build_id
    again = build(folder)
    assert again.build.manifest == changed.build.manifest
    assert latest(store, "emulator", "tiny") == record


def test_what_was_measured_of_the_calibration_set_is_in_the_next_build(
    folder: Path, changed: Ran, tmp_path: Path
) -> None:
    store = open_store(str(folder / "store"))
    page = tmp_path / "set.html"
    arguments = ["calibration", str(folder / "tiny.yaml"), "--store", str(folder / "store"), "--out", str(page)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    known = build(folder).build
    assert changed.build.manifest.covered is None
    assert known.manifest.covered is not None
    assert known.manifest.covered.frames == 16
    assert [run.title for run in known.manifest.stages] == [*STAGES, "cover"]
    assert all(run.is_reused for run in known.manifest.stages)
    report = store.get(known.published.report, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What the calibration set covers" in report
    found = verify(store, known.published)
    assert (found.findings, found.unchecked) == ((), ())


def test_models_that_may_not_share_an_input_stop_the_flow_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
    write_pair(tmp_path)
    write_model(tmp_path / "right.onnx", seed=1, classes=CLASSES["right"], size=24)
    spec = read_spec(tmp_path / "tiny.yaml")
    state: Any = join_and_compile(spec, store=str(tmp_path / "store"), sdk="emulator", return_state=True)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, JoinError)
    assert [row.what for row in error.disagreements] == ["input shape (height, width, channels)"]
    runs = task_runs(state.state_details.flow_run_id, 5)
    assert {name: run.state.name for name, run in runs.items()} == {
        "read spec": "Completed", "fetch": "Completed",
        "parse left": "Completed", "parse right": "Completed", "check tiny": "Failed",
    }  # fmt: skip
    assert runs["check tiny"].run_count == 1
    assert state.message == error.message
    (page,) = artifacts(state.state_details.flow_run_id)
    assert page.key == "build-tiny"
    assert "| input shape (height, width, channels) | 16 × 16 × 3 | 24 × 24 × 3 |" in page.data
    assert open_store(str(tmp_path / "store")).list_records("builds") == []
