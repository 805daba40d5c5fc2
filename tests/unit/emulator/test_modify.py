"""Modifications of a model script compute what their words say: against numpy and ONNX Runtime, never the emulator.

The reference of every conversion is the other way round: an RGB image is packed as a camera packs it.
"""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, normal
from onnx.reference import ReferenceEvaluator

from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.emulator import ClientRunner, exceptions
from hefjoin.emulator.modify import color_matrix

HEIGHT, WIDTH = 6, 8
SHAPE = (1, 3, HEIGHT, WIDTH)


def plain(last: bool = False, seed: int = 0) -> onnx.ModelProto:
    """One padded convolution; the padding shows whether a conversion was moved behind it."""
    turn = [node("Transpose", "x", "t", perm=[0, 3, 1, 2])] if last else []
    inputs = {"x": (1, HEIGHT, WIDTH, 3) if last else SHAPE}
    return network([*turn, conv("t" if last else "x", "y", "c")], conv_weights("c", 4, 3, 3, 3, seed=seed), inputs)


def optimized(model: onnx.ModelProto, script: str, folder: Path) -> ClientRunner:
    runner = runners.parsed(model, folder)
    runner.load_model_script(script)
    runner.optimize_full_precision()
    return runner


def fp(runner: ClientRunner, frames: Array) -> Array:
    (found,) = runners.infer(runner, frames, "SDK_FP_OPTIMIZED")
    return found


def host(model: onnx.ModelProto, frames: Array, last: bool = False) -> Array:
    """Return what ONNX Runtime computes on frames that the host converted."""
    feeds = [frame[np.newaxis].astype(np.float32) for frame in frames]
    found = [graphs.run(model, feed if last else graphs.nchw(feed))[0] for feed in feeds]
    return np.concatenate(found).transpose(0, 2, 3, 1)


def assert_close(got: Array, wanted: Array) -> None:
    np.testing.assert_allclose(got, wanted, atol=2e-5 * np.abs(wanted).max(), rtol=0)


def to_yuv(rgb: Array) -> Array:
    """Return Y 16–235, U and V 16–240, from ITU-R BT.601's own definition of luma and color differences."""
    r, g, b = (rgb[..., i] / 255.0 for i in range(3))
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([16 + 219 * luma, 128 + 224 * (b - luma) / 1.772, 128 + 224 * (r - luma) / 1.402], axis=-1)


def chroma_in_blocks(count: int, rows: int, columns: int) -> Array:
    """Return YUV frames whose chroma is the same over blocks of pixels, so that packing loses nothing."""
    made = np.random.default_rng(5).uniform(30, 220, (count, HEIGHT, WIDTH, 3))
    small = made[:, ::rows, ::columns, 1:]
    made[..., 1:] = small.repeat(rows, axis=1).repeat(columns, axis=2)
    return made


