"""A model that does its own preprocessing gives what it gave when the host did it, on real pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hefjoin.artifacts import Ref
from hefjoin.emulator import ClientRunner, InferenceContext
from hefjoin.errors import InputError, SpecError
from hefjoin.formats.preprocessing import Preprocessing, normalization, prepare, split
from hefjoin.results.sources import Sdk
from hefjoin.spec import BuildSpec, ModelSpec, validate_spec
from hefjoin.stages.contract import Stage
from hefjoin.stages.parse import Parse
from tests.tiny import pair

Array = npt.NDArray[Any]

IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
CAFFE = ([104.0, 117.0, 123.0], [1.0, 1.0, 1.0])
HALF = ([127.5] * 3, [127.5] * 3)
SIZE = 64
LARGEST_DIFFERENCE = 1e-6
"""Relative to the largest value."""


def model(**wanted: Any) -> ModelSpec:
    return ModelSpec(**{"name": "m", "source": "m.onnx", **wanted})


class TestSplit:
    def test_what_is_equal_is_shared_and_nobody_has_its_own(self) -> None:
        found = split([model(mean=[1, 2, 3], std=[4, 5, 6], color="bgr")] * 3)
        assert (found.color, found.own) == ("bgr", (None, None, None))
        assert found.shared == Preprocessing(mean=(1, 2, 3), std=(4, 5, 6))

    def test_normalizations_that_differ_are_each_models_own(self) -> None:
        found = split([model(), model(mean=[1, 2, 3]), model(std=[2, 2, 2])])
        assert (found.color, found.shared) == ("rgb", Preprocessing())
        assert found.own == (
            None,
            Preprocessing(mean=(1, 2, 3), std=(1, 1, 1)),
            Preprocessing(mean=(0, 0, 0), std=(2, 2, 2)),
        )

    def test_orders_that_differ_are_served_from_rgb(self) -> None:
        found = split([model(color="bgr", std=[2, 2, 2]), model()])
        assert found.color == "rgb"
        assert found.own == (Preprocessing(mean=(0, 0, 0), std=(2, 2, 2), reverses_channels=True), None)

    def test_one_normalization_in_two_orders_is_still_one(self) -> None:
        found = split([model(color="bgr", mean=[1, 2, 3], std=[4, 5, 6]), model(mean=[3, 2, 1], std=[6, 5, 4])])
        assert found.shared == Preprocessing(mean=(3, 2, 1), std=(6, 5, 4))
        assert found.own == (Preprocessing(reverses_channels=True), None)

    def test_equal_numbers_in_two_orders_are_two_normalizations(self) -> None:
        found = split([model(color="bgr", mean=[1, 2, 3]), model(mean=[1, 2, 3])])
        assert found.shared == Preprocessing()
        assert None not in found.own

    @pytest.mark.parametrize("wanted", [{}, {"mean": [0, 0, 0]}, {"std": [1, 1, 1]}, {"mean": [0] * 3, "std": [1] * 3}])
    def test_what_changes_nothing_is_no_normalization(self, wanted: dict[str, Any]) -> None:
        assert normalization(model(**wanted)) == ((), ())

    def test_a_mean_left_out_equals_a_mean_of_zeros(self) -> None:
        assert split([model(std=[2, 2, 2]), model(mean=[0, 0, 0], std=[2, 2, 2])]).own == (None, None)


@cache
def photos() -> Array:
    """Return real pictures, float32, shape (frames, height, width, channels), 0–255, RGB."""
    from skimage import data

    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    return np.stack([picture[100 : 100 + SIZE, 100 : 100 + SIZE] for picture in pictures]).astype(np.float32)


def network(front: str = "NCHW", ir_version: int = 8) -> onnx.ModelProto:
    """Return a padded convolution and a pooling; `front`: `NCHW`, `NHWC` (a Transpose) or `NHWC scaled` (before it)."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.3, (4, 3, 3, 3)), "b": rng.normal(0, 0.3, 4), "k": np.array(0.5)}
    nodes = {
        "NCHW": [],
        "NHWC": [helper.make_node("Transpose", ["image"], ["x"], "turn", perm=[0, 3, 1, 2])],
        "NHWC scaled": [
            helper.make_node("Mul", ["image", "k"], ["scaled"], "scale"),
            helper.make_node("Transpose", ["scaled"], ["x"], "turn", perm=[0, 3, 1, 2]),
        ],
    }[front]
    source = "x" if nodes else "image"
    nodes += [
        helper.make_node("Conv", [source, "w", "b"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", [source], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    shape = ["batch", 3, SIZE, SIZE] if front == "NCHW" else ["batch", SIZE, SIZE, 3]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(item.name, TensorProto.FLOAT, item.dims) for item in constants]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "p")]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)


def run(path: Path, frames: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(path)
    image = session.get_inputs()[0]
    if image.shape[1] == 3:
        frames = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    return list(session.run(None, {image.name: frames}))


def quantized_snr_db(path: Path, script: str) -> float:
    """Return the SNR of the first output, quantized by the emulator against float."""
    runner = ClientRunner()
    runner.translate_onnx_model(str(path), "net")
    runner.load_model_script(script)
    runner.optimize(photos())
    found = []
    for how in (InferenceContext.SDK_FP_OPTIMIZED, InferenceContext.SDK_QUANTIZED):
        with runner.infer_context(how) as context:
            found.append(np.asarray(runner.infer(context, photos())[0], np.float64))
    return float(10 * np.log10(np.sum(found[0] ** 2) / np.sum((found[0] - found[1]) ** 2)))


def on_the_host(wanted: Preprocessing) -> Array:
    frames = photos()[..., ::-1] if wanted.reverses_channels else photos()
    if wanted.mean:
        frames = (frames - np.array(wanted.mean, np.float32)) / np.array(wanted.std, np.float32)
    return np.ascontiguousarray(frames)


class TestPrepare:
    @pytest.mark.parametrize("front", ["NCHW", "NHWC", "NHWC scaled"])
    @pytest.mark.parametrize(("mean", "std"), [IMAGENET, CAFFE, HALF, ([], [])])
    @pytest.mark.parametrize("reverses", [False, True])
    def test_the_prepared_model_gives_on_raw_frames_what_the_host_made_it_give(
        self, front: str, mean: list[float], std: list[float], reverses: bool, tmp_path: Path
    ) -> None:
        wanted = Preprocessing(mean=tuple(mean), std=tuple(std), reverses_channels=reverses)
        onnx.save(network(front), tmp_path / "net.onnx")
        assert prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted) == []
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "own.onnx")), full_check=True)
        exact = run(tmp_path / "net.onnx", on_the_host(wanted))
        for got, value in zip(run(tmp_path / "own.onnx", photos()), exact, strict=True):
            if not mean or std == CAFFE[1]:
                np.testing.assert_array_equal(got, value)
            assert np.abs(got - value).max() <= LARGEST_DIFFERENCE * np.abs(value).max()

    def test_a_padded_pixel_is_zero_behind_the_normalization(self, tmp_path: Path) -> None:
        """Folded across the padding, the corners would be off by the mean."""
        wanted = Preprocessing(mean=tuple(IMAGENET[0]), std=tuple(IMAGENET[1]))
        onnx.save(network(), tmp_path / "net.onnx")
        prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted)
        got, _ = run(tmp_path / "own.onnx", photos())
        exact, _ = run(tmp_path / "net.onnx", on_the_host(wanted))
        for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            np.testing.assert_allclose(got[..., row, column], exact[..., row, column], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("front", ["NCHW", "NHWC"])
    def test_one_convolution_is_all_that_is_added(self, front: str, tmp_path: Path) -> None:
        onnx.save(network(front), tmp_path / "net.onnx")
        prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", Preprocessing(reverses_channels=True))
        before, after = (onnx.load(tmp_path / f"{name}.onnx").graph for name in ("net", "own"))
        added = [node for node in after.node if node.name not in {old.name for old in before.node}]
        assert [node.op_type for node in added] == ["Conv"]
        assert [item.name for item in after.input] == ["image"]

    def test_it_is_quantized_as_well_as_a_normalization_on_the_input(self, tmp_path: Path) -> None:
        wanted = Preprocessing(mean=tuple(IMAGENET[0]), std=tuple(IMAGENET[1]))
        onnx.save(network(), tmp_path / "net.onnx")
        prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted)
        levels = [
            quantized_snr_db(tmp_path / f"{name}.onnx", script)
            for name, script in (("net", f"n = normalization({IMAGENET[0]}, {IMAGENET[1]})"), ("own", ""))
        ]
        assert levels[1] == pytest.approx(levels[0], abs=0.1)

    def test_the_network_may_start_inside_the_file(self, tmp_path: Path) -> None:
        """Behind the host's own scaling, which is then cut away."""
        wanted = Preprocessing(mean=tuple(CAFFE[0]), std=tuple(CAFFE[1]))
        onnx.save(network("NHWC scaled"), tmp_path / "net.onnx")
        (start,) = prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted, start_nodes=["conv", "pool"])
        (node,) = (node for node in onnx.load(tmp_path / "own.onnx").graph.node if node.name == start)
        assert (node.op_type, list(node.input)[:1]) == ("Conv", ["x"])

    def test_weights_that_an_old_file_lists_as_inputs_are_no_second_image(self, tmp_path: Path) -> None:
        wanted = Preprocessing(mean=tuple(HALF[0]), std=tuple(HALF[1]))
        onnx.save(network(ir_version=3), tmp_path / "net.onnx")
        prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted)
        exact = run(tmp_path / "net.onnx", on_the_host(wanted))
        for got, value in zip(run(tmp_path / "own.onnx", photos()), exact, strict=True):
            assert np.abs(got - value).max() <= LARGEST_DIFFERENCE * np.abs(value).max()

    def test_a_file_that_was_prepared_can_be_prepared_again(self, tmp_path: Path) -> None:
        onnx.save(network(), tmp_path / "net.onnx")
        twice = Preprocessing(reverses_channels=True)
        prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", twice)
        prepare(tmp_path / "own.onnx", tmp_path / "own2.onnx", twice)
        for got, value in zip(run(tmp_path / "own2.onnx", photos()), run(tmp_path / "net.onnx", photos()), strict=True):
            np.testing.assert_array_equal(got, value)

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            (Preprocessing(mean=(1, 2), std=(1, 1)), r"mean: 2 values, image has the shape \['batch', 3, 64, 64\]"),
            (Preprocessing(mean=(1,), std=(1,)), r"mean: 1 value, image has the shape"),
        ],
    )
    def test_channels_that_do_not_fit_are_refused(self, wanted: Preprocessing, message: str, tmp_path: Path) -> None:
        onnx.save(network(), tmp_path / "net.onnx")
        with pytest.raises(SpecError, match=message):
            prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", wanted)
        assert not (tmp_path / "own.onnx").exists()

    def test_bytes_and_greys_cannot_be_reversed(self, tmp_path: Path) -> None:
        grey = network()
        grey.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
        grey.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
        onnx.save(grey, tmp_path / "net.onnx")
        with pytest.raises(SpecError) as caught:
            prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", Preprocessing(reverses_channels=True))
        assert [problem.path for problem in caught.value.problems] == ["source", "color"]

    def test_two_images_are_refused_by_name(self, tmp_path: Path) -> None:
        two = network()
        two.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 3, SIZE, SIZE]))
        onnx.save(two, tmp_path / "net.onnx")
        with pytest.raises(InputError, match=r"from 2 tensors \(image, other\); choose start_nodes"):
            prepare(tmp_path / "net.onnx", tmp_path / "own.onnx", Preprocessing(reverses_channels=True))


