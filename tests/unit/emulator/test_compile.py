"""An emulated HEF says what is in it, and what is in it computes what `infer` computed."""

from __future__ import annotations

import json
from pathlib import Path

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import runners
from graphs import Array, conv, conv_weights, network, node, normal

from hefjoin.emulator import ClientRunner, JoinAction, exceptions
from hefjoin.emulator.compile import FORECAST_RESOURCE, GRAPH_RESOURCE
from hefjoin.formats import hef

FRAMES = graphs.frames(4, 6, 8)
IMAGE = {"x": (1, 3, 6, 8)}
W = conv_weights("c", 4, 3, 3, 3) | conv_weights("d", 4, 4, 3, 3)
SCRIPT = "n = normalization([120, 110, 100], [60, 50, 40])"


def heads() -> onnx.ModelProto:
    """An image, a row of boxes and a row of scores from one trunk; the image is also read inside."""
    nodes = [
        conv("x", "a", "c"),
        node("Relu", "a", "r"),
        conv("r", "d", "d"),
        node("Reshape", "d boxes", "b"),
        node("GlobalAveragePool", "d", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w", "y"),
    ]
    return network(nodes, W | {"boxes": np.array([1, 4, -1]), "w": normal(4, 5)}, IMAGE, outputs=["y", "r", "b"])


def channels_last() -> onnx.ModelProto:
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t", "a", "c"), node("Relu", "a", "y")]
    return network(nodes, W, {"x": (1, 6, 8, 3)})


def split() -> onnx.ModelProto:
    nodes = [conv("x", "a", "c"), node("Split", "a s", "y z", axis=1)]
    return network(nodes, W | {"s": np.array([1, 3])}, IMAGE, outputs=["z", "y"])


MODELS = {"three heads": heads(), "channels last": channels_last(), "two outputs from one layer": split()}


def compiled(runner: ClientRunner, folder: Path) -> Path:
    path = folder / "net.emulated.hef"
    path.write_bytes(runner.compile())
    return path


def on_device(path: Path, frames: Array) -> list[Array]:
    """Run the HEF's graph on quantized frames and dequantize by what the HEF says of its outputs."""
    (group,) = hef.read(path).groups
    session = onnxruntime.InferenceSession(hef.resource(path, GRAPH_RESOURCE), providers=["CPUExecutionProvider"])
    (stream,) = group.inputs
    kind = np.uint8 if stream.dtype.upper().startswith("UINT8") else np.uint16
    quantized = np.clip(np.rint(frames / np.float32(stream.scale)) + stream.zero_point, 0, np.iinfo(kind).max)
    found = session.run(None, {session.get_inputs()[0].name: quantized.astype(kind)})
    outputs = {item.name.removesuffix("/u8"): array for item, array in zip(session.get_outputs(), found, strict=True)}
    return [
        (outputs[item.name].astype(np.int32) - np.int32(item.zero_point)).astype(np.float32) * np.float32(item.scale)
        for item in group.outputs
    ]


@pytest.mark.parametrize("mode", ["a8_w8", "a16_w16"])
@pytest.mark.parametrize("case", MODELS)
def test_the_hef_computes_what_infer_computes(case: str, mode: str, tmp_path: Path) -> None:
    script = f"{SCRIPT}\nquantization_param({{*}}, precision_mode={mode})"
    runner = runners.quantized(MODELS[case], tmp_path, FRAMES.astype(np.uint8), script)
    path = compiled(runner, tmp_path)
    wanted = runners.infer(runner, FRAMES, "SDK_QUANTIZED")
    for got, array in zip(on_device(path, FRAMES), wanted, strict=True):
        assert got.size == array.size
        np.testing.assert_array_equal(got.reshape(array.shape), array)


def test_the_hef_lists_inputs_and_outputs(tmp_path: Path) -> None:
    runner = runners.quantized(heads(), tmp_path, FRAMES.astype(np.uint8), SCRIPT)
    found = hef.read(compiled(runner, tmp_path), verify=True)
    assert (found.is_emulated, found.hw_arch_number, found.timestamp_ms) == (True, 0, None)
    assert found.sdk_version.endswith("-emulator")
    (group,) = found.groups
    assert (group.name, group.contexts, group.networks) == ("net", 1, ("net/net",))
    assert [(item.name, item.shape, item.scale, item.zero_point) for item in group.inputs] == [
        ("net/input_layer1", (6, 8, 3), 1.0, 0.0)
    ]
    outputs = runners.infer(runner, FRAMES, "SDK_QUANTIZED")
    assert [item.name for item in group.outputs] == ["net/fc1", "net/conv1", "net/format_conversion1"]
    assert [item.original_names for item in group.outputs] == [("y",), ("r",), ("b",)]
    for item, array in zip(group.outputs, outputs, strict=True):
        assert item.shape == array.shape[1:]
        steps = array / np.float32(item.scale) + item.zero_point
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert steps.min() > -0.5
        assert steps.max() < 255.5


@pytest.mark.parametrize(("action", "networks"), [("AUTO_JOIN_INPUTS", ["a_b"]), ("NONE", ["b", "a"])])
def test_connected_scopes_are_one_network(action: str, networks: list[str], tmp_path: Path) -> None:
    path = graphs.save(graphs.small_net(), tmp_path)
    runner, other = runners.parsed(path, tmp_path, "b"), runners.parsed(path, tmp_path, "a")
    runner.join(other, join_action=JoinAction[action])
    frames = graphs.frames(2)
    inputs = [name for name, layer in runner.get_hn_dict()["layers"].items() if layer["type"] == "input_layer"]
    runner.optimize(dict.fromkeys(inputs, frames))
    (group,) = hef.read(compiled(runner, tmp_path)).groups
    assert group.name == "joined_b_a"
    assert list(group.networks) == [f"joined_b_a/{name}" for name in networks]
    assert [item.name for item in group.inputs] == inputs
    assert [item.name for item in group.outputs] == ["b/conv2", "a/conv2"]


def chain(layers: int) -> onnx.ModelProto:
    """A convolution and poolings of one pixel, as many layers as asked for."""
    nodes = [conv("x", "t0", "c")]
    nodes += [node("MaxPool", f"t{i}", f"t{i + 1}", kernel_shape=[1, 1]) for i in range(layers - 1)]
    return network(nodes, W, IMAGE)


@pytest.mark.parametrize(
    ("layers", "hw_arch", "contexts"), [(40, "hailo8", 1), (150, "hailo8", 2), (150, "hailo8l", 4)]
)
def test_contexts_are_the_forecast(layers: int, hw_arch: str, contexts: int, tmp_path: Path) -> None:
    runner = ClientRunner(hw_arch=hw_arch)
    runner.translate_onnx_model(graphs.save(chain(layers), tmp_path), "net")
    runner.optimize(FRAMES)
    path = compiled(runner, tmp_path)
    (group,) = hef.read(path).groups
    assert group.contexts == contexts
    forecast = json.loads(hef.resource(path, FORECAST_RESOURCE))
    assert forecast == {
        "source": "forecast",
        "hw_arch": hw_arch,
        "layers": layers,
        "parameters": 3 * 3 * 3 * 4 + 4,
        "layer_limit": {"hailo8": 96, "hailo8l": 48}[hw_arch],  # three quarters, as of any script that says nothing
        "parameter_limit": {"hailo8": 26_000_000, "hailo8l": 13_000_000}[hw_arch],
        "probability_of_more_contexts": forecast["probability_of_more_contexts"],
        "mode": "default",
    }
    assert (forecast["probability_of_more_contexts"] >= 0.5) == (contexts > 1)


def test_a_single_context_that_does_not_suffice_is_refused_with_need_and_have(tmp_path: Path) -> None:
    runner = runners.quantized(chain(150), tmp_path, FRAMES)
    runner.load_model_script("context_switch_param(mode=disabled)")
    with pytest.raises(exceptions.BackendAllocatorException) as caught:
        runner.compile()
    text = str(caught.value)
    assert "could not fit in single context" in text
    assert "L3 weights: 1/793, LCUs: 150/96" in text
    assert runner.hef is None
    small = runners.quantized(chain(40), tmp_path, FRAMES)
    small.load_model_script("context_switch_param(mode=disabled)")
    assert small.compile()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    made = []
    for index in range(2):
        folder = tmp_path / str(index)
        folder.mkdir()
        runner = runners.quantized(heads(), folder, FRAMES, SCRIPT)
        runner.analyze_noise(FRAMES)
        made.append(runner.compile())
        runner.save_har(folder / "net.har")
    assert made[0] == made[1]
    assert (tmp_path / "0" / "net.har").read_bytes() == (tmp_path / "1" / "net.har").read_bytes()
