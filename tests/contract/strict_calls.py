"""Make every wrong call that a careless caller of `ClientRunner` may make, and write down what was raised.

Run by each provider's own interpreter: `python strict_calls.py PACKAGE FOLDER`, with `left.onnx`, `right.onnx`
(one input of 16×16×3 each), `large.onnx` (another size) and `unsupported.onnx` in FOLDER. Writes `raised.json`:
{call: name of the exception it is refused with, or null}, and `observed.json`. It imports the package and numpy,
nothing of hefjoin.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

FRAMES = np.arange(4 * 16 * 16 * 3, dtype=np.float32).reshape(4, 16, 16, 3) % 251
SYNTAX, SEMANTICS = "BackendScriptParserException", "AllocatorScriptParserException"
ANY = ""
"""The documentation says that it is refused, not by which exception."""
GAPS = ("NotImplementedError", "AttributeError", "NameError")
"""What a provider's own gaps and mistakes end with: no refusal, unless the documentation names it."""

Call = Callable[[Any], object]


def enter(runner: Any, context: Any) -> Any:
    with runner.infer_context(context) as ctx:
        return runner.infer(ctx, FRAMES)


def normalize(runner: Any, values: str, layer: str = "left/input_layer1") -> None:
    runner.load_model_script(f"left/n = normalization([{values}], [{values}], {layer})")


CALLS: dict[str, tuple[Call, str]] = {
    # A keyword that is not there.
    "ClientRunner(har_path=)": (lambda s: s.ClientRunner(har_path=s.har("left")), "TypeError"),
    "translate_onnx_model(surprise=)": (
        lambda s: s.ClientRunner().translate_onnx_model(s.onnx("left"), "left", surprise=1), "TypeError",
    ),
    "save_har(surprise=)": (lambda s: s.parsed("left").save_har(s.path("x.har"), surprise=1), "TypeError"),
    "join(surprise=)": (lambda s: s.parsed("left").join(s.parsed("right"), surprise=1), "TypeError"),
    "load_model_script(surprise=)": (lambda s: s.parsed("left").load_model_script("", surprise=1), "TypeError"),
    "optimize(surprise=)": (lambda s: s.parsed("left").optimize(FRAMES, surprise=1), "TypeError"),
    "analyze_noise(surprise=)": (lambda s: s.quantized("left").analyze_noise(FRAMES, surprise=1), "TypeError"),
    "compile(fps=)": (lambda s: s.quantized("left").compile(fps=30), "TypeError"),
    # A state that does not allow it.
    "save_har of nothing": (lambda s: s.ClientRunner().save_har(s.path("x.har")), ANY),
    "optimize of nothing": (lambda s: s.ClientRunner().optimize(FRAMES), ANY),
    "translate_onnx_model twice": (lambda s: s.parsed("left").translate_onnx_model(s.onnx("left"), "left"), ANY),
    "compile of a parsed model": (lambda s: s.parsed("left").compile(), "BackendRuntimeException"),
    "analyze_noise of a parsed model": (lambda s: s.parsed("left").analyze_noise(FRAMES), ANY),
    "infer quantized of a parsed model": (
        lambda s: enter(s.parsed("left"), s.InferenceContext.SDK_QUANTIZED), ANY,
    ),
    "infer fp_optimized of a parsed model": (
        lambda s: enter(s.parsed("left"), s.InferenceContext.SDK_FP_OPTIMIZED), ANY,
    ),
    "optimize twice": (lambda s: s.quantized("left").optimize(FRAMES), ANY),
    # A value that makes no sense.
    "a chip that is not": (lambda s: s.ClientRunner(hw_arch="hailo9"), ANY),
    "load a HAR that is not there": (lambda s: s.ClientRunner(har=s.path("absent.har")), ANY),
    "a context as text": (lambda s: enter(s.parsed("left"), "sdk_native"), ANY),
    "infer without a context": (lambda s: s.parsed("left").infer(s.InferenceContext.SDK_NATIVE, FRAMES), ANY),
    "a member of InferenceContext that is not": (lambda s: s.InferenceContext.SDK_INT8, "AttributeError"),
    "a member of JoinAction that is not": (lambda s: s.JoinAction.AUTO, "AttributeError"),
    # Parsing.
    "a misspelt end node": (lambda s: s.parse("left", end_node_names=["dens"]), "MisspellNodeError"),
    "a misspelt start node": (lambda s: s.parse("left", start_node_names=["conv0"]), "MisspellNodeError"),
    "an unsupported operator": (lambda s: s.parse("unsupported"), "ParsingWithRecommendationException"),
    # Joining.
    "join overlapping scopes": (lambda s: s.join("left", "left"), ANY),
    "join of different states": (lambda s: s.quantized("left").join(s.parsed("right")), ANY),
    "join action as text": (lambda s: s.parsed("left").join(s.parsed("right"), join_action="none"), ANY),
    "join different sizes on one input": (lambda s: s.auto_join(s.parsed("left"), s.parsed("large")), ANY),
    "join two inputs with one": (lambda s: s.auto_join(s.join("left", "right"), s.parsed("left"), None, "c"), ANY),
    "one text for two scopes": (lambda s: s.auto_join(s.join("left", "right"), s.parsed("left"), "a", "c"), ANY),
    "rename a scope that is not": (lambda s: s.auto_join(s.parsed("left"), s.parsed("right"), {"x": "y"}), ANY),
    # Model scripts.
    "a layer without a name": (lambda s: s.script("normalization([0, 0, 0], [1, 1, 1])"), SYNTAX),
    "a name for what makes no layer": (lambda s: s.script("x = allocator_param(timeout=60)"), SYNTAX),
    "a command that is not": (lambda s: s.script("left/n = normalisation([0, 0, 0], [1, 1, 1])"), SYNTAX),
    "a keyword that is not": (lambda s: s.script("allocator_param(time_out=60)"), SYNTAX),
    "an open bracket": (lambda s: s.script("allocator_param(timeout=60"), SYNTAX),
    "a command behind another": (lambda s: s.script("allocator_param(timeout=60) allocator_param(seed=1)"), SYNTAX),
    "a layer that is not": (lambda s: normalize(s.parsed("left"), "1, 1, 1", "left/input_layer2"), SEMANTICS),
    "a selector without a layer": (
        lambda s: s.script("quantization_param({left/deconv*}, precision_mode=a8_w8)"), SEMANTICS,
    ),
    "two names for one input": (lambda s: s.script("a, b = normalization([1, 1, 1], [1, 1, 1])"), SEMANTICS),
    # Data sets.
    "frames of another size": (lambda s: s.parsed("left").optimize(FRAMES[:, :8]), "BadInputsShape"),
    "frames NCHW": (lambda s: s.parsed("left").optimize(FRAMES.transpose(0, 3, 1, 2)), "BadInputsShape"),
    "a frame without its batch": (lambda s: s.parsed("left").optimize(FRAMES[0]), "BadInputsShape"),
    "no frames": (lambda s: s.parsed("left").optimize(FRAMES[:0]), ANY),
    "a list of arrays": (lambda s: s.parsed("left").optimize([FRAMES]), ANY),
    "a path that is not there": (lambda s: s.parsed("left").optimize(s.path("absent.npy")), ANY),
    "frames for a layer that is not": (lambda s: s.parsed("left").optimize({"left/input_layer2": FRAMES}), ANY),
    "frames for a layer without scope": (lambda s: s.parsed("left").optimize({"input_layer1": FRAMES}), ANY),
    "one array for two inputs": (lambda s: s.join("left", "right").optimize(FRAMES), ANY),
    "a data type as text": (lambda s: s.parsed("left").optimize(FRAMES, data_type="np_array"), ANY),
}  # fmt: skip


