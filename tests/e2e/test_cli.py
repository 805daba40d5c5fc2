"""The command as a person and a script use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hefjoin.formats import hef
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


def test_a_hef_is_listed_as_the_vendors_tool_lists_it(desk: Desk) -> None:
    assert desk.run("build", "tiny.yaml", "--sdk", "emulator").returncode == 0
    done = desk.run("inspect", "out/tiny/tiny.emulated.hef", "--like-hailortcli")
    assert done.returncode == 0, done.stderr
    assert "Network group name: joined_left_right, Single Context" in done.stdout.splitlines()


def test_the_article_runs_as_a_program(tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "examples" / "article.py"
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resnet_v1_18_2/input_layer1 was joined into resnet_v1_18_1/input_layer1" in done.stdout
    (path,) = tmp_path.glob("*.hef")
    found = hef.read(path, verify=True)
    assert found.is_emulated
    assert [stream.name for stream in found.groups[0].inputs] == ["resnet_v1_18_1/input_layer1"]
    assert [stream.name for stream in found.groups[0].outputs] == ["resnet_v1_18_1/fc1", "resnet_v1_18_2/fc1"]
