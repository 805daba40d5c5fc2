"""`hefjoin check`: every way in which engineers get a shared input wrong, in one table, without a build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from flows.cli import main
from tests import steps, tiny

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def steps_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    steps.here(monkeypatch)


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", "--sdk", "emulator", *map(str, arguments)])


def rows(spec: Path, code: int = 0) -> dict[str, Row]:
    """Return the rows by what they are about; the command ended with `code`."""
    done = check(spec, "--json")
    assert done.exit_code == code, done.output
    found = json.loads(done.stdout)
    assert found["passes"] is (code == 0)
    return {row["what"]: row for row in found["rows"]}


def failing(found: dict[str, Row]) -> list[str]:
    return [what for what, row in found.items() if row["verdict"] == "fails"]


def values(row: Row) -> list[str]:
    return [value for _, value in row["values"]]


def pair(folder: Path, change: Callable[[onnx.ModelProto], None] | None = None, **spec: Any) -> Path:
    """Write the tiny pair, its right model changed."""
    path = tiny.write_pair(folder, tiny.pair(**spec))
    if change is not None:
        model = tiny.classifier(1, 6)
        change(model)
        onnx.save(model, folder / "right.onnx")
    return path


def models(**right: Any) -> list[dict[str, Any]]:
    """Return the models of the tiny spec, fields of the right one changed."""
    left, other = tiny.pair()["models"]
    return [left, {**other, **right}]


def in_front(model: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: Any) -> None:
    """Put nodes from `image` to `shown` before the first convolution."""
    for node in model.graph.node:
        node.input[:] = ["shown" if name == "image" else name for name in node.input]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))


def sized(model: onnx.ModelProto, *shape: int | str) -> None:
    """Give the input another shape, and leave the output's open."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, shape, strict=True):
        dim.Clear()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = size
    model.graph.output[0].type.tensor_type.shape.dim[0].Clear()


def channels_last(model: onnx.ModelProto) -> None:
    in_front(model, helper.make_node("Transpose", ["image"], ["shown"], "turn", perm=[0, 3, 1, 2]))
    sized(model, 1, 16, 16, 3)


def normalizes(model: onnx.ModelProto) -> None:
    in_front(
        model,
        helper.make_node("Sub", ["image", "offset"], ["centred"], "sub"),
        helper.make_node("Div", ["centred", "spread"], ["shown"], "div"),
        offset=np.full((1, 3, 1, 1), 127.5),
        spread=np.full((1, 3, 1, 1), 127.5),
    )


def takes_bytes(model: onnx.ModelProto) -> None:
    in_front(model, helper.make_node("Cast", ["image"], ["shown"], "cast", to=TensorProto.FLOAT))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def ends_in_topk(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("TopK", ["scores", "k"], ["best", "index"], "topk"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "k"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.FLOAT, [1, 2]))


def test_a_sound_pair_agrees_on_everything_and_nothing_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a parse was started for a file whose header says all")

    monkeypatch.setattr("hefjoin.stages.parse.run_step", refuse)
    found = rows(pair(tmp_path))
    assert {what for what, row in found.items() if row["verdict"] != "agrees"} == {"outputs"}
    assert values(found["input shape (height, width, channels)"]) == ["16 × 16 × 3"] * 2
    assert values(found["values at the first layer"]) == ["-2 … 2.63"] * 2
    assert found["calibration set"]["values"] == [["calibration set", "16 frames, uint8, 0 … 255"]]


@pytest.mark.parametrize(
    ("change", "what", "value"),
    [
        (channels_last, "layout of the file's input", "NHWC"),
        (lambda model: sized(model, "N", 3, 16, 16), "batch", "open (N)"),
        (lambda model: sized(model, 4, 3, 16, 16), "batch", "4"),
    ],
)
def test_what_the_build_handles_is_told_and_passes(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], what: str, value: str
) -> None:
    row = rows(pair(tmp_path, change))[what]
    assert row["verdict"] == "handled"
    assert values(row)[1] == value
    assert row["notes"]


def test_sizes_that_differ_fail_with_both(tmp_path: Path) -> None:
    found = rows(pair(tmp_path, lambda model: sized(model, 1, 3, 24, 32)), 2)
    assert failing(found) == ["input shape (height, width, channels)"]
    assert values(found["input shape (height, width, channels)"]) == ["16 × 16 × 3", "24 × 32 × 3"]


def test_a_grey_network_beside_a_color_one_is_told_how_it_may_join(tmp_path: Path) -> None:
    def grey(model: onnx.ModelProto) -> None:
        kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel).mean(axis=1, keepdims=True), "w"))
        sized(model, 1, 1, 16, 16)

    found = rows(pair(tmp_path, grey, models=models(mean=[], std=[])), 2)
    assert failing(found) == ["input shape (height, width, channels)"]
    assert "export the grey one" in found["input shape (height, width, channels)"]["remedy"]


