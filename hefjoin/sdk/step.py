"""One step of a build, run by the SDK's own interpreter: `python step.py request.json`.

The only file that calls `ClientRunner`, whichever package provides it. It runs where hefjoin, Prefect and new
Pythons are absent: syntax of Python 3.8, the standard library, numpy and the SDK, nothing else.

request.json  {"provider", "action", "arguments", "result", "failure", "parent_pid"}
result        what the action returns, JSON
failure       {"type", "message", "traceback"} of the exception that ended the step
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any, Dict, Iterator, List, Tuple

PACKAGES = {"dfc": "hailo_sdk_client", "emulator": "hefjoin.emulator"}
PR_SET_PDEATHSIG = 1
INFER_FRAMES = 32


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends, and check it was not too late."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("the process that started this step is gone")


class Sdk:
    """The names this file uses, from whichever package provides them."""

    def __init__(self, provider: str) -> None:
        root = importlib.import_module(PACKAGES[provider])
        definitions = importlib.import_module(PACKAGES[provider] + ".exposed_definitions")
        self.version = root.__version__
        self.ClientRunner = root.ClientRunner
        self.InferenceContext = root.InferenceContext
        # Older releases have it at the root only.
        self.JoinAction = getattr(definitions, "JoinAction", None) or root.JoinAction


def parse(
    sdk: Sdk,
    model: str,
    name: str,
    har: str,
    hw_arch: str,
    start_nodes: List[str],
    end_nodes: List[str],
    input_shapes: Dict[str, List[int]],
) -> Dict[str, Any]:
    """Translate an ONNX file into a HAR."""
    options = {
        "start_node_names": start_nodes,
        "end_node_names": end_nodes,
        "net_input_shapes": input_shapes,
    }
    runner = sdk.ClientRunner(hw_arch=hw_arch)
    runner.translate_onnx_model(model, name, **{key: value for key, value in options.items() if value})
    runner.save_har(har)
    return {"sdk_version": sdk.version}


def join(
    sdk: Sdk,
    hars: List[str],
    scopes: List[Dict[str, str]],
    har: str,
    frames: str,
    mean: List[float],
    std: List[float],
) -> Dict[str, Any]:
    """Join HARs on one shared input, and run them alone and joined on the same frames.

    `scopes` maps, for each HAR, the scopes it has to the ones it gets. Frames are raw; the networks before
    quantization want them normalized, which is done here on the host.
    """
    import numpy as np

    # SDK_NATIVE runs what the file computes; the chip's normalization comes with the script, later.
    batch = np.load(frames).astype(np.float32)
    if mean or std:
        batch = (batch - np.array(mean or [0], np.float32)) / np.array(std or [1], np.float32)
    alone = [_infer(sdk, sdk.ClientRunner(har=path), "SDK_NATIVE", batch) for path in hars]
    runner = sdk.ClientRunner(har=hars[0])
    known = dict(scopes[0])
    for path, names in zip(hars[1:], scopes[1:]):
        runner.join(
            sdk.ClientRunner(har=path),
            scope1_name=known,
            scope2_name=names,
            join_action=sdk.JoinAction.AUTO_JOIN_INPUTS,
        )
        known = {scope: scope for scope in [*known.values(), *names.values()]}
    runner.save_har(har)
    together = _infer(sdk, runner, "SDK_NATIVE", batch)
    outputs = _output_layers(runner)
    if len(together) != len(outputs):
        raise RuntimeError("infer gave {} arrays for {} outputs".format(len(together), len(outputs)))
    equality = []
    for (scope, index), layer, joined in zip(_places(outputs), outputs, together):
        side = next(i for i, names in enumerate(scopes) if scope in names.values())
        exact = alone[side][index]
        difference = np.abs(joined.astype(np.float64) - exact)
        equality.append(
            {
                "layer": layer,
                "frames": len(batch),
                "max_abs_difference": float(difference.max()),
                "largest_value": float(np.abs(exact).max()),
                "is_bit_equal": bool(np.array_equal(joined, exact)),
            }
        )
    return {"name": runner.model_name, "outputs": outputs, "equality": equality}


def quantize(
    sdk: Sdk,
    har: str,
    script: str,
    calibration: str,
    evaluation: str,
    quantized_har: str,
    outputs: str,
    noise_frames: int,
) -> Dict[str, Any]:
    """Quantize a HAR, and run it float and quantized on the evaluation frames."""
    import numpy as np

    runner = sdk.ClientRunner(har=har)
    runner.load_model_script(script)
    runner.optimize(calibration)
    frames = np.load(evaluation, mmap_mode="r")
    sample = np.array(frames[:noise_frames])
    runner.analyze_noise(sample, batch_size=1, data_count=len(sample))
    results = {}
    for label, context in (("float", "SDK_FP_OPTIMIZED"), ("quantized", "SDK_QUANTIZED")):
        for index, array in enumerate(_infer(sdk, runner, context, frames)):
            results["{}_{}".format(label, index)] = array.astype(np.float32)
    np.savez(outputs, **results)
    runner.save_har(quantized_har)
    return {"noise": _noise(runner), "script": str(runner.model_script), "outputs": _output_layers(runner)}


def compile(sdk: Sdk, har: str, script: str, hef: str) -> Dict[str, Any]:
    """Compile a quantized HAR into a HEF."""
    runner = sdk.ClientRunner(har=har)
    runner.load_model_script(script)
    content = runner.compile()
    with open(hef, "wb") as stream:
        stream.write(content)
    return {"sdk_version": sdk.version, "script": str(runner.model_script)}


def _infer(sdk: Sdk, runner: Any, context: str, frames: Any) -> List[Any]:
    """Return one array per output, all frames, in chunks that keep the SDK's memory bounded."""
    import numpy as np

    chunks = []
    with runner.infer_context(getattr(sdk.InferenceContext, context)) as ctx:
        for start in range(0, len(frames), INFER_FRAMES):
            found = runner.infer(ctx, np.array(frames[start : start + INFER_FRAMES]))
            chunks.append(found if isinstance(found, list) else [found])
    return [np.concatenate(arrays) for arrays in zip(*chunks)]


