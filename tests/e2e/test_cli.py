"""The command as a person and a script use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hefjoin.manifest import Manifest
from tests.e2e.conftest import Desk, error_of


def test_json_is_one_manifest_on_standard_output_and_the_rest_on_standard_error(desk: Desk) -> None:
    done = desk.run("build", "tiny.yaml", "--sdk", "emulator", "--json")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.model_validate(json.loads(done.stdout))
    assert manifest.spec.name == "tiny"
    assert "parse left" in done.stderr
    out = desk.folder / "out" / "tiny"
    assert Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8")) == manifest
    assert {path.name for path in out.iterdir()} == {"manifest.json", "report.html", "tiny.emulated.hef"}
    assert manifest.measured.source == "emulator"
    assert [path.stem for path in desk.records("names")] == ["000001"]
    again = desk.run("build", "tiny.yaml", "--sdk", "emulator")
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""
    assert again.stderr.count(": reused") == len(manifest.stages)


@pytest.mark.parametrize(("suffix", "kind"), [("left.onnx", "ONNX"), ("tiny.emulated.hef", "HEF")], ids=["onnx", "hef"])
def test_inspect_says_what_a_file_holds(desk: Desk, suffix: str, kind: str) -> None:
    if suffix.endswith("hef"):
        assert desk.run("build", "tiny.yaml", "--sdk", "emulator").returncode == 0
    (path,) = (path for path in desk.folder.rglob(f"*{suffix}") if "objects" not in path.parts)
    done = desk.run("inspect", str(path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == kind
    assert kind in desk.run("inspect", str(path)).stdout


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"text"])
@pytest.mark.parametrize("suffix", ["onnx", "har", "hef"])
def test_inspect_refuses_what_is_none_of_these(desk: Desk, suffix: str, content: bytes) -> None:
    (desk.folder / f"x.{suffix}").write_bytes(content)
    assert f"x.{suffix}" in error_of(desk.run("inspect", f"x.{suffix}"), 2)


def test_unknown_files_and_names(desk: Desk) -> None:
    assert "nowhere.hef is not a file" in error_of(desk.run("inspect", "nowhere.hef"), 2)
    assert "tiny.yaml is none of" in error_of(desk.run("inspect", "tiny.yaml"), 2)
    assert "mnist-pair" in error_of(desk.run("example", "nowhere"), 2)


def test_an_example_is_ready_to_build(desk: Desk, tmp_path: Path) -> None:
    done = desk.run("example", "mnist-pair", str(tmp_path / "there"))
    assert done.returncode == 0, done.stderr
    assert f"hefjoin build {tmp_path}/there/mnist-pair.yaml" in done.stdout
    assert (tmp_path / "there" / "mnist-pair.yaml").is_file()
