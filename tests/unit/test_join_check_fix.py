"""`hefjoin check --fix`: what it writes, what it leaves alone, and the proof, which can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.errors import InputError
from hefjoin.joining.alone import run_alone
from hefjoin.joining.edit import edited
from hefjoin.joining.mend import Mend
from hefjoin.sdk.toolchain import resolve
from hefjoin.spec import ModelSpec
from hefjoin.spec_file import read_spec
from hefjoin.stages.proof import prove
from tests import steps, tiny
from tests.unit.test_join_check import ends_in_topk, models, normalizes, pair, rows, sized, takes_bytes

WRONG = """\
# my pair
name: tiny
models:
  - name: net   # the first
    source: left.onnx
    mean: [120]
    std: [60]
  - name: net
    source: right.onnx
    color: bgr
  - {name: third, source: third.onnx, color: rgb}
calibration:
  source: images.npy   # from the street
  count: 16
evaluation: {count: 16}
"""
MENDED = """\
# my pair
name: tiny
models:
  - name: net   # the first
    source: left.onnx
    mean: [120.0, 120.0, 120.0]
    std: [60.0, 60.0, 60.0]
    input_shape: [1, 3, 16, 16]
  - name: net_2
    source: right.onnx
    color: bgr
    start_nodes: [conv]
    end_nodes: [dense]
  - {name: third, source: third.onnx, color: rgb}
calibration:
  source: images.npy   # from the street
  count: 16