def test_another_color_and_normalization_are_handled_each_in_its_graph(tmp_path: Path) -> None:
    found = rows(pair(tmp_path, models=models(color="bgr", mean=[0.0] * 3, std=[255.0] * 3)))
    assert (found["color"]["verdict"], found["mean and std"]["verdict"]) == ("handled", "handled")
    assert values(found["mean and std"]) == ["mean [120, 115, 105], std [60, 58, 57]", "mean 0, std 255"]


def test_a_network_that_normalizes_by_itself_is_seen_and_twice_is_told(tmp_path: Path) -> None:
    twice = rows(pair(tmp_path, normalizes))["values at the first layer"]
    assert twice["verdict"] == "look"
    assert values(twice)[1] == "-1.02 … -0.979, sub and div in its graph"
    assert "right normalizes in its own graph (sub and div), and the spec does it before" in twice["notes"]
    once = rows(pair(tmp_path, normalizes, models=models(mean=[], std=[])))["values at the first layer"]
    assert (once["verdict"], values(once)[1]) == ("agrees", "-1 … 1, sub and div in its graph")


def test_mean_and_std_of_frames_of_0_to_1_are_told_with_those_to_write(tmp_path: Path) -> None:
    spec = pair(tmp_path, models=models(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]))
    row = rows(spec)["values at the first layer"]
    assert row["verdict"] == "look"
    assert row["remedy"] == "right: write mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]"


def test_one_raw_network_beside_a_normalized_one_is_told(tmp_path: Path) -> None:
    row = rows(pair(tmp_path, models=models(mean=[], std=[])))["values at the first layer"]
    assert (row["verdict"], values(row)[1]) == ("look", "0 … 255")


@pytest.mark.parametrize(("opset", "verdict"), [(9, "handled"), (21, "handled"), (99, "fails")])
def test_an_opset_is_converted_or_refused(tmp_path: Path, opset: int, verdict: str) -> None:
    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = opset

    row = rows(pair(tmp_path, older), 2 if verdict == "fails" else 0)["opset"]
    assert (row["verdict"], values(row)) == (verdict, ["17", str(opset)])


def test_an_operator_without_a_layer_is_named_with_its_node_and_where_to_cut(tmp_path: Path) -> None:
    found = rows(pair(tmp_path, ends_in_topk), 2)
    assert failing(found) == ["operators"]
    assert values(found["operators"])[1] == "TopK (topk) unsupported"
    assert found["operators"]["remedy"] == "right: end_nodes: [dense]"
    assert rows(pair(tmp_path, ends_in_topk, models=models(end_nodes=["dense"])))


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    spec = pair(
        tmp_path,
        takes_bytes,
        models=[{"name": "left", "source": "left.onnx", "mean": [1.0]}, {"name": "right", "source": "right.onnx"},
                {"name": "third", "source": "nowhere.onnx"}, {"name": "fourth", "source": "text.onnx"},
                {"name": "fifth", "source": "large.onnx", "script": "nonsense("}],
        calibration={"source": "images.npy", "count": 16},
        evaluation={"source": "nowhere", "count": 4},
    )  # fmt: skip
    (tmp_path / "text.onnx").write_text("no model")
    tiny.write_model(tmp_path / "large.onnx", 3, 4, size=32)
    found = rows(spec, 2)
    assert failing(found) == [
        "file", "type of the input", "input shape (height, width, channels)", "mean and std", "model scripts",
        "evaluation set",
    ]  # fmt: skip
    assert "models[2].source" in found["file"]["remedy"]
    assert "text.onnx: no ONNX model" in found["file"]["remedy"]
    assert "input image is UINT8" in found["file"]["remedy"]
    assert found["mean and std"]["remedy"] == "models[0].mean: 1 value, input has 3 channels"
    assert values(found["input shape (height, width, channels)"]) == [
        "16 × 16 × 3", "16 × 16 × 3", "not known", "not known", "32 × 32 × 3",
    ]  # fmt: skip


def frames(folder: Path, array: Any) -> dict[str, Row]:
    spec = pair(folder)
    np.save(folder / "images.npy", array)
    return rows(spec)