def nv12(yuv: Array) -> Array:
    """Pack as the bytes lie in memory: all of Y, then U and V of each block in turn; (height / 2, width, 3)."""
    packed = []
    for frame in yuv:
        pairs = [value for row in frame[::2, ::2] for pixel in row for value in pixel[1:]]
        packed.append(np.array([*frame[..., 0].ravel(), *pairs]).reshape(HEIGHT // 2, WIDTH, 3))
    return np.stack(packed)


def yuy2(yuv: Array) -> Array:
    """Pack as the bytes lie in memory: Y U Y V for each two pixels; (height, width, 2)."""
    rows = [
        [
            value
            for left, right in zip(row[::2], row[1::2], strict=True)
            for value in (left[0], left[1], right[0], left[2])
        ]
        for frame in yuv
        for row in frame
    ]
    return np.array(rows).reshape(len(yuv), HEIGHT, WIDTH, 2)


def rgb_of(yuv: Array) -> Array:
    """Invert `to_yuv` by solving for it."""
    basis = to_yuv(np.vstack([np.zeros(3), np.eye(3)]))
    return np.linalg.solve((basis[1:] - basis[0]).T, (yuv - basis[0]).reshape(-1, 3).T).T.reshape(yuv.shape)


@pytest.mark.parametrize("last", [False, True])
class TestColors:
    def test_bgr(self, last: bool, tmp_path: Path) -> None:
        frames = graphs.frames(2, HEIGHT, WIDTH)
        runner = optimized(plain(last), "b = input_conversion(bgr_to_rgb)", tmp_path)
        assert_close(fp(runner, frames), host(plain(last), frames[..., ::-1], last))

    @pytest.mark.parametrize(
        "script", ["y = input_conversion(yuv_to_rgb)", "net/y = input_conversion(input_layer1, yuv_to_rgb)"]
    )
    def test_yuv(self, script: str, last: bool, tmp_path: Path) -> None:
        rgb = graphs.frames(2, HEIGHT, WIDTH)
        assert_close(fp(optimized(plain(last), script, tmp_path), to_yuv(rgb)), host(plain(last), rgb, last))


def test_the_matrix_of_yuv_is_that_of_the_field() -> None:
    """The rounded figures that OpenVINO documents for NV12."""
    matrix, offset = color_matrix("yuv")
    rounded = [[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]]
    np.testing.assert_allclose(matrix, rounded, atol=1.5e-3)
    np.testing.assert_allclose(offset, -np.array(rounded) @ [16, 128, 128], atol=0.3)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["nv12", "yuy2"])
class TestLayouts:
    def packed(self, kind: str) -> tuple[Array, Array]:
        yuv = chroma_in_blocks(2, 2 if kind == "nv12" else 1, 2)
        return (nv12 if kind == "nv12" else yuy2)(yuv), yuv

    def test_to_rgb(self, kind: str, last: bool, tmp_path: Path) -> None:
        frames, yuv = self.packed(kind)
        script = f"layout, rgb = input_conversion(input_layer1, {kind}_to_rgb, emulator_support=True)"
        assert_close(fp(optimized(plain(last), script, tmp_path), frames), host(plain(last), rgb_of(yuv), last))

    def test_to_yuv_and_from_there(self, kind: str, last: bool, tmp_path: Path) -> None:
        """The form of scripts before there was one command: the last one acts first."""
        frames, yuv = self.packed(kind)
        script = (
            "rgb = input_conversion(yuv_to_rgb)\n"
            f"layout = input_conversion(input_layer1, {kind}_to_hailo_yuv, emulator_support=True)"
        )
        assert_close(fp(optimized(plain(last), script, tmp_path), frames), host(plain(last), rgb_of(yuv), last))

    @pytest.mark.parametrize("support", ["", ", emulator_support=False"])
    def test_without_support_frames_come_converted(self, kind: str, last: bool, support: str, tmp_path: Path) -> None:
        frames = graphs.frames(2, HEIGHT, WIDTH)
        runner = optimized(plain(last), f"layout, rgb = input_conversion({kind}_to_rgb{support})", tmp_path)
        assert_close(fp(runner, frames), host(plain(last), frames, last))


def test_a_fourth_channel_is_dropped(tmp_path: Path) -> None:
    frames = graphs.frames(2, HEIGHT, WIDTH, 4)
    runner = optimized(plain(), "x = input_conversion(tf_rgbx_to_hailo_rgb, emulator_support=True)", tmp_path)
    assert_close(fp(runner, frames), host(plain(), frames[..., :3]))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("height", "width"), [(12, 16), (3, 4), (17, 5), (640, 9), (37, 41), (HEIGHT, WIDTH)])
def test_resize_is_bilinear_between_pixel_centers(height: int, width: int, last: bool, tmp_path: Path) -> None:
    frames = graphs.frames(2, height, width)
    runner = optimized(plain(last), f"r = resize(resize_shapes=[{height}, {width}])", tmp_path)
    resized = np.stack([bilinear(frame) for frame in frames])
    assert_close(fp(runner, frames), host(plain(last), resized, last))


def bilinear(frame: Array) -> Array:
    """Return a frame of HEIGHT x WIDTH: each pixel's center between the four next to it, written out."""
    made = np.empty((HEIGHT, WIDTH, frame.shape[2]))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            y = np.clip((row + 0.5) * frame.shape[0] / HEIGHT - 0.5, 0, frame.shape[0] - 1)
            x = np.clip((column + 0.5) * frame.shape[1] / WIDTH - 0.5, 0, frame.shape[1] - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, frame.shape[0] - 1), min(left + 1, frame.shape[1] - 1)
            upper = frame[top, left] * (1 - x + left) + frame[top, right] * (x - left)
            lower = frame[below, left] * (1 - x + left) + frame[below, right] * (x - left)
            made[row, column] = upper * (1 - y + top) + lower * (y - top)
    return made