class Desk(SimpleNamespace):
    """A package's names, and runners in the states that the calls need."""

    def __init__(self, package: str, folder: Path) -> None:
        root = importlib.import_module(package)
        definitions = importlib.import_module(f"{package}.exposed_definitions")
        super().__init__(
            folder=folder,
            ClientRunner=root.ClientRunner,
            InferenceContext=root.InferenceContext,
            JoinAction=definitions.JoinAction,
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def onnx(self, name: str) -> str:
        return self.path(f"{name}.onnx")

    def parse(self, name: str, **options: Any) -> Any:
        runner = self.ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(self.onnx(name), name, **options)
        return runner

    def har(self, name: str) -> str:
        """Return the path of a parsed HAR."""
        path = self.folder / f"{name}.har"
        if not path.exists():
            self.parse(name).save_har(str(path))
        return str(path)

    def parsed(self, name: str) -> Any:
        return self.ClientRunner(har=self.har(name))

    def quantized(self, name: str) -> Any:
        path = self.folder / f"{name}.quantized.har"
        if not path.exists():
            runner = self.parsed(name)
            runner.optimize(FRAMES)
            runner.save_har(str(path))
        return self.ClientRunner(har=str(path))

    def join(self, first: str, second: str) -> Any:
        """Return two networks joined without an action: by default they stay unconnected."""
        runner = self.parsed(first)
        runner.join(self.parsed(second))
        return runner

    def auto_join(self, first: Any, second: Any, name1: Any = None, name2: Any = None, **more: Any) -> object:
        action = self.JoinAction.AUTO_JOIN_INPUTS
        return first.join(second, scope1_name=name1, scope2_name=name2, join_action=action, **more)

    def script(self, text: str) -> None:
        self.parsed("left").load_model_script(text)


def raised(call: Call, desk: Desk, documented: str = ANY) -> str | None:
    """Return the name of the exception that a call is refused with; None where it is not refused."""
    try:
        call(desk)
    except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
        name = type(error).__name__
        return None if documented == ANY and name in GAPS else name
    return None


def observed(desk: Desk) -> dict[str, object]:
    """Return what right calls leave."""

    def inputs(runner: Any) -> list[str]:
        return [name for name, layer in runner.get_hn_dict()["layers"].items() if layer["type"] == "input_layer"]

    runner, other = desk.parsed("left"), desk.parsed("right")
    returned = desk.auto_join(runner, other, {"left": "a"}, "b")
    unlike = desk.parsed("left")
    with_error = raised(lambda _: desk.auto_join(unlike, desk.parsed("large")), desk)
    return {
        "join returns": returned,
        "inputs by default": inputs(desk.join("left", "right")),
        "inputs when shared": inputs(runner),
        "name": runner.model_name,
        "outputs": runner.get_hn_dict()["net_params"]["output_layers_order"],
        "scopes of the other side": other.get_hn_dict()["net_params"]["net_scopes"],
        "left side of a refused join": [with_error is not None, unlike.model_name, inputs(unlike)],
    }


def main(package: str, folder: Path) -> None:
    """Make the calls and write both files."""
    desk = Desk(package, folder)
    found = {label: raised(call, desk, documented) for label, (call, documented) in CALLS.items()}
    (folder / "raised.json").write_text(json.dumps(found), encoding="utf-8")
    (folder / "observed.json").write_text(json.dumps(observed(desk)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