@pytest.mark.parametrize(
    ("array", "note"),
    [
        (tiny.images(32) // 16, "all dark: mean"),
        (255 - tiny.images(32) // 16, "all bright: mean"),
        (100 + tiny.images(32) // 64, "hardly anything on them: deviation"),
        (tiny.images(32)[..., :1].repeat(3, axis=3), "grey images only, for an input of three channels"),
        (tiny.images(32)[[0] * 32], "15 of 16 frames are exact copies of an earlier one"),
        (tiny.images(20), "further"),
    ],
)
def test_frames_of_another_domain_are_told(tmp_path: Path, array: Any, note: str) -> None:
    found = frames(tmp_path, array)
    if note == "further":
        assert found["evaluation set"]["notes"] == ["16 frames asked for, 4 there: all of them are used"]
    else:
        assert found["calibration set"]["verdict"] == "look"
        assert any(each.startswith(note) for each in found["calibration set"]["notes"])


def test_frames_that_are_normalized_already_fail(tmp_path: Path) -> None:
    spec = pair(tmp_path)
    np.save(tmp_path / "images.npy", (tiny.images(32) / 255).astype(np.float32))
    assert failing(rows(spec, 2)) == ["calibration set"]


def test_small_and_long_pictures_are_told_by_their_sizes(tmp_path: Path) -> None:
    from PIL import Image

    spec = pair(tmp_path, calibration={"source": "folder", "count": 16})
    (tmp_path / "folder").mkdir()
    for index, frame in enumerate(tiny.images(4, size=8)):
        picture = Image.fromarray(frame)
        (picture if index else picture.resize((64, 16))).save(tmp_path / "folder" / f"{index}.png")
    assert rows(spec)["calibration set"]["notes"][1:] == [
        "3 of 4 images are smaller than 16 × 16 and are enlarged, the smallest from 8 × 8",
        "1 of 4 images lose more than 40% to cropping, up to 75%",
    ]


def test_labels_and_metrics_are_judged_as_in_a_build(tmp_path: Path) -> None:
    np.savez(tmp_path / "labelled.npz", images=tiny.images(4), left=np.array([0, 1, 9, 2]))
    spec = pair(tmp_path, evaluation={"source": "labelled.npz", "count": 4}, models=models(metric="top-9"))
    found = rows(spec, 2)
    assert failing(found) == ["metrics", "evaluation set"]
    assert found["metrics"]["remedy"] == "models[1].metric: top-9 is met by every label, found 6 scores"
    assert "left: found 9 in the labels of frame 2" in found["evaluation set"]["remedy"]


def parsed(folder: Path, name: str, scope: str, hw_arch: str = "hailo8", is_quantized: bool = False) -> None:
    """Make a HAR of a model in the folder."""
    runner = steps.SDK.ClientRunner(hw_arch=hw_arch)
    runner.translate_onnx_model(str(folder / f"{name}.onnx"), scope)
    if is_quantized:
        runner.optimize(tiny.images(4))
    runner.save_har(str(folder / f"{name}.har"))


def test_hars_differ_in_chip_and_state_and_all_of_it_is_told(tmp_path: Path) -> None:
    hars = [{**model, "source": f"{model['name']}.har"} for model in models()]
    spec = pair(tmp_path, models=hars)
    parsed(tmp_path, "left", "resnet", hw_arch="hailo8l", is_quantized=True)
    parsed(tmp_path, "right", "resnet")
    found = rows(spec, 2)
    assert failing(found) == ["file"]
    assert "left: the HAR was parsed for hailo8l, the spec is for hailo8" in found["file"]["remedy"]
    assert "left: the HAR is in state quantized_model" in found["file"]["remedy"]
    parsed(tmp_path, "left", "resnet")
    sound = rows(spec)
    assert values(sound["file"]) == ["HAR", "HAR"]
    assert (sound["scope"]["verdict"], values(sound["scope"])) == ("handled", ["resnet", "resnet"])


def test_a_har_that_would_need_a_convolution_in_front_is_refused(tmp_path: Path) -> None:
    spec = pair(tmp_path, models=models(source="right.har", color="bgr"))
    parsed(tmp_path, "right", "right")
    found = rows(spec, 2)
    assert failing(found) == ["file"]
    assert "is a HAR, whose graph cannot be changed" in found["file"]["remedy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "is not YAML"), (yaml.safe_dump(tiny.pair(models=models(name="left"))), "is also the name of")],
)
def test_a_spec_that_is_none_ends_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    done = check(tmp_path / "bad.yaml")
    assert (done.exit_code, message in done.stderr) == (2, True)
    assert "Traceback" not in done.output


def test_the_table_has_a_verdict_and_the_answer_in_words(tmp_path: Path) -> None:
    done = check(pair(tmp_path, lambda model: sized(model, 1, 3, 24, 24)))
    assert done.exit_code == 2
    text = " ".join(done.stdout.split())
    for part in ("left: 16 × 16 × 3", "the build would fail", "export the models for", "1 of 16 rows"):
        assert part in text