class TestOrder:
    """Each command stands directly behind the input, so the last one of the script acts first."""

    def test_the_last_command_acts_first(self, tmp_path: Path) -> None:
        frames = graphs.frames(2, 12, 16)
        mean, std = np.array([10.0, 20.0, 30.0]), np.array([2.0, 3.0, 4.0])
        script = (
            f"n = normalization({mean.tolist()}, {std.tolist()})\n"
            "r = resize(resize_shapes=[12, 16])\n"
            "b = input_conversion(bgr_to_rgb)"
        )
        resized = np.stack([bilinear(frame[..., ::-1]) for frame in frames])
        assert_close(fp(optimized(plain(), script, tmp_path), frames), host(plain(), (resized - mean) / std))

    def test_means_are_those_of_the_channels_that_arrive(self, tmp_path: Path) -> None:
        frames = graphs.frames(2, HEIGHT, WIDTH)
        lines = ["n = normalization([10, 20, 30], [2, 3, 4])", "b = input_conversion(bgr_to_rgb)"]
        mean, std = np.array([10.0, 20.0, 30.0]), np.array([2.0, 3.0, 4.0])
        behind = fp(optimized(plain(), "\n".join(lines), tmp_path), frames)
        before = fp(optimized(plain(), "\n".join(lines[::-1]), tmp_path), frames)
        assert_close(behind, host(plain(), (frames[..., ::-1] - mean) / std))
        assert_close(before, host(plain(), ((frames - mean) / std)[..., ::-1]))


class TestActivations:
    FUNCTIONS = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "linear": lambda x: x,
    }

    @pytest.mark.parametrize("function", FUNCTIONS)
    @pytest.mark.parametrize("place", ["", "conv1, ", "output_layer1, ", "[net/conv1], "])
    def test_on_an_output(self, function: str, place: str, tmp_path: Path) -> None:
        frames = graphs.frames(2, HEIGHT, WIDTH) / np.float32(255)
        runner = optimized(plain(), f"change_output_activation({place}{function})", tmp_path)
        assert_close(fp(runner, frames), self.FUNCTIONS[function](host(plain(), frames)))
        params = runner.get_hn_dict()["layers"]["net/conv1"]["params"]
        assert params["activation"] == function

    def test_on_one_of_two_outputs(self, tmp_path: Path) -> None:
        weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 2, 3, 3, 3)
        model = network([conv("x", "a", "c"), conv("x", "b", "d")], weights, {"x": SHAPE}, outputs=["a", "b"])
        frames = graphs.frames(1, HEIGHT, WIDTH) / np.float32(255)
        runner = optimized(model, "change_output_activation(conv2, sigmoid)", tmp_path)
        a, b = runners.infer(runner, frames, "SDK_FP_OPTIMIZED")
        exact = [array.transpose(0, 2, 3, 1) for array in graphs.run(model, graphs.nchw(frames))]
        assert_close(a, exact[0])
        assert_close(b, 1 / (1 + np.exp(-exact[1])))

    def test_another_activation_is_not_replaced(self, tmp_path: Path) -> None:
        model = network([conv("x", "a", "c"), node("Relu", "a", "y")], conv_weights("c", 4, 3, 3, 3), {"x": SHAPE})
        with pytest.raises(exceptions.AllocatorScriptParserException, match="cannot replace the relu of net/conv1"):
            runners.parsed(model, tmp_path).load_model_script("change_output_activation(sigmoid)")

    def test_an_output_that_is_read_inside_is_refused(self, tmp_path: Path) -> None:
        nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), node("MaxPool", "r", "y", kernel_shape=[2, 2])]
        model = network(nodes, conv_weights("c", 4, 3, 3, 3), {"x": SHAPE}, outputs=["a", "y"])
        runner = runners.parsed(model, tmp_path)
        runner.load_model_script("change_output_activation(conv1, sigmoid)")
        with pytest.raises(exceptions.AllocatorScriptParserException, match="also read inside the network"):
            runner.optimize_full_precision()


