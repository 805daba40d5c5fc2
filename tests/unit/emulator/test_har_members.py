"""What lies in the emulator's HARs, beside a HAR that the vendor's compiler made."""

from __future__ import annotations

import json
from pathlib import Path

import graphs
import pytest
import runners
from graphs import conv, conv_weights, network, node, normal

from hefjoin.emulator import ClientRunner
from hefjoin.emulator.exposed_definitions import States
from hefjoin.formats import har

REAL = Path(__file__).parents[4] / "shared" / "data" / "har" / "whisper_hailo8l_hailo_model.har"
needs_real_file = pytest.mark.skipif(not REAL.exists(), reason="the real HAR is not beside the repository")

SCRIPT = "net/normalization1 = normalization([120, 110, 100], [60, 50, 40], net/input_layer1)\n"
PARSED = {".metadata.json", ".hn", ".native.onnx", ".emulator.json"}
OPTIMIZED = PARSED | {".alls", ".native.hn"}
MEMBERS = {
    States.HAILO_MODEL: PARSED,
    States.FP_OPTIMIZED_MODEL: OPTIMIZED,
    States.QUANTIZED_MODEL: OPTIMIZED | {".quantized.onnx"},
    States.COMPILED_MODEL: OPTIMIZED | {".quantized.onnx", ".hef", ".auto.alls"},
}


def saved(state: States, folder: Path) -> Path:
    """Return a HAR in that state."""
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), node("Add", "r a", "y")]
    runner = runners.parsed(network(nodes, conv_weights("c", 4, 3, 3, 3)), folder)
    if state is not States.HAILO_MODEL:
        runner.load_model_script(SCRIPT)
    if state is States.FP_OPTIMIZED_MODEL:
        runner.optimize_full_precision()
    elif state is not States.HAILO_MODEL:
        runner.optimize(graphs.frames(2))
    if state is States.COMPILED_MODEL:
        runner.compile()
    runner.save_har(folder / "net.har")
    return folder / "net.har"


@pytest.mark.parametrize("state", MEMBERS)
def test_each_state_has_its_members(state: States, tmp_path: Path) -> None:
    found = har.read(saved(state, tmp_path))
    assert found.state == state.value
    assert {name.removeprefix("net") for name in found.members} == MEMBERS[state]


def test_the_graph_is_the_one_that_the_script_left(tmp_path: Path) -> None:
    path = saved(States.FP_OPTIMIZED_MODEL, tmp_path)
    native = json.loads(har.read_member(path, ".native.hn"))
    current = {layer.name: layer for layer in har.read(path).layers}
    assert current.keys() - native["layers"].keys() == {"net/normalization1"}
    assert current["net/conv1"].inputs == ("net/normalization1",)
    assert ClientRunner(har=path)._hn == native


def test_weights_are_in_it_once(tmp_path: Path) -> None:
    model = network([node("Conv", "x w", "y")], {"w": normal(3000, 3, 3, 3)})
    runner = runners.parsed(model, tmp_path)
    runner.save_har(tmp_path / "net.har")
    assert (tmp_path / "net.har").stat().st_size < 1.2 * model.ByteSize()


@needs_real_file
def test_metadata_says_what_the_vendors_says(tmp_path: Path) -> None:
    real = json.loads(har.read_member(REAL, ".metadata.json"))
    ours = json.loads(har.read_member(saved(States.HAILO_MODEL, tmp_path), ".metadata.json"))
    members_that_are_not_there = {"params", "original_model_meta"}
    assert real.keys() - ours.keys() == members_that_are_not_there | {"force_weightless_model"}
    assert {key: type(value) for key, value in ours.items()} == {key: type(real[key]) for key in ours}
    assert (ours["state"], ours["hn"]) == (real["state"], "net.hn")