class TestParseStage:
    SDK = Sdk(provider="emulator", version="1")

    def spec(self, **second: Any) -> BuildSpec:
        raw = pair()
        raw["models"][1] |= second
        return validate_spec(raw)

    def stages(self, spec: BuildSpec, media: str = "onnx") -> list[Parse]:
        source = Ref(uri="file:///x", sha256="0" * 64, size_bytes=1, media=media)
        return [Parse.of(spec, each, source, self.SDK) for each in spec.models]

    def test_equal_preprocessing_is_no_part_of_the_key(self) -> None:
        raw = pair()
        for each in raw["models"]:
            each |= {"mean": [1.0, 2.0, 3.0], "color": "bgr"}
        first, other = (self.stages(spec) for spec in (self.spec(), validate_spec(raw)))
        assert [stage.key for stage in first] == [stage.key for stage in other]

    def test_a_model_is_parsed_again_only_where_what_it_carries_changes(self) -> None:
        alike, apart = self.stages(self.spec()), self.stages(self.spec(color="bgr", mean=[105, 115, 120]))
        keys: list[list[str]] = [[stage.key for stage in stages] for stages in (alike, apart)]
        assert apart[1].preprocessing is not None
        assert [a == b for a, b in zip(*keys, strict=True)] == [False, False]
        only_order = self.stages(self.spec(color="bgr", mean=[105, 115, 120], std=[57, 58, 60]))
        assert [a.key == b.key for a, b in zip(alike, only_order, strict=True)] == [True, False]

    def test_a_har_cannot_be_given_preprocessing_of_its_own(self) -> None:
        left, right = self.stages(self.spec(mean=[], std=[]), media="har")
        self.refused(left)
        right.requires()

    def refused(self, stage: Stage[Any]) -> None:
        with pytest.raises(SpecError, match=r"the model left in the spec(.|\n)*source: is a HAR.*give the ONNX file"):
            stage.requires()
