"""One step of a build, run by the SDK's own interpreter: `python step.py request.json`.

The only file that calls `ClientRunner`, whichever package provides it. It runs where hefjoin, Prefect and new
Pythons are absent: syntax of Python 3.8, the standard library, numpy and the SDK, nothing else.

request.json  {"provider", "action", "arguments", "result", "failure", "parent_pid"}
result        what the action returns and {"sdk_version"}, JSON
failure       {"type", "message", "traceback"} of the exception that ended the step

Two processes: a watcher that imports nothing, and the worker, in which the SDK runs. Whichever way the worker ends,
or when whoever started the step ends, the watcher ends all that is left of it, then itself in the same way.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import tarfile
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

PACKAGES = {"dfc": "hailo_sdk_client", "emulator": "hefjoin.emulator"}
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
INTERRUPTS = (signal.SIGINT, signal.SIGHUP)
INFER_FRAMES = 32


def become_worker(parent_pid: int) -> None:
    """Fork, and return in the child only; the process that called watches over it and ends with it.

    A parent that dies is noticed by PR_SET_PDEATHSIG (prctl(2)), whatever its death. As "child subreaper" the watcher
    inherits every descendant whose own parent ended, also one that made a session of its own.
    """
    # Blocking would bring a signal back to us that we were told to ignore, as by nohup.
    interrupts = {number for number in INTERRUPTS if signal.getsignal(number) != signal.SIG_IGN}
    watched = {signal.SIGCHLD, signal.SIGTERM, *interrupts}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    watcher = os.getpid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent_pid:
        sys.exit(
            "the process that started this step is gone; or the interpreter is a script, which must start its Python "
            "with `exec`"
        )
    worker = os.fork()
    if worker != 0:
        status = _end_of(worker, watched)
        _end_descendants()
        _end_with(status)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl({}, {}) failed".format(option, value))


def _end_of(worker: int, watched: Set[signal.Signals]) -> int:
    """Return how the worker ended, or a signal that came first, as waitpid(2) writes it."""
    while True:
        number = signal.sigwait(watched)
        if number != signal.SIGCHLD:
            return int(number)
        pid = -1
        while pid != 0:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == worker:
                return status


def _end_descendants() -> None:
    """Kill every child; the children of a killed one become ours, so the round is repeated until none is left."""
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/{}/stat".format(name), "rb") as stream:
                # pid (name of the program) state parent …: the name may hold anything, brackets too.
                parent = int(stream.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            yield int(name)


def _end_with(status: int) -> None:
    """End this process the way another ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


class Sdk:
    """The names this file uses, from whichever package provides them."""

    def __init__(self, provider: str) -> None:
        root = importlib.import_module(PACKAGES[provider])
        try:
            definitions: Any = importlib.import_module(PACKAGES[provider] + ".exposed_definitions")
        except ImportError:
            definitions = root
        self.version = root.__version__
        self.ClientRunner = root.ClientRunner
        # Releases differ in which of the two has them.
        self.InferenceContext = getattr(definitions, "InferenceContext", None) or root.InferenceContext
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
    return {}


def join(
    sdk: Sdk,
    hars: List[str],
    scopes: List[Dict[str, str]],
    har: str,
    frames: str,
    mean: List[float],
    std: List[float],
    outputs_file: str,
) -> Dict[str, Any]:
    """Join HARs on one shared input, and run them alone and joined on the same frames; keep the joined outputs.

    `scopes` maps, for each HAR, the scopes it has to the ones it gets. Frames are raw; the networks before
    quantization want them normalized, which is done here on the host. Where the join left more than one input or
    not the scopes that were asked for, nothing is run and nothing is compared.
    """
    import numpy as np

    batch = np.load(frames)
    alone = [_native(sdk, sdk.ClientRunner(har=path), batch, mean, std) for path in hars]
    runner = sdk.ClientRunner(har=hars[0])
    known = dict(scopes[0])
    for path, names in zip(hars[1:], scopes[1:]):
        _join(sdk, runner, sdk.ClientRunner(har=path), known, names)
        known = {scope: scope for scope in [*known.values(), *names.values()]}
    runner.save_har(har)
    inputs, outputs = _input_layers(runner), _output_layers(runner)
    found = {"name": runner.model_name, "inputs": inputs, "outputs": outputs}
    if len(inputs) != 1 or {scope for scope, _ in _places(outputs)} != set(known):
        return {"equality": [], **found}
    together = _native(sdk, runner, batch, mean, std)
    if len(together) != len(outputs):
        raise RuntimeError("infer gave {} arrays for {} outputs".format(len(together), len(outputs)))
    np.savez(outputs_file, *together)
    side_of = {scope: side for side, names in enumerate(scopes) for scope in names.values()}
    equality = [
        _compared(layer, joined, alone[side_of[scope]][index])
        for (scope, index), layer, joined in zip(_places(outputs), outputs, together)
    ]
    return {"equality": equality, **found}