evaluation: {count: 4}
"""


@pytest.fixture(autouse=True)
def steps_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    steps.here(monkeypatch)


def fix(spec: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", "--sdk", "emulator", "--fix", str(spec), *arguments])


def figures(spec: Path, code: int = 0) -> dict[str, Any]:
    done = fix(spec, "--json")
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_can_be_mended_is_written_beside_with_its_comments_and_passes(tmp_path: Path) -> None:
    def odd(model: onnx.ModelProto) -> None:
        takes_bytes(model)
        ends_in_topk(model)

    spec = pair(tmp_path, odd)
    spec.write_text(WRONG)
    np.save(tmp_path / "images.npy", tiny.images(20))
    left = tiny.classifier(0, 4)
    sized(left, "N", 3, "h", "w")
    onnx.save(left, tmp_path / "left.onnx")
    tiny.write_model(tmp_path / "third.onnx", 5, 3)
    done = fix(spec)
    assert done.exit_code == 0, done.output
    assert spec.read_text() == WRONG
    assert (tmp_path / "tiny.fixed.yaml").read_text() == MENDED
    for part in ("+    start_nodes: [conv]", "-  - name: net\n", "Proof: output", "net_2: scores"):
        assert part in done.stdout
    assert done.stderr == ""
    assert rows(tmp_path / "tiny.fixed.yaml")


def test_a_normalization_in_the_graph_that_the_others_want_too_moves_to_the_shared_input(tmp_path: Path) -> None:
    same = {"mean": [127.5] * 3, "std": [127.5] * 3}
    left = {"name": "left", "source": "left.onnx", **same}
    spec = pair(tmp_path, normalizes, models=[left, {"name": "right", "source": "right.onnx"}])
    found = figures(spec)
    assert [each["field"] for each in found["mends"]] == [
        f"models[1].{field}" for field in ("start_nodes", "mean", "std")
    ]
    assert all(each["holds"] for each in found["proof"])
    assert {row["what"]: row["verdict"] for row in found["rows"]}["mean and std"] == "agrees"
    assert yaml.safe_load((tmp_path / "tiny.fixed.yaml").read_text())["models"][1]["start_nodes"] == ["conv"]


@pytest.mark.parametrize("right", [{"color": "bgr"}, {"mean": [0.0] * 3, "std": [255.0] * 3}, {}])
def test_the_proof_of_a_sound_pair_is_that_of_plain_onnx_runtime(tmp_path: Path, right: dict[str, Any]) -> None:
    spec = pair(tmp_path, models=models(**right))
    found = figures(spec)
    assert (found["mends"], found["written"]) == ([], None)
    assert [each["model"] for each in found["proof"]] == ["left", "right"]
    assert all(each["holds"] and each["frames"] == 8 for each in found["proof"])
    shown = tiny.images(32)[:8, :, :, :: -1 if "color" in right else 1].astype(np.float32)
    normalized = {**tiny.pair()["models"][1], **right}
    shown = (shown - np.float32(normalized["mean"])) / np.float32(normalized["std"])
    session = onnxruntime.InferenceSession(tmp_path / "right.onnx")
    exact = [session.run(None, {"image": frame.transpose(2, 0, 1)[None]})[0] for frame in shown]
    assert found["proof"][1]["largest_value"] == pytest.approx(np.abs(exact).max(), rel=1e-6)


def test_the_proof_fails_where_a_mend_changes_numbers(tmp_path: Path) -> None:
    original = read_spec(pair(tmp_path))
    for change in ({"color": "bgr"}, {"mean": []}):
        changed = original.models[1].model_copy(update=change)
        mended = original.model_copy(update={"models": [original.models[0], changed]})
        proved = prove(original, mended, resolve("emulator"), tmp_path / "cache")
        assert [each.holds for each in proved] == [True, False]


def test_what_cannot_be_proved_is_left_to_the_person_and_nothing_is_written(tmp_path: Path) -> None:
    spec = pair(tmp_path, lambda model: sized(model, 1, 3, 24, 24))
    done = fix(spec)
    assert done.exit_code == 2
    assert "nothing that can be mended in the spec" in done.stdout
    twice = pair(tmp_path / "twice", normalizes)
    assert figures(twice)["mends"] == []
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["tiny.yaml"]


def test_a_network_is_not_cut_in_its_middle(tmp_path: Path) -> None:
    def odd(model: onnx.ModelProto) -> None:
        model.graph.node[1].op_type = "Hardmax"

    found = figures(pair(tmp_path, odd), 2)
    assert (found["mends"], found["written"]) == ([], None)
    (row,) = (row for row in found["rows"] if row["what"] == "operators")
    assert row["remedy"] == (
        "right: end_nodes: [conv], which cuts off 1 nodes with weights; better export it without them"
    )


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    spec = pair(tmp_path, ends_in_topk)
    (tmp_path / "tiny.fixed.yaml").write_text("mine")
    for arguments, text in (
        ((), "exists and says something else"),
        (("--output", str(spec)), "is the spec itself"),
        (("--output", str(tmp_path / "elsewhere" / "x.yaml")), "lies elsewhere"),
    ):
        done = fix(spec, *arguments)
        assert (done.exit_code, text in done.stderr) == (2, True)
    assert (tmp_path / "tiny.fixed.yaml").read_text() == "mine"
    assert fix(spec, "--output", str(tmp_path / "good.yaml")).exit_code == 0
    assert rows(tmp_path / "good.yaml")
    (tmp_path / "folder.yaml").mkdir()
    done = fix(spec, "--output", str(tmp_path / "folder.yaml"))
    assert (done.exit_code, "cannot be written" in done.stderr) == (2, True)
    alone = CliRunner().invoke(main, ["check", str(spec), "--output", "x.yaml"])
    assert (alone.exit_code, "give both" in alone.stderr) == (2, True)


def test_a_json_spec_stays_json() -> None:
    text = json.dumps({"name": "a", "models": [{"name": "x"}]})
    assert json.loads(edited(text, [Mend(("models", 0, "mean"), [1.0], "")]))["models"][0] == {
        "name": "x",
        "mean": [1.0],
    }


def test_what_ruamel_cannot_edit_is_told_with_the_fields() -> None:
    with pytest.raises(InputError, match=r"cannot be edited .* mend by hand: models\[0\]\.mean"):
        edited("%YAML 9\n", [Mend(("models", 0, "mean"), [1.0], "")])
    assert "b: 2" in edited("a: 1\na: 3\nb: 1\n", [Mend(("b",), 2, "")])


def test_a_model_alone_is_run_from_its_start_nodes_in_batches_of_its_own(tmp_path: Path) -> None:
    model = tiny.classifier(1, 6)
    normalizes(model)
    sized(model, 4, 3, 16, 16)
    onnx.save(model, tmp_path / "right.onnx")
    frames = tiny.images(6)
    (scores,) = run_alone(tmp_path / "right.onnx", ModelSpec(name="r", source="r.onnx"), frames, "rgb", ["scores"])
    behind = ModelSpec(name="r", source="r.onnx", start_nodes=["conv"], mean=[127.5] * 3, std=[127.5] * 3)
    (again,) = run_alone(tmp_path / "right.onnx", behind, frames, "rgb", ["scores"])
    plain = onnxruntime.InferenceSession(tiny.classifier(1, 6).SerializeToString())
    shown = ((frames - np.float32(127.5)) / np.float32(127.5)).transpose(0, 3, 1, 2)
    exact = np.concatenate([plain.run(None, {"image": one[None]})[0] for one in shown])
    assert scores.shape == (6, 6)
    np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again, exact, rtol=1e-5, atol=1e-6)
