"""What a person can get wrong: one clear message, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper

from tests.e2e.conftest import Desk, error_of
from tests.small_disk import command_on_small_disk
from tests.tiny import classifier, images, pair, write_model


def rewrite(desk: Desk, **changes: Any) -> None:
    (desk.folder / "tiny.yaml").write_text(yaml.safe_dump(pair(**changes)), encoding="utf-8")


def refusal(desk: Desk, code: int) -> str:
    """Return the message with which the build of the desk's spec ends."""
    message = error_of(desk.run("build", "tiny.yaml", "--sdk", "emulator"), code)
    assert desk.records("names") == []
    assert desk.records("builds") == []
    desk.require_nothing_half_written()
    assert not (desk.folder / "out").exists()
    assert desk.processes() == []
    return message


class TestSpec:
    def test_five_mistakes_are_listed_as_five(self, desk: Desk) -> None:
        models = [
            {"name": "left", "source": "left.onnx", "colour": "bgr"},
            {"name": "right", "source": "right.onnx", "mean": [1, 2, 3], "input_shape": [1, 1, 16, 16]},
        ]
        rewrite(desk, name="Tiny Pair", models=models, calibration={"count": 0}, gates={"min_fps": -1})
        message = refusal(desk, 2)
        assert message.startswith("tiny.yaml has 6 problems:")  # a count of 0 comes with a missing source
        for path in ("name", "models[0].colour", "models[1].mean", "calibration.source", "calibration.count",
                     "gates.min_fps"):  # fmt: skip
            assert f"  {path}: " in message

    def test_duplicate_names(self, desk: Desk) -> None:
        models = pair()["models"]
        models[1]["name"] = "Left"
        rewrite(desk, models=models)
        assert "models[1].name: 'Left' is also the name of models[0]" in refusal(desk, 2)

    def test_an_unknown_spec(self, desk: Desk) -> None:
        message = error_of(desk.run("build", "nowhere.yaml"), 2)
        assert "nowhere.yaml" in message
        assert "hefjoin example" in message

    def test_sources_that_are_not_there_are_listed_together(self, desk: Desk) -> None:
        (desk.folder / "left.onnx").unlink()
        (desk.folder / "images.npy").unlink()
        message = refusal(desk, 2)
        assert "models[0].source: " in message
        assert "calibration.source: " in message

    def test_a_mean_for_another_number_of_channels(self, desk: Desk) -> None:
        models = pair()["models"]
        models[1] |= {"mean": [1.0], "std": [2.0]}
        rewrite(desk, models=models)
        said = refusal(desk, 2)
        assert "the model right in the spec" in said
        assert "mean: 1 value, image has the shape [1, 3, 16, 16]" in said


def not_onnx(path: Path) -> None:
    path.write_bytes(b"this is no model at all, though its name says so\n" * 20)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


class TestModels:
    @pytest.mark.parametrize("spoil", [not_onnx, truncated, empty])
    def test_a_file_that_is_no_whole_model(self, desk: Desk, spoil: Callable[[Path], None]) -> None:
        spoil(desk.folder / "right.onnx")
        assert "right" in refusal(desk, 2)

    def test_an_unsupported_operator(self, desk: Desk) -> None:
        model = classifier(seed=1, classes=6)
        model.graph.node[1].CopyFrom(helper.make_node("Det", ["1"], ["2"], "strange"))
        onnx.save(model, desk.folder / "right.onnx")
        message = refusal(desk, 2)
        assert "right: " in message
        assert "Det (node strange)" in message
        assert "end_nodes" in message

    def test_inputs_of_different_shape(self, desk: Desk) -> None:
        write_model(desk.folder / "right.onnx", seed=1, classes=6, size=32)
        message = refusal(desk, 2)
        assert "left has 16 × 16 × 3, right has 32 × 32 × 3" in message
        assert "input_shape" in message


class TestCalibration:
    def test_an_empty_folder(self, desk: Desk) -> None:
        (desk.folder / "frames").mkdir()
        rewrite(desk, calibration={"source": "frames"})
        assert "frames" in refusal(desk, 2)

    def test_a_wrongly_shaped_array(self, desk: Desk) -> None:
        np.save(desk.folder / "images.npy", images(4, size=24))
        message = refusal(desk, 2)
        assert "24" in message
        assert "16" in message


class TestPlaces:
    def test_a_store_below_a_file(self, desk: Desk) -> None:
        done = desk.run("build", "tiny.yaml", "--sdk", "emulator", "--store", "left.onnx/store")
        assert "left.onnx" in error_of(done, 5)

    @pytest.mark.parametrize(("where", "size"), [("artifacts", "16k"), ("work", "16k"), ("work", "56k")])
    def test_a_full_disk(self, desk: Desk, where: str, size: str) -> None:
        build = desk.command("build", "tiny.yaml", "--sdk", "emulator")
        command = command_on_small_disk(build, desk.folder / where, size)
        message = error_of(desk.run(command=command), 5)
        assert "No space left on device" in message
        assert "free" in message.lower()
        assert not (desk.folder / "out").exists()
        assert desk.records("names") == []

    def test_a_prefect_server_that_is_not_there(self, desk: Desk) -> None:
        desk.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
        message = refusal(desk, 6)
        assert "PREFECT_API_URL=http://127.0.0.1:9/api does not answer" in message

    def test_a_python_without_the_compiler(self, desk: Desk) -> None:
        desk.environment["HEFJOIN_DFC_PYTHON"] = sys.executable
        message = error_of(desk.run("build", "tiny.yaml"), 6)
        assert "has no Dataflow Compiler" in message

    def test_a_compiler_that_is_not_configured(self, desk: Desk) -> None:
        assert "HEFJOIN_DFC_PYTHON" in error_of(desk.run("build", "tiny.yaml", "--sdk", "dfc"), 6)


def test_two_builds_at_once_both_succeed_with_numbers_of_their_own(embedded: Desk) -> None:
    builds = [embedded.start("build", "tiny.yaml", "--sdk", "emulator", "--json", "--force") for _ in range(2)]
    for each in builds:
        assert each.wait(240) == 0, embedded.stderr(each)
        assert "Traceback" not in embedded.stderr(each)
    assert [path.stem for path in embedded.records("names")] == ["000001", "000002"]
    ids = [json.loads((embedded.folder / f"out-{index}").read_text())["build_id"] for index in range(2)]
    named = [json.loads(path.read_text())["build_id"] for path in embedded.records("names")]
    assert sorted(named) == sorted(ids)
    embedded.require_nothing_half_written()