class TestLogits:
    MODEL = network(
        [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Gemm", "f w", "y")],
        {"w": normal(3, 5)}, {"x": SHAPE},
    )  # fmt: skip

    @pytest.mark.parametrize("function", ["softmax", "argmax"])
    @pytest.mark.parametrize("is_map", [False, True])
    def test_on_the_host(self, function: str, is_map: bool, tmp_path: Path) -> None:
        model = plain() if is_map else self.MODEL
        frames = graphs.frames(3, HEIGHT, WIDTH) / np.float32(64)
        runner = runners.parsed(model, tmp_path)
        layer = runner.get_hn_dict()["net_params"]["output_layers_order"][0]
        exact = runners.infer(runner, frames)[0]
        runner.load_model_script(f"x = logits_layer({layer}, {function}, -1, cpu)")
        runner.optimize(frames)
        if function == "softmax":
            powers = np.exp(exact - exact.max(-1, keepdims=True))
            assert_close(fp(runner, frames), powers / powers.sum(-1, keepdims=True))
        else:
            np.testing.assert_array_equal(fp(runner, frames), exact.argmax(-1)[..., np.newaxis])
        (rough,) = runners.infer(runner, frames, "SDK_QUANTIZED")
        assert rough.shape == fp(runner, frames).shape
        view = runner.get_hn_dict()
        assert view["net_params"]["output_layers_order"] == ["net/x"]
        assert view["layers"]["net/output_layer1"]["input"] == ["net/x"]
        assert view["layers"]["net/x"]["output_shapes"] == [[-1, *rough.shape[1:]]]
        assert view["layers"][layer]["output"] == ["net/x"]
        (tmp_path / "net.hef").write_bytes(runner.compile())
        np.save(tmp_path / "frames.npy", frames)
        assert list(EmulatedDevice().outputs(tmp_path / "net.hef", tmp_path / "frames.npy")) == ["net/x"]


EVERY = (
    "change_output_activation(sigmoid)\nn = normalization([100, 110, 120], [60, 50, 40])\n"
    "layout, rgb = input_conversion(input_layer1, nv12_to_rgb, emulator_support=True)"
)


class TestTheRestOfTheWay:
    def test_quantized_and_compiled(self, tmp_path: Path) -> None:
        """What was put in front is quantized with the network and is in the HAR; native inference is as it was."""
        frames = nv12(chroma_in_blocks(4, 2, 2)).round().astype(np.uint8)
        runner = runners.parsed(plain(), tmp_path)
        native = runner.get_hn_dict()
        runner.load_model_script(EVERY)
        runner.optimize(frames)
        (rough,) = runners.infer(runner, frames, "SDK_QUANTIZED")
        assert graphs.snr_db(fp(runner, frames), rough) > 25
        runner.compile()
        runner.save_har(tmp_path / "net.har")
        again = ClientRunner(har=tmp_path / "net.har")
        np.testing.assert_array_equal(runners.infer(again, frames, "SDK_QUANTIZED")[0], rough)
        assert again.get_hn_dict() == runner.get_hn_dict() != native
        rgb = graphs.frames(1, HEIGHT, WIDTH)
        assert_close(runners.infer(again, rgb)[0], host(plain(), rgb))

    def test_the_hn_has_the_layers_in_the_order_in_which_frames_pass(self, tmp_path: Path) -> None:
        runner = optimized(plain(), EVERY, tmp_path)
        layers = runner.get_hn_dict()["layers"]
        assert [(name, layer["type"], layer["output_shapes"][0]) for name, layer in layers.items()] == [
            ("net/input_layer1", "input_layer", [-1, 3, 8, 3]),
            ("net/layout", "format_conversion", [-1, 6, 8, 3]),
            ("net/rgb", "conv", [-1, 6, 8, 3]),
            ("net/n", "normalization", [-1, 6, 8, 3]),
            ("net/conv1", "conv", [-1, 6, 8, 4]),
            ("net/output_layer1", "output_layer", [-1, 6, 8, 4]),
        ]
        chain = list(layers)
        assert [layer["output"] for layer in layers.values()] == [[name] for name in chain[1:]] + [[]]
        assert [layer["input"] for layer in layers.values()] == [[]] + [[name] for name in chain[:-1]]

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("x = input_conversion(bgr_to_rgb)", "has 4 channels, 3 are needed"),
            ("a, b = input_conversion(nv12_to_rgb, emulator_support=True)", "has 4 channels, 3 are needed"),
            ("n = normalization([1], [1])", "has 4 channels, the script 1 means and 1 standard deviations"),
        ],
    )
    def test_another_number_of_channels_is_refused(self, script: str, message: str, tmp_path: Path) -> None:
        model = network([conv("x", "y", "c")], conv_weights("c", 4, 4, 3, 3), {"x": (1, 4, HEIGHT, WIDTH)})
        with pytest.raises(exceptions.AllocatorScriptParserException, match=message):
            optimized(model, script, tmp_path)

    def test_odd_sizes_cannot_be_packed(self, tmp_path: Path) -> None:
        model = network([conv("x", "y", "c")], conv_weights("c", 4, 3, 3, 3), {"x": (1, 3, 7, 8)})
        with pytest.raises(exceptions.AllocatorScriptParserException, match="is 7x8; height and width must be even"):
            optimized(model, "a, b = input_conversion(nv12_to_rgb, emulator_support=True)", tmp_path)

    def test_the_graph_is_one_that_the_onnx_reference_takes(self, tmp_path: Path) -> None:
        frames = nv12(chroma_in_blocks(2, 2, 2)).astype(np.float32)
        runner = optimized(plain(), EVERY, tmp_path)
        with runner.infer_context(runners.InferenceContext.SDK_FP_OPTIMIZED) as context:
            onnx.checker.check_model(context.model)
            (found,) = ReferenceEvaluator(context.model).run(None, {"net/input_layer1": graphs.nchw(frames)})
        assert_close(fp(runner, frames), found.transpose(0, 2, 3, 1))
