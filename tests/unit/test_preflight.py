"""What a spec is told before anything is started: all of it at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from hefjoin.errors import SpecError
from hefjoin.spec_file import read_spec
from hefjoin.stages.preflight import preflight
from tests.tiny import pair, write_pair


def test_a_sound_spec_passes(tmp_path: Path) -> None:
    preflight(read_spec(write_pair(tmp_path, pair(compile={"attempts": ["performance_param(fps=30)"]}))))


def test_what_is_missing_or_unreadable_is_told_together(tmp_path: Path) -> None:
    spec = pair(compile={"attempts": ["normalization([0], [1])"]}, script="no_such_command(1)")
    spec["models"][0]["script"] = "quantization_param({conv*}, precision_mode=a8_w8"
    spec["models"][0]["metric"] = "no_such_package:f"
    path = write_pair(tmp_path, spec)
    (tmp_path / "right.onnx").unlink()
    with pytest.raises(SpecError) as caught:
        preflight(read_spec(path))
    places = [problem.path for problem in caught.value.problems]
    for place in ("models[1].source", "models[0].metric", "models[0].script:", "script:1:1", "compile.attempts[0]"):
        assert any(found.startswith(place) for found in places), (place, places)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    (tmp_path / "right.onnx").unlink()
    (tmp_path / "right.onnx").mkdir()
    with pytest.raises(SpecError, match=r"models\[1\].source: .*is a folder"):
        preflight(read_spec(path))