def _join(sdk: Sdk, left: Any, right: Any, left_names: Dict[str, str], right_names: Dict[str, str]) -> None:
    """Join `right` into `left`; a release that takes no dictionaries of scopes gets the one new name of each side."""
    action = sdk.JoinAction.AUTO_JOIN_INPUTS
    try:
        left.join(right, scope1_name=left_names, scope2_name=right_names, join_action=action)
    except Exception as error:
        is_about_scopes = type(error).__name__ == "InvalidArgumentsException" and "scope" in str(error).lower()
        if not (is_about_scopes or isinstance(error, TypeError)) or len(left_names) != 1 or len(right_names) != 1:
            raise
        (left_name,), (right_name,) = left_names.values(), right_names.values()
        left.join(right, scope1_name=left_name, scope2_name=right_name, join_action=action)


def _compared(layer: str, joined: Any, exact: Any) -> Dict[str, Any]:
    """Return how far an output of the joined network is from that of its model alone."""
    import numpy as np

    difference = np.abs(joined.astype(np.float64) - exact)
    return {
        "layer": layer,
        "frames": len(exact),
        "max_abs_difference": float(difference.max()),
        "largest_value": float(np.abs(exact).max()),
        "is_bit_equal": bool(np.array_equal(joined, exact)),
    }


