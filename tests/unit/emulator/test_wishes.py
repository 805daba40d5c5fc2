"""Each algorithm says what it wants to know of which tensor, and one pass serves all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
import runners
from graphs import conv, conv_weights, network, node

from hefjoin.emulator import feeds as feeding
from hefjoin.emulator import optimize as optimizing
from hefjoin.emulator.calibrate import range_wishes
from hefjoin.emulator.compress import compression_wishes
from hefjoin.emulator.equalize import equalization_wishes
from hefjoin.emulator.observe import Observation, Wish, Wishes, merged

FRAMES = graphs.frames(6)
EVERY = [Wish(histogram, by_channel) for histogram in (False, True) for by_channel in (False, True)]


def model() -> onnx.ModelProto:
    """Return conv, relu, conv, max pooling: the first convolution's output may be equalized."""
    weights = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 2, 4, 3, 3)
    nodes = [
        conv("x", "a", "c"),
        node("Relu", "a", "r"),
        conv("r", "y", "d"),
        node("MaxPool", "y", "m", kernel_shape=[2, 2]),
    ]
    return network(nodes, weights)


class TestMerging:
    @pytest.mark.parametrize("one", EVERY)
    @pytest.mark.parametrize("other", EVERY)
    def test_what_serves_both_has_all_that_either_wants(self, one: Wish, other: Wish) -> None:
        both = merged({"x": one, "y": one}, {"x": other, "z": other})
        assert both == {
            "x": Wish(one.histogram or other.histogram, one.by_channel or other.by_channel),
            "y": one,
            "z": other,
        }

    def test_nobody_s_wishes_are_none(self) -> None:
        assert merged() == merged({}, {}) == {}


class TestDeclared:
    """Of the network as the emulator sees it: layers conv1 (with its relu), conv2, maxpool1."""

    def found(self, algorithm: Callable[[onnx.ModelProto], Wishes], tmp_path: Path) -> Wishes:
        return algorithm(runners.parsed(model(), tmp_path)._model)

    def test_equalization_wants_channels_apart_between_convolutions(self, tmp_path: Path) -> None:
        assert self.found(equalization_wishes, tmp_path) == {"net/conv1": Wish(by_channel=True)}

    def test_compression_wants_histograms_before_and_behind_kernels(self, tmp_path: Path) -> None:
        wanted = self.found(compression_wishes, tmp_path)
        assert wanted == {name: Wish() for name in ("net/input_layer1", "net/conv1", "net/conv2")}

    def test_ranges_want_a_histogram_of_eight_bits_and_of_what_is_clipped(self) -> None:
        bits = {"a": 8, "b": 16, "c": 16}
        assert range_wishes(bits, {"c"}) == {"a": Wish(), "b": Wish(histogram=False), "c": Wish()}

    def test_ranges_of_features_want_them_apart_and_counted_whatever_their_bits(self) -> None:
        assert range_wishes({"a": 8, "b": 16}, {}, {"a", "b"}) == dict.fromkeys("ab", Wish(by_channel=True))


SCRIPTS = {
    "compression": "model_optimization_flavor(compression_level=2)",
    "clipping": "pre_quantization_optimization(activation_clipping, layers={*}, mode=percentile, "
    "clipping_values=[1, 99])",
    "no equalization": "pre_quantization_optimization(equalization, policy=disabled)",
    "bits": "quantization_param(net/conv2, precision_mode=a16_w16)",
}
CHOICES = list(chain.from_iterable(combinations(SCRIPTS, count) for count in range(len(SCRIPTS) + 1)))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Wishes]:
    """What each pass over the calibration set was asked for."""
    found = []
    observe = optimizing.observe

    def watch(model: onnx.ModelProto, wishes: Wishes, *rest: Any) -> dict[str, Observation]:
        found.append(wishes)
        return observe(model, wishes, *rest)

    monkeypatch.setattr(optimizing, "observe", watch)
    return found


@pytest.mark.parametrize("chosen", CHOICES, ids=" and ".join)
def test_one_pass_over_the_frames_serves_whatever_a_script_asks_for(
    chosen: tuple[str, ...], passes: list[Wishes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    frames = feeding.Feeds.frames

    def counted(self: feeding.Feeds, *arguments: int) -> Any:
        nonlocal read
        for feeds in frames(self, *arguments):
            read += 1
            yield feeds

    monkeypatch.setattr(feeding.Feeds, "frames", counted)
    runners.quantized(model(), tmp_path, FRAMES, "\n".join(SCRIPTS[name] for name in chosen))
    assert read == len(FRAMES)
    (wishes,) = passes
    assert wishes["net/conv1"].by_channel == ("no equalization" not in chosen)
    assert wishes["net/conv2"].histogram == ("bits" not in chosen or bool({"clipping", "compression"} & set(chosen)))


def test_a_range_of_16_bits_is_all_that_was_seen(tmp_path: Path) -> None:
    runner = runners.quantized(model(), tmp_path, FRAMES, f"{SCRIPTS['no equalization']}\n{SCRIPTS['bits']}")
    shown = onnx.ModelProto()
    shown.CopyFrom(runner._model)
    shown.graph.output[0].name = "net/conv2"
    values = [graphs.run(shown, graphs.nchw(frame[np.newaxis]))[0] for frame in FRAMES]
    code = runner._encodings["net/conv2"]
    low, high = -code.zero_point * code.scale, (65535 - code.zero_point) * code.scale
    assert code.bits == 16
    assert (low, high) == (pytest.approx(np.min(values), rel=1e-4), pytest.approx(np.max(values), rel=1e-4))