def _output_layers(runner: Any) -> List[str]:
    """Return the layers that feed the outputs, in the order in which `infer` returns them."""
    return list(runner.get_hn_dict()["net_params"]["output_layers_order"])


def _places(outputs: List[str]) -> Iterator[Tuple[str, int]]:
    """Yield (scope, index among that scope's outputs) for every output."""
    seen: Dict[str, int] = {}
    for layer in outputs:
        scope = layer.split("/")[0]
        yield scope, seen.get(scope, 0)
        seen[scope] = seen.get(scope, 0) + 1


def _noise(runner: Any) -> Dict[str, float]:
    """Return dB by layer; the advanced analysis where it was made, else the simple one.

    The vendor's statistics are read by one flat key in public scripts, and by layer first in the vendor's own tool.
    """
    import numpy as np

    statistics = runner.get_params_statistics()
    noise = {}
    for layer in runner.get_hn_dict()["layers"]:
        for kind in ("layer_noise_analysis/snr", "layer_noise_analysis/partial_snr"):
            value = statistics.get("{}/{}".format(layer, kind))
            if value is None and isinstance(statistics.get(layer), dict):
                value = statistics[layer].get(kind)
            if value is not None:
                noise[layer] = float(np.min(value))
                break
    return noise


ACTIONS: Dict[str, Any] = {"parse": parse, "join": join, "quantize": quantize, "compile": compile}


def main(request_path: str) -> int:
    """Run the step that a request describes; returns the exit code."""
    with open(request_path, encoding="utf-8") as stream:
        request = json.load(stream)
    die_with_parent(request["parent_pid"])
    try:
        result = ACTIONS[request["action"]](Sdk(request["provider"]), **request["arguments"])
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is reported to the one who judges it
        failure = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        _write(request["failure"], failure)
        return 1
    _write(request["result"], result)
    return 0


def _write(path: str, content: Dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


if __name__ == "__main__":
    # The SDK's imports must not find this folder's modules first.
    sys.path[:] = [
        folder for folder in sys.path if os.path.abspath(folder) != os.path.dirname(os.path.abspath(__file__))
    ]
    sys.exit(main(sys.argv[1]))
