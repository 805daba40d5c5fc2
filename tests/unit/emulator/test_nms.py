"""Boxes on the host: against the runtime's procedure written out in loops, for one pixel and one pair at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, network, node, normal

from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.emulator import ClientRunner, InferenceContext, JoinAction, exceptions
from hefjoin.formats import hef

HEIGHT, WIDTH, CLASSES, BINS = 16, 24, 3, 4
STRIDES = (4, 8)
COMMAND = 'nms_postprocess("nms.json", meta_arch=yolov8, engine=cpu)'


def detector(seed: int = 0) -> onnx.ModelProto:
    """Two pairs of heads on an image: distances of four sides in bins, and scores between 0 and 1."""
    nodes, weights, outputs = [], {}, []
    for stride in STRIDES:
        for name, features, spread in (("reg", 4 * BINS, 0.02), ("cls", CLASSES, 0.015)):
            key = f"{name}{stride}"
            weights[f"{key}_w"] = normal(features, 3, stride, stride, seed=seed, spread=spread / stride)
            nodes.append(
                node("Conv", f"x {key}_w", key, strides=[stride, stride], kernel_shape=[stride, stride])
            )  # fmt: skip
            outputs.append(key)
        nodes.append(node("Sigmoid", f"cls{stride}", f"score{stride}"))
        outputs[-1] = f"score{stride}"
    return network(nodes, weights, {"x": ("N", 3, HEIGHT, WIDTH)}, outputs)


def config(runner: ClientRunner, **changes: Any) -> dict[str, Any]:
    order = runner.get_hn_dict()["net_params"]["output_layers_order"]
    decoders = [
        {"name": f"bbox_decoder{i}", "stride": stride, "reg_layer": order[2 * i], "cls_layer": order[2 * i + 1]}
        for i, stride in enumerate(STRIDES)
    ]
    return {
        "nms_scores_th": 0.6, "nms_iou_th": 0.5, "image_dims": [HEIGHT, WIDTH], "max_proposals_per_class": 7,
        "classes": CLASSES, "regression_length": BINS, "background_removal": False, "bbox_decoders": decoders,
    } | changes  # fmt: skip


def loaded(folder: Path, command: str = COMMAND, **changes: Any) -> ClientRunner:
    """Return a detector with its script loaded from a file beside its configuration."""
    runner = runners.parsed(detector(), folder)
    (folder / "nms.json").write_text(json.dumps(config(runner, **changes)))
    (folder / "net.alls").write_text(command)
    runner.load_model_script(folder / "net.alls")
    return runner


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def candidates(outputs: list[Array], settings: dict[str, Any]) -> list[tuple[float, int, Array]]:
    """Return (score, class, box) of every pixel and class at or above the threshold."""
    found = []
    for index, stride in enumerate(STRIDES):
        distances, scores = outputs[2 * index], outputs[2 * index + 1]
        for row, column, label in np.argwhere(scores >= np.float32(settings["nms_scores_th"])):
            left, top, right, bottom = (
                np.dot(softmax(distances[row, column, side * BINS :][:BINS].astype(np.float64)), np.arange(BINS))
                for side in range(4)
            )
            y, x = row + 0.5, column + 0.5
            box = (
                np.array([(y - top) / HEIGHT, (x - left) / WIDTH, (y + bottom) / HEIGHT, (x + right) / WIDTH]) * stride
            )
            found.append((float(scores[row, column, label]), int(label), box))
    return sorted(found, key=lambda item: -item[0])


def overlap(one: Array, other: Array) -> float:
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(height * width / (sum(areas) - height * width))


def expected(outputs: list[Array], settings: dict[str, Any]) -> Array:
    """Return what the runtime gives for one frame: float, (classes, 5, boxes)."""
    most = settings["max_proposals_per_class"]
    made = np.zeros((settings["classes"], 5, most))
    for label in range(settings["classes"]):
        kept: list[tuple[float, Array]] = []
        for score, other, box in candidates(outputs, settings):
            if other == label and all(overlap(box, known) < settings["nms_iou_th"] for _, known in kept):
                kept.append((score, box))
        for place, (score, box) in enumerate(kept[:most]):
            made[label, :, place] = [*box, score]
    return made


FRAMES = graphs.frames(4, HEIGHT, WIDTH)


def heads(model: onnx.ModelProto) -> list[list[Array]]:
    """Return, for each frame, every output of ONNX Runtime as (height, width, features)."""
    runs = [graphs.run(model, graphs.nchw(frame[np.newaxis])) for frame in FRAMES]
    return [[array[0].transpose(1, 2, 0) for array in arrays] for arrays in runs]


SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "few per class": {"max_proposals_per_class": 1},
    "more than there are": {"max_proposals_per_class": 50},
    "all scores": {"nms_scores_th": 0.0, "max_proposals_per_class": 40},
    "nothing good enough": {"nms_scores_th": 1.0},
    "hardly an overlap": {"nms_iou_th": 1e-6},
    "any overlap": {"nms_iou_th": 1.0},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_boxes_are_those_of_the_runtime(case: str, tmp_path: Path) -> None:
    runner = loaded(tmp_path, **SETTINGS[case])
    settings = config(runner, **SETTINGS[case])
    runner.optimize_full_precision()
    (found,) = runners.infer(runner, FRAMES, "SDK_FP_OPTIMIZED")
    wanted = np.stack([expected(outputs, settings) for outputs in heads(detector())])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    counts = (wanted[:, :, 4] > 0).sum(axis=-1)
    assert (counts.max() > 0) == (case != "nothing good enough")


def test_the_quantized_network_gives_boxes_of_its_own_outputs(tmp_path: Path) -> None:
    """The same boxes as from the outputs of the network that was quantized without the script."""
    plain = runners.quantized(detector(), tmp_path, FRAMES)
    outputs = runners.infer(plain, FRAMES, "SDK_QUANTIZED")
    runner = loaded(tmp_path)
    runner.optimize(FRAMES)
    (found,) = runners.infer(runner, FRAMES, "SDK_QUANTIZED")
    settings = config(plain)
    wanted = [expected([array[i] for array in outputs], settings)[:, 4] for i in range(len(FRAMES))]
    np.testing.assert_allclose(found[:, :, 4], np.stack(wanted), atol=1e-6)


def test_the_command_may_change_the_configuration(tmp_path: Path) -> None:
    command = 'nms_postprocess("nms.json", yolov8, nms_scores_th=0.7, nms_iou_th=0.3)'
    said, changed = tmp_path / "said", tmp_path / "changed"
    said.mkdir()
    changed.mkdir()
    both = [loaded(said, command), loaded(changed, nms_scores_th=0.7, nms_iou_th=0.3)]
    for runner in both:
        runner.optimize_full_precision()
    first, second = (runners.infer(runner, FRAMES, "SDK_FP_OPTIMIZED")[0] for runner in both)
    np.testing.assert_array_equal(first, second)


def test_the_hn_has_one_output_instead_of_four(tmp_path: Path) -> None:
    runner = loaded(tmp_path)
    feeding = runner.get_hn_dict()["net_params"]["output_layers_order"]
    runner.optimize_full_precision()
    view = runner.get_hn_dict()
    assert view["net_params"]["output_layers_order"] == ["net/yolov8_nms_postprocess"]
    made = view["layers"]["net/yolov8_nms_postprocess"]
    assert (made["type"], made["output_shapes"]) == ("postprocess", [[-1, CLASSES, 5, 7]])
    assert sorted(made["input"]) == sorted(feeding)
    assert [name for name, layer in view["layers"].items() if layer["type"] == "output_layer"] == made["output"]
    for name in feeding:
        assert view["layers"][name]["output"] == ["net/yolov8_nms_postprocess"]


def test_the_configuration_travels_in_the_har(tmp_path: Path) -> None:
    runner = loaded(tmp_path)
    runner.optimize(FRAMES)
    runner.save_har(tmp_path / "net.har")
    (tmp_path / "nms.json").unlink()
    again = ClientRunner(har=tmp_path / "net.har")
    np.testing.assert_array_equal(
        runners.infer(again, FRAMES, "SDK_QUANTIZED")[0], runners.infer(runner, FRAMES, "SDK_QUANTIZED")[0]
    )
    again.load_model_script(again.model_script)


def test_in_a_joined_network_only_its_models_outputs_go(tmp_path: Path) -> None:
    runner = runners.parsed(detector(), tmp_path)
    other = graphs.small_net()
    other.graph.input[0].type.tensor_type.shape.dim[2].dim_value = HEIGHT
    other.graph.input[0].type.tensor_type.shape.dim[3].dim_value = WIDTH
    settings = config(runner)
    runner.join(runners.parsed(other, tmp_path, "other"), join_action=JoinAction.AUTO_JOIN_INPUTS)
    (tmp_path / "nms.json").write_text(json.dumps(settings))
    runner.load_model_script(COMMAND.replace("nms.json", str(tmp_path / "nms.json")))
    runner.optimize_full_precision()
    boxes, features = runners.infer(runner, FRAMES, "SDK_FP_OPTIMIZED")
    assert runner.get_hn_dict()["net_params"]["output_layers_order"] == ["net/yolov8_nms_postprocess", "other/conv2"]
    np.testing.assert_allclose(boxes, np.stack([expected(o, settings) for o in heads(detector())]), atol=1e-5)
    assert features.shape == (len(FRAMES), HEIGHT, WIDTH, 4)


def test_frames_may_come_in_batches(tmp_path: Path) -> None:
    runner = loaded(tmp_path)
    runner.optimize_full_precision()
    (single,) = runners.infer(runner, FRAMES, "SDK_FP_OPTIMIZED")
    with runner.infer_context(InferenceContext.SDK_FP_OPTIMIZED) as context:
        (found,) = context.session.run(None, {"net/input_layer1": graphs.nchw(FRAMES)})
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), single)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scores": ({"nms_scores_th": 2}, "nms_scores_th: a number of at least 0 and at most 1.0 is needed, not 2"),
    "no overlap": ({"nms_iou_th": None}, "nms_iou_th: a number"),
    "any overlap": ({"nms_iou_th": 0}, "nms_iou_th: 0 counts boxes apart as overlapping"),
    "classes": ({"classes": 80}, r"have 16 and 3 features; 4 x regression_length is 16 and classes is 80"),
    "bins": ({"regression_length": 16}, "4 x regression_length is 64"),
    "boxes": ({"max_proposals_per_class": 0}, "max_proposals_per_class: a whole number above zero is needed, not 0"),
    "image": ({"image_dims": 640}, r"image_dims: \[height, width\] is needed, not 640"),
    "background": ({"background_removal": True}, "background_removal: not emulated"),
    "no decoders": ({"bbox_decoders": []}, "a list of decoders is needed"),
    "not an object": ({"bbox_decoders": [1]}, r"bbox_decoders\[0\]: an object is needed"),
    "a layer that is none": (
        {"bbox_decoders": [{"stride": 4, "reg_layer": "conv9", "cls_layer": ""}]},
        r"bbox_decoders\[0\].reg_layer: 'conv9' feeds no output; .*bbox_decoders\[0\].cls_layer: '' feeds no output",
    ),
    "two sizes": (
        {"bbox_decoders": [{"stride": 4, "reg_layer": "net/conv1", "cls_layer": "net/conv4"}]}, "of two sizes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_is_refused_with_what_is_wrong(case: str, tmp_path: Path) -> None:
    changes, message = WRONG[case]
    with pytest.raises(exceptions.AllocatorScriptParserException, match=message):
        loaded(tmp_path, **changes)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (COMMAND.replace("yolov8", "ssd"), "meta_arch ssd: the emulator has yolov8"),
        (COMMAND.replace("=cpu", "=nn_core"), "engine nn_core: the emulator has it on the host"),
        (COMMAND.replace(")", ", bbox_decoding_only=True)"), "bbox_decoding_only: not emulated"),
        (f"{COMMAND}\n{COMMAND}", "takes an output that another command has taken"),
    ],
)
def test_what_is_not_emulated_is_refused(command: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(exceptions.AllocatorScriptParserException, match=message):
        loaded(tmp_path, command)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    runner = runners.parsed(detector(), tmp_path)
    with pytest.raises(exceptions.InvalidArgumentsException, match=r"nms.json cannot be read: No such file"):
        runner.load_model_script(COMMAND)


def test_the_emulated_hef_gives_the_boxes_that_the_simulation_gave(tmp_path: Path) -> None:
    runner = loaded(tmp_path)
    runner.optimize(FRAMES.astype(np.uint8))
    path = tmp_path / "net.hef"
    path.write_bytes(runner.compile())
    np.save(tmp_path / "frames.npy", FRAMES.astype(np.uint8))
    found = hef.read(path, verify=True).groups[0]
    assert [op.kind for op in found.host_ops] == ["YOLOV8"]
    ((name, boxes),) = EmulatedDevice().outputs(path, tmp_path / "frames.npy").items()
    assert (name, boxes.shape[1:]) == ("net/yolov8_nms_postprocess", found.outputs[0].shape)
    np.testing.assert_allclose(boxes, runners.infer(runner, FRAMES, "SDK_QUANTIZED")[0], atol=1e-6)
