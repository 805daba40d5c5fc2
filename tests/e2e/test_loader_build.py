"""`hefjoin loader` as a person uses it: from a build's folder, id or name to outputs in a program of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hefjoin.loader import render
from tests.builds import device_manifest, make_manifest
from tests.e2e.conftest import ROOT, Desk

PROGRAM = """
import numpy as np
from tiny_loader import TinyNet
with TinyNet("out/tiny/tiny.emulated.hef") as net:
    found = net(np.load("images.npy"))
print({model: {name: array.shape for name, array in outputs.items()} for model, outputs in found.items()})
"""


def test_a_build_by_folder_manifest_id_and_name_gives_one_module_that_runs(desk: Desk) -> None:
    assert desk.run("build", "tiny.yaml", "--sdk", "emulator").returncode == 0
    manifest = json.loads((desk.folder / "out" / "tiny" / "manifest.json").read_text(encoding="utf-8"))
    texts = set()
    for build in ("out/tiny", "out/tiny/manifest.json", manifest["build_id"], "tiny"):
        done = desk.run("loader", build)
        assert (done.returncode, done.stdout) == (0, "tiny_loader.py\n"), done.stderr
        texts.add((desk.folder / "tiny_loader.py").read_text(encoding="utf-8"))
        (desk.folder / "tiny_loader.py").unlink()
    assert len(texts) == 1
    assert desk.run("loader", "tiny", "--store", "artifacts", "--out", "tiny_loader.py").returncode == 0
    ran = desk.run(command=[sys.executable, "-W", "error", "-c", PROGRAM])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{'left': {'scores': (32, 4)}, 'right': {'scores': (32, 6)}}"


@pytest.mark.parametrize("kind", ["device", "emulated"])
def test_mypy_finds_nothing_in_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "loader.py").write_text(render(device_manifest() if kind == "device" else make_manifest()), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "loader.py"],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
