"""`hefjoin verify, history, diff, rollback` as commands: what they print, how they end, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.manifest import Published
from hefjoin.stores import open_store
from tests.builds import labelled_manifest, make_manifest
from tests.kept import FAILED, keep, object_path

NAME = "resnet-pair"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(autouse=True)
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Work in a folder whose store has the builds 2025a, 2025b (the latest) and 2025c, which failed; returns 2025b."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    store = open_store("artifacts")
    keep(store, tmp_path, "2025a", parent="")
    changed = ("resnet_b's model", "calibration.count 64 → 128")
    found = keep(store, tmp_path, "2025b", labelled_manifest(), parent="2025a", changed=changed)
    keep(store, tmp_path, "2025c", parent="2025b", gates=(FAILED,))
    return found


class TestHistory:
    def test_a_row_for_each_build(self) -> None:
        done = run("history", NAME)
        assert done.exit_code == 0
        lines = done.output
        for part in ("no build before it", "calibration.count 64", "latest", "record 2", "8.8 dB below 40",
                     "changed: nothing", "FPS at batch 1", "(emulator)", "1 context (forecast)",
                     "Nothing here was measured on a Hailo device"):  # fmt: skip
            assert part in lines.replace("\u202f", " ")
        assert lines.index("2025a") < lines.index("2025b") < lines.index("2025c")

    def test_as_json_with_figures_and_gates(self) -> None:
        (entry,) = json.loads(run("history", NAME, "--last", "1", "--json").output)
        assert (entry["build_id"], entry["state"], entry["records"]) == ("2025c", "not promoted", [])
        assert entry["gates"][0]["missed"] == "8.8 dB below 40"
        assert entry["figures"]["throughput at batch 1"]["source"] == "emulator"
        assert "manifest" not in entry

    def test_a_name_that_is_not_there(self) -> None:
        done = run("history", "nope")
        assert done.exit_code == 2
        assert "no builds of the name 'nope'; it has resnet-pair" in done.output


class TestVerify:
    def test_a_whole_build(self) -> None:
        done = run("verify", NAME)
        assert (done.exit_code, "all of it is there, bit for bit" in done.output) == (0, True)

    def test_what_is_missing_ends_in_5(self, second: Published) -> None:
        object_path(open_store("artifacts"), second.hef).unlink()
        done = run("verify", f"{NAME}@2")
        assert done.exit_code == 5
        assert second.hef.sha256[:12] in done.output
        assert "compiled.hef" in done.output
        (finding,) = json.loads(run("verify", "2025b", "--json").output)["findings"]
        assert (finding["problem"], finding["stages"]) == ("missing", ["compile"])

    def test_a_laid_out_folder(self, second: Published) -> None:
        for ref, name in ((second.hef, second.hef_name), (second.report, "report.html"),
                          (second.manifest, "manifest.json")):  # fmt: skip
            path = Path("out") / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(object_path(open_store("artifacts"), ref).read_bytes())
        assert run("verify", "out").exit_code == 0
        (Path("out") / second.hef_name).write_bytes(b"another")
        assert run("verify", "out").exit_code == 5
        done = run("verify", "out/manifest.json", "--store", "elsewhere")
        assert done.exit_code == 5
        assert "not checked: report.html and manifest.json" in done.output


class TestDiff:
    def test_side_by_side(self) -> None:
        done = run("diff", "2025a", f"{NAME}@2")
        assert done.exit_code == 0
        assert "2025a → 2025b" in done.output
        assert "as run" in done.output
        found = json.loads(run("diff", "2025a", NAME, "--json").output)
        assert (found["earlier"], found["later"]) == ("2025a", "2025b")

    def test_no_difference_is_said(self) -> None:
        assert run("diff", "2025b", NAME).output.splitlines() == ["2025b → 2025b", "no difference"]

    def test_a_manifest_on_disk(self) -> None:
        Path("m.json").write_text(make_manifest(build_id="mine").model_dump_json(), encoding="utf-8")
        assert "2025a → mine" in run("diff", "2025a", "m.json").output

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            ("2025", "'2025' is how 3 builds in"),
            ("nope", "no build or name in"),
            (f"{NAME}@7", "has no record 7"),
        ],
    )
    def test_what_is_no_build(self, build: str, message: str) -> None:
        done = run("diff", "2025a", build)
        assert done.exit_code == 2
        assert message in done.output


class TestRollback:
    def test_says_what_is_latest_now(self) -> None:
        done = run("rollback", NAME)
        assert done.exit_code == 0
        assert "build 2025a is the latest again, instead of 2025b" in done.output
        assert "names/emulator/resnet-pair/000003" in done.output
        assert run("verify", NAME).output.startswith("build 2025a:")

    def test_a_mistake_is_a_sentence(self) -> None:
        done = run("rollback", NAME, "--to", "2025c")
        assert done.exit_code == 2
        assert "8.8 dB below 40" in done.output
        assert run("rollback", NAME, "--sdk", "dfc").exit_code == 2
