"""What the manifest says of deploying a HEF: from the HEF what is of the chip, from the joined HAR what is a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hefjoin.artifacts import Ref
from hefjoin.formats import hef
from hefjoin.results.compiled import HefStream
from hefjoin.results.networks import Joined, Network, Tensor
from hefjoin.stages.deployment import deployment

REAL_HEFS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hef"


def joined(*outputs: tuple[str, str]) -> Joined:
    """The joined network whose outputs are (layer, original name) pairs."""
    tensors = tuple(Tensor(layer=layer, original_name=original, shape=(9,)) for layer, original in outputs)
    network = Network(
        har=Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media="har"),
        scopes=("left", "right"),
        state="hailo_model",
        hw_arch="hailo8",
        sdk_version="3.33.0",
        inputs=(Tensor(layer="left/input_layer1", original_name="image", shape=(16, 16, 3)),),
        outputs=tensors,
        layers=(),
    )
    return Joined(
        name="joined_left_right",
        network=network,
        input_layer="left/input_layer1",
        output_layers=tuple(layer for layer, _ in outputs),
        equality=(),
    )


PAIR = joined(("left/fc1", "scores"), ("right/conv7", "mask"))


@pytest.fixture
def pair_hef(tmp_path: Path) -> hef.Hef:
    """A HEF of `PAIR` that sorts its outputs the other way round and gives the mask 16 bits."""
    content = hef.write_emulated(
        group="joined_left_right",
        networks=["left_right"],
        inputs=[hef.Edge("left/input_layer1", (16, 16, 3))],
        outputs=[
            hef.Edge("right/conv7", (4, 4, 2), data_bytes=2, zero_point=300.0, scale=0.25),
            hef.Edge("left/fc1", (5,), zero_point=7.0, scale=0.5, original_names=("Gemm_9",)),
        ],
        contexts=1,
        sdk_version="3.33.0-emulator",
        resources={},
    )
    (tmp_path / "pair.hef").write_bytes(content)
    return hef.read(tmp_path / "pair.hef")


def test_numbers_are_those_of_the_hef_and_names_those_of_the_har(pair_hef: hef.Hef) -> None:
    found = deployment(pair_hef, PAIR, "hailo8")
    assert (found.group, found.sdk_version, found.hw_arch) == ("joined_left_right", "3.33.0-emulator", "hailo8")
    assert found.input == HefStream(
        name="left/input_layer1", model="", original_name="image", shape=(16, 16, 3), dtype="UINT8", order="NHWC",
        scale=1.0, zero_point=0.0,
    )  # fmt: skip
    assert found.outputs == (
        HefStream(
            name="right/conv7", model="right", original_name="mask", shape=(4, 4, 2), dtype="UINT16", order="NHWC",
            scale=0.25, zero_point=300.0,
        ),
        HefStream(
            name="left/fc1", model="left", original_name="scores", shape=(5,), dtype="UINT8", order="NC",
            scale=0.5, zero_point=7.0,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sdk_version", "is_emulated", "least_hailort"),
    [("3.33.1", False, "4.23"), ("3.30.0", False, "4.20"), ("3.99.0", False, ""), ("3.33.0-emulator", True, "")],
)
def test_the_least_hailort_is_the_one_published_with_the_compiler(
    pair_hef: hef.Hef, sdk_version: str, is_emulated: bool, least_hailort: str
) -> None:
    listed = replace(pair_hef, sdk_version=sdk_version, is_emulated=is_emulated)
    assert deployment(listed, PAIR, "hailo8l").least_hailort == least_hailort


def test_what_post_processing_puts_in_the_place_of_an_output_belongs_to_its_scope() -> None:
    path = REAL_HEFS / "takumi_yolov8n.hef"
    if not path.is_file():
        pytest.skip("no HEF of the vendor's compiler here")
    found = deployment(hef.read(path), joined(("yolov8n/conv41", "reg"), ("yolov8n/conv42", "cls")), "hailo8")
    (boxes,) = found.outputs
    assert (boxes.name, boxes.model, boxes.original_name) == ("yolov8n/yolov8_nms_postprocess", "yolov8n", "")
    assert (boxes.shape, boxes.dtype, boxes.order) == ((110, 5, 100), "FLOAT32", "HAILO NMS BY CLASS")