def quantize(
    sdk: Sdk,
    har: str,
    script: str,
    calibration: str,
    evaluation: str,
    quantized_har: str,
    outputs: str,
    noise_frames: int,
    native_scopes: List[str],
    mean: List[float],
    std: List[float],
) -> Dict[str, Any]:
    """Quantize a HAR, and run it float, quantized and as it was on the evaluation frames.

    `native_scopes` are those whose outputs as parsed are to be kept; mean and std are what the script normalizes with.
    """
    import numpy as np

    runner = sdk.ClientRunner(har=har)
    runner.load_model_script(script or None)
    runner.optimize(calibration)
    frames = np.load(evaluation, mmap_mode="r")
    sample = np.array(frames[:: max(1, len(frames) // noise_frames)][:noise_frames])  # a set may be sorted by class
    noise = _noise(runner, sample)
    runner.save_har(quantized_har)
    results = {}
    layers = _output_layers(runner)
    for label, context in (("float", "SDK_FP_OPTIMIZED"), ("quantized", "SDK_QUANTIZED")):
        arrays = _infer(sdk, runner, context, frames)
        if len(arrays) != len(layers):
            raise RuntimeError("infer gave {} arrays for the outputs {}".format(len(arrays), ", ".join(layers)))
        for index, array in enumerate(arrays):
            results["{}_{}".format(label, index)] = array.astype(np.float32)
    for layer, array in (_as_parsed(sdk, har, frames, mean, std) if native_scopes else {}).items():
        if layer in layers and layer.split("/")[0] in native_scopes:
            results["native_{}".format(layers.index(layer))] = array.astype(np.float32)
    np.savez(outputs, **results)
    return {"noise": noise, "script": str(runner.model_script), "outputs": layers}


def _as_parsed(sdk: Sdk, har: str, frames: Any, mean: List[float], std: List[float]) -> Dict[str, Any]:
    """Return what a network computed before it was quantized, by output layer.

    Where the SDK fails at it, a comparison is missing, and not the hours of `optimize` before it: then there is none.
    """
    try:
        runner = sdk.ClientRunner(har=har)
        return dict(zip(_output_layers(runner), _native(sdk, runner, frames, mean, std)))
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the network is quantized
        text = "[warning] the network as parsed cannot be compared: {}: {}\n"
        sys.stdout.write(text.format(type(error).__name__, error))
        return {}


def compile(sdk: Sdk, har: str, script: str, hef: str, compiled_har: str, auto_script: str) -> Dict[str, Any]:
    """Compile a quantized HAR into a HEF; keep the script that the compiler resolved, where its HAR has one."""
    runner = sdk.ClientRunner(har=har)
    runner.load_model_script(script or None)  # an empty text might be taken for a path
    content = runner.compile()
    with open(hef, "wb") as stream:
        stream.write(content)
    runner.save_har(compiled_har)
    resolved = _member(compiled_har, ".auto.alls")
    if resolved is not None:
        with open(auto_script, "wb") as stream:
            stream.write(resolved)
    return {"script": str(runner.model_script), "auto_script": resolved is not None}


def _member(har: str, suffix: str) -> Optional[bytes]:
    """Return the content of the HAR's first file whose name ends so; None where there is none."""
    with tarfile.open(har, "r:*") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(suffix):
                content = archive.extractfile(member)
                return content.read() if content else None
    return None


def _native(sdk: Sdk, runner: Any, frames: Any, mean: List[float], std: List[float]) -> List[Any]:
    """Return what the file computes, one array per output; the chip's normalization comes with the script, later."""
    import numpy as np

    def normalized(raw: Any) -> Any:
        batch = raw.astype(np.float32)
        if mean or std:
            batch = (batch - np.array(mean or [0], np.float32)) / np.array(std or [1], np.float32)
        return batch

    return _infer(sdk, runner, "SDK_NATIVE", frames, normalized)


def _infer(sdk: Sdk, runner: Any, context: str, frames: Any, prepared: Callable[[Any], Any] = lambda a: a) -> List[Any]:
    """Return one array per output, all frames, in chunks that keep the SDK's memory bounded."""
    import numpy as np

    chunks = []
    with runner.infer_context(getattr(sdk.InferenceContext, context)) as ctx:
        for start in range(0, len(frames), INFER_FRAMES):
            found = runner.infer(ctx, prepared(np.array(frames[start : start + INFER_FRAMES])))
            if isinstance(found, dict):  # some releases, for outputs that are boxes
                found = list(found.values())
            chunks.append(found if isinstance(found, list) else [found])
    return [np.concatenate(arrays) for arrays in zip(*chunks)]


def _input_layers(runner: Any) -> List[str]:
    layers = runner.get_hn_dict()["layers"]
    return [name for name, layer in layers.items() if layer["type"] == "input_layer"]


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


NOISE = {
    "snr_db": ("snr", "partial_snr"),
    "cosine": ("cosine",),
    "own_snr_db": ("own_snr",),
    "own_cosine": ("own_cosine",),
}
"""Figures by what they are called in the statistics: the advanced analysis where it was made, else the simple one."""


def _noise(runner: Any, frames: Any) -> Dict[str, Dict[str, float]]:
    """Return what is known of each layer's noise, under the keys of `NOISE`; a layer without an SNR is left out.

    An analysis that fails costs a table of the report, not the hours of `optimize` before it: then there is none.
    The vendor's statistics are read by one flat key in public scripts, and by layer first in the vendor's own tool.
    """
    import numpy as np

    try:
        runner.analyze_noise(frames, batch_size=1, data_count=len(frames))
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the network is quantized
        text = "[warning] the noise of the layers is not known: {}: {}\n"
        sys.stdout.write(text.format(type(error).__name__, error))
        return {}
    statistics = runner.get_params_statistics()
    noise = {}
    for layer in runner.get_hn_dict()["layers"]:
        figures = {}
        for figure, kinds in NOISE.items():
            known = [value for value in (_statistic(statistics, layer, kind) for kind in kinds) if value is not None]
            if known:
                figures[figure] = float(np.min(known[0]))
        if "snr_db" in figures:
            noise[layer] = figures
    return noise


def _statistic(statistics: Any, layer: str, kind: str) -> Any:
    key = "layer_noise_analysis/{}".format(kind)
    value = statistics.get("{}/{}".format(layer, key))
    if value is None and isinstance(statistics.get(layer), dict):
        value = statistics[layer].get(key)
    return value


def main(request_path: str, actions: Mapping[str, Callable[..., Dict[str, Any]]]) -> int:
    """Run the step that a request describes, in a process of its own; returns the exit code."""
    with open(request_path, encoding="utf-8") as stream:
        request = json.load(stream)
    become_worker(request["parent_pid"])
    # The SDK's imports must not find this folder's modules first.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    try:
        sdk = Sdk(request["provider"])
        result = {"sdk_version": sdk.version, **actions[request["action"]](sdk, **request["arguments"])}
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is reported to the one who judges it
        failure = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        _write(request["failure"], failure)
        return 1
    _write(request["result"], result)
    return 0


def _write(path: str, content: Dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


ACTIONS: Dict[str, Callable[..., Dict[str, Any]]] = {
    "parse": parse,
    "join": join,
    "quantize": quantize,
    "compile": compile,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], ACTIONS))
