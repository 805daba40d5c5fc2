"""The names of layers, beside those of outputs in published HEFs.

The detectors are rebuilt as the order of their layers; how many convolutions each part has was counted by hand.
"""

from __future__ import annotations

from pathlib import Path

import graphs
import onnx
import pytest
from graphs import Array, network, node, normal

from hefjoin.emulator import hn
from hefjoin.emulator.translate import translate


class Detector:
    """A detector reduced to the order of its layers: one pixel size, three channels, the real names of its nodes."""

    def __init__(self, convolutions: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {"same": normal(4) * 0 + 1}
        self.trunk = self.chain("x", [f"/model.{index // 10}/{index}/Conv" for index in range(convolutions)])

    def layer(self, source: str, name: str, channels: int = 3) -> str:
        """Add the layer of one node; the name's last part, without an exporter's number, is its operator."""
        operator = name.rpartition("/")[2].partition("_")[0]
        result = f"t{len(self.nodes)}"
        if operator == "Resize":
            self.nodes.append(node(operator, f"{source} _ same", result, name))
            return result
        kernel = f"w{len(self.nodes)}"
        is_depthwise = "/dw" in name
        self.weights[kernel] = normal(3, 1 if is_depthwise else channels, 3, 3)
        padded = {"pads": [1, 1, 1, 1], "group": 3 if is_depthwise else 1}
        self.nodes.append(node(operator, f"{source} {kernel}", result, name, **padded))
        return result

    def chain(self, source: str, names: list[str]) -> str:
        """Add layers one behind the other."""
        for name in names:
            source = self.layer(source, name)
        return source

    def next_scale(self, source: str, model: int, convolutions: int) -> str:
        """Add a neck's way to the next scale: a convolution, a concatenation with the trunk, more convolutions."""
        down = self.layer(source, f"/model.{model}/conv/Conv")
        both = f"t{len(self.nodes)}"
        self.nodes.append(node("Concat", f"{down} {self.trunk}", both, f"/model.{model + 1}/Concat", axis=1))
        first = self.layer(both, f"/model.{model + 2}/cv0/Conv", channels=6)
        return self.chain(first, [f"/model.{model + 2}/cv{index}/Conv" for index in range(1, convolutions)])

    def output_names(self, outputs: list[str], folder: Path) -> list[str]:
        """Return what feeds the outputs."""
        model = network(self.nodes, self.weights, outputs=outputs)
        view = hn.build(translate(graphs.save(model, folder), "net"), "net")
        return [name.removeprefix("net/") for name in view["net_params"]["output_layers_order"]]


V8, DEPTHWISE = ("0/conv/Conv", "1/conv/Conv", "2/Conv"), ("0/dw/Conv", "0/pw/Conv", "1/dw/Conv", "1/pw/Conv", "2/Conv")
PROTO = ("cv1/conv/Conv", "upsample/ConvTranspose", "cv2/conv/Conv", "cv3/conv/Conv")


@pytest.mark.parametrize(
    ("trunk", "blocks", "heads", "has_masks", "numbers"),
    [
        (35, (4, 4), {"cv2": V8, "cv3": V8}, False, [41, 42, 52, 53, 62, 63]),
        (35, (4, 4), dict.fromkeys(("cv2", "cv3", "cv4"), V8), False, [43, 44, 45, 57, 58, 59, 70, 71, 72]),
        (35, (4, 4), dict.fromkeys(("cv2", "cv3", "cv4"), V8), True, [44, 45, 46, 60, 61, 62, 73, 74, 75, 48]),
        (47, (4, 9), {"cv2": V8, "cv3": DEPTHWISE}, False, [51, 54, 62, 65, 77, 80]),
    ],
    ids=["yolov8", "yolov8-pose", "yolov8-seg", "yolov11"],
)
def test_outputs_are_numbered_as_in_the_published_hefs(
    trunk: int, blocks: tuple[int, int], heads: dict[str, tuple[str, ...]], has_masks: bool, numbers: list[int],
    tmp_path: Path,
) -> None:  # fmt: skip
    detector = Detector(trunk)
    scales = [detector.trunk]
    for model, convolutions in zip((16, 19), blocks, strict=True):
        scales.append(detector.next_scale(scales[-1], model, convolutions))
    masks = [detector.chain(scales[0], [f"/model.22/proto/{step}" for step in PROTO])] if has_masks else []
    outputs = [
        detector.chain(scale, [f"/model.22/{head}.{index}/{head}.{index}.{step}" for step in steps])
        for index, scale in enumerate(scales)
        for head, steps in heads.items()
    ]
    assert detector.output_names([*outputs, *masks], tmp_path) == [f"conv{number}" for number in numbers]


def test_outputs_of_yolov5_segmentation_are_numbered_as_in_its_hef(tmp_path: Path) -> None:
    detector = Detector(45)
    scales = [detector.trunk]
    for model in (18, 21):
        scales.append(detector.next_scale(scales[-1], model, 5))
    masks = detector.chain(scales[0], ["/proto/Conv_1", "/proto/Resize_2", "/proto/Conv_3", "/proto/Conv_4"])
    outputs = [detector.layer(scale, f"/proto/Conv_{index}") for index, scale in enumerate(scales, 5)]
    assert detector.output_names([*outputs, masks], tmp_path) == ["conv48", "conv55", "conv61", "conv63"]


def test_outputs_of_yolov5_personface_are_numbered_as_in_its_hef(tmp_path: Path) -> None:
    detector = Detector(53)
    scales = [detector.trunk]
    for model in (18, 21):
        scales.append(detector.next_scale(scales[-1], model, 6))
    outputs = [detector.layer(scale, f"/model.24/m.{index}/Conv") for index, scale in enumerate(scales)]
    assert detector.output_names(outputs, tmp_path) == ["conv55", "conv63", "conv70"]


def test_outputs_of_yolox_are_numbered_as_in_its_hef(tmp_path: Path) -> None:
    detector = Detector(47)
    scales = [detector.trunk]
    for model in (18, 21):
        scales.append(detector.next_scale(scales[-1], model, 5))
    outputs = []
    for index, scale in enumerate(scales):
        stem = detector.layer(scale, f"/head/stems.{index}/Conv")
        ends = {
            branch: detector.chain(stem, [f"/head/{branch}_convs.{index}/{step}/Conv" for step in range(2)])
            for branch in ("cls", "reg")
        }
        preds = {"cls": "cls", "obj": "reg", "reg": "reg"}
        outputs += [detector.layer(ends[preds[name]], f"/head/{name}_preds.{index}/Conv") for name in preds]
    names = sorted(detector.output_names(outputs, tmp_path))
    assert names == [f"conv{number}" for number in (54, 55, 56, 68, 69, 70, 81, 82, 83)]


def test_each_type_has_its_own_word_and_counter(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x c", "a"), node("Relu", "a", "r"), node("Mul", "r k", "m"), node("Add", "m r", "s"),
        node("Conv", "s d", "b"), node("GlobalAveragePool", "b", "g"), node("Flatten", "g", "f"),
        node("MatMul", "f one", "h"), node("Relu", "h", "i"), node("MatMul", "i two", "y"),
    ]  # fmt: skip
    weights = {"c": normal(4, 3, 3, 3), "d": normal(4, 4, 3, 3), "k": normal(1, 4, 1, 1)}
    weights |= {"one": normal(4, 4), "two": normal(4, 2)}
    layers = translate(graphs.save(network(nodes, weights), tmp_path), "net").layers
    assert [layer.name for layer in layers] == ["conv1", "mul_and_add1", "ew_add1", "conv2", "avgpool1", "fc1", "fc2"]
