"""Ask an SDK what it does, one case per process: `python probe.py request.json`, the request as for `step.py`.

Runs where `step.py` runs and by the same rules: syntax of Python 3.8, the standard library, numpy and the SDK. The
one rule of its own: whatever the SDK does is an observation, not an error, and is written down before the next call,
so that a crash loses nothing that came before it.

events.jsonl in the working directory has one object a line: {"call": …}, {"stage": …} or {"note": …, "value": …}.
Arrays that `infer` returns lie beside it as `<context>.<index>.npy`.
"""

import contextlib
import enum
import importlib
import importlib.util
import inspect
import json
import os
import platform
import subprocess
import sys
import tarfile
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

MESSAGE_LIMIT = 8000
HELP_SECONDS = 120
SMALL = 64
"""Most elements of an array that is written down among the parameters: scales and zero points, not weights."""
PACKAGES = ("hailo-dataflow-compiler", "numpy", "onnx", "onnxruntime", "protobuf", "setuptools", "tensorflow")
ENUMS = ("JoinAction", "JoinOutputLayersOrder", "States", "InferenceContext", "CalibrationDataType", "Dims")
MEAN, STD = [120.0, 115.0, 105.0], [60.0, 58.0, 57.0]


class Refused(Exception):
    """The SDK raised where the case cannot go on; what it raised is in the recording."""


class Tape:
    """Writes down every call to the SDK, with what came of it."""

    def __init__(self, sdk: Any) -> None:
        self.sdk = sdk
        self.names: Dict[int, str] = {}
        self.held: List[Any] = []
        self._lock = threading.Lock()

    def runner(self, label: str, **keywords: Any) -> Any:
        """Make a `ClientRunner` that the recording calls `label`."""
        runner = self._record(label, "ClientRunner", None, self.sdk.ClientRunner, (), keywords)
        self.names[id(runner)] = label
        self.held.append(runner)  # so that no other object gets its id
        return runner

    def call(self, runner: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method that has to succeed for the case to go on."""
        label = self.names[id(runner)]
        return self._record(
            label, method, runner, lambda *a, **k: getattr(runner, method)(*a, **k), arguments, keywords
        )

    def attempt(self, runner: Any, method: str, *arguments: Any, **keywords: Any) -> bool:
        """Call a method that may be refused; return whether it was not."""
        with contextlib.suppress(Refused):
            self.call(runner, method, *arguments, **keywords)
            return True
        return False

    def infer(self, runner: Any, context: str, frames: Any) -> None:
        """Run frames in one context, and keep what comes back as `<context>.<index>.npy`."""
        import numpy as np

        def run(name: str, given: Any) -> Any:
            with runner.infer_context(getattr(self.sdk.InferenceContext, name)) as opened:
                return runner.infer(opened, given)

        found = self._record(self.names[id(runner)], "infer", runner, run, (context, frames), {})
        for index, array in enumerate(found if isinstance(found, list) else [found]):
            np.save("{}.{}.npy".format(context, index), np.asarray(array, np.float32))

    def note(self, what: str, value: Any) -> None:
        """Write down something that is no call."""
        self._write({"note": what, "value": value})

    def stage(self, runner: Any, name: str) -> None:
        """Write down a network as it is now: names, HN, and what its HAR holds."""
        self.call(runner, "save_har", name + ".har")
        self._write(
            {
                "stage": name,
                "model_name": str(runner.model_name),
                "hw_arch": str(runner.hw_arch),
                "hn": self.call(runner, "get_hn_dict"),
                "har": _har(name + ".har"),
            }
        )

    def _record(self, label: str, method: str, runner: Any, function: Any, arguments: Any, keywords: Any) -> Any:
        entry: Dict[str, Any] = {"on": label, "method": method, "state_before": _state(runner)}
        shown = [self._show(value) for value in arguments]
        shown += ["{}={}".format(name, self._show(value)) for name, value in keywords.items()]
        entry["arguments"] = ", ".join(shown)
        start = time.monotonic()
        try:
            result = function(*arguments, **keywords)
        except (Exception, SystemExit) as error:  # whatever is raised is what was asked for
            entry["raised"] = {
                "type": type(error).__name__,
                "module": type(error).__module__,
                "message": str(error)[:MESSAGE_LIMIT],
            }
            raise Refused("{}.{}: {}".format(label, method, type(error).__name__)) from error
        else:
            entry["returned"] = _shape(result)
            return result
        finally:
            entry["state_after"] = _state(runner)
            entry["seconds"] = time.monotonic() - start
            self._write({"call": entry})

    def _show(self, value: Any) -> str:
        if id(value) in self.names:
            return self.names[id(value)]
        if isinstance(value, enum.Enum):
            return "{}.{}".format(type(value).__name__, value.name)
        if isinstance(value, dict):
            return "{" + ", ".join("{!r}: {}".format(key, self._show(item)) for key, item in value.items()) + "}"
        return _shape(value) if hasattr(value, "dtype") or isinstance(value, bytes) else repr(value)

    def _write(self, entry: Dict[str, Any]) -> None:
        line = json.dumps(entry, default=str)
        with self._lock, open("events.jsonl", "a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def surface(tape: Tape, networks: List[Dict[str, Any]], provider: str) -> None:
    """Note the SDK's enumerations and signatures, and what it runs on."""
    root = STEP.PACKAGES[provider]
    definitions = importlib.import_module(root + ".exposed_definitions")
    for name in ENUMS:
        found: Any = getattr(definitions, name, None) or getattr(importlib.import_module(root), name, None)
        tape.note(name, [[item.name, str(item.value)] for item in found] if found else None)
    tape.note("SUPPORTED_HW_ARCHS", sorted(map(str, getattr(definitions, "SUPPORTED_HW_ARCHS", ()))))
    public = [name for name in dir(tape.sdk.ClientRunner) if not name.startswith("_")]
    tape.note("signatures", {name: _signature(tape.sdk.ClientRunner, name) for name in ["__init__", *public]})
    tape.note("machine", {"processor": platform.machine(), "system": platform.system(), "cores": os.cpu_count()})
    tape.note("versions", {"python": platform.python_version(), "sdk": tape.sdk.version, **_installed()})


def single(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Take a network from ONNX to HEF, running it in every form it takes."""
    _onward(tape, _parsed(tape, networks[0]), networks[0])


def pair(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Join two networks on their input, and take them to a HEF."""
    _onward(tape, _joined(tape, networks), networks[0])


def vanished(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Name a normalization for both inputs of a pair, though one of them was joined into the other."""
    runner = _joined(tape, networks)
    names = ["{0}/normalization1 = normalization({1}, {2}, {0}/input_layer1)".format(network["name"], MEAN, STD)
             for network in networks]  # fmt: skip
    if tape.attempt(runner, "load_model_script", "\n".join(names)) and tape.attempt(runner, "optimize_full_precision"):
        tape.stage(runner, "fp_optimized")


def unite(tape: Tape, networks: List[Dict[str, Any]], states: List[str], scopes: List[Any], action: str) -> None:
    """Try a join that may be refused; where it is not, go on as far as it goes."""
    left, right = [_parsed(tape, network, side) for network, side in zip(networks, ("left", "right"))]
    for runner, network, state in zip((left, right), networks, states):
        if state == "quantized":
            tape.call(runner, "optimize", _load(network["calibration"]))
    chosen = getattr(tape.sdk.JoinAction, action)
    if not tape.attempt(left, "join", right, scope1_name=scopes[0], scope2_name=scopes[1], join_action=chosen):
        return
    tape.stage(left, "joined")
    if states == ["parsed", "parsed"]:
        inputs = STEP._input_layers(left)
        tape.call(left, "optimize", {name: _load(network["calibration"]) for name, network in zip(inputs, networks)})
    _compile(tape, left, "compiled.hef")


def manners(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Make the calls that a strict SDK refuses."""
    network = networks[0]
    for label, keywords in (
        ("unknown arch", {"hw_arch": "hailo9"}),
        ("old keyword", {"har_path": "none.har"}),
        ("missing HAR", {"har": "none.har"}),
    ):
        with contextlib.suppress(Refused):
            tape.runner(label, **keywords)
    fresh = tape.runner("fresh")
    for method in ("get_hn_dict", "optimize_full_precision", "compile"):
        tape.attempt(fresh, method)
    tape.attempt(fresh, "load_model_script", "")
    tape.attempt(fresh, "optimize", _load(network["calibration"]))
    tape.attempt(fresh, "save_har", "fresh.har")
    odd: Tuple[Tuple[str, str, str, Dict[str, Any]], ...] = (
        ("missing file", "none.onnx", "net", {}),
        ("unknown keyword", network["model"], "net", {"no_such_keyword": 1}),
        ("misspelt node", network["model"], "net", {"end_node_names": ["no_such_node"]}),
        ("slash in name", network["model"], "a/b", {}),
        ("other shape", network["model"], "net", {"net_input_shapes": {"image": [1, 3, 20, 20]}}),
    )
    for label, model, name, options in odd:
        tape.attempt(tape.runner(label), "translate_onnx_model", model, name, **options)
    default = tape.runner("default name")
    tape.attempt(default, "translate_onnx_model", network["model"])
    tape.note("default net_name", str(default.model_name))
    _wrong_later(tape, _parsed(tape, network), network)


def _wrong_later(tape: Tape, runner: Any, network: Dict[str, Any]) -> None:
    frames = _load(network["calibration"])
    tape.attempt(runner, "translate_onnx_model", network["model"], "again")
    tape.attempt(runner, "compile")
    for context in ("SDK_FP_OPTIMIZED", "SDK_QUANTIZED"):
        with contextlib.suppress(Refused):
            tape.infer(runner, context, frames)
    for script in (
        "this is no command", "no_such_command(1)", "quantization_param(no_such_layer, precision_mode=a8_w8)",
        "no_such_file.alls", "allocator_param(", "", None,
    ):  # fmt: skip
        tape.attempt(runner, "load_model_script", script)
    tape.attempt(runner, "load_model_script", "performance_param(fps=10)", append=True)
    tape.attempt(runner, "load_model_script", "performance_param(fps=20)", apend=True)
    tape.note("model_script", str(runner.model_script))
    for wrong in (frames[:, :-1], frames.transpose(0, 3, 1, 2), [1, 2], {"no_such_layer": frames}, "none.npy"):
        tape.attempt(runner, "optimize", wrong)


def parse(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Parse networks and nothing more."""
    for network in networks:
        tape.stage(_parsed(tape, network), "parsed")


def threads(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Parse in two threads at once."""
    ready = threading.Barrier(len(networks))

    def work(network: Dict[str, Any]) -> None:
        ready.wait()
        with contextlib.suppress(Refused):
            _parsed(tape, network)
            tape.note("parsed in a thread: " + network["name"], True)

    workers = [threading.Thread(target=work, args=(network,)) for network in networks]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def commands(tape: Tape, networks: List[Dict[str, Any]]) -> None:
    """Ask the program `hailo`, where it lies beside the interpreter, for its help."""
    program = os.path.join(os.path.dirname(sys.executable), "hailo")
    is_there = os.path.isfile(program)
    tape.note("hailo", is_there)
    for words in (["--help"], ["join", "--help"], ["har", "--help"]) if is_there else ():
        try:
            done = subprocess.run(
                [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=HELP_SECONDS, check=False,
            )  # fmt: skip
            text = done.stdout.decode("utf-8", "replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            text = str(error)
        tape.note("hailo " + " ".join(words), text[:MESSAGE_LIMIT])


def _parsed(tape: Tape, network: Dict[str, Any], label: str = "") -> Any:
    runner = tape.runner(label or network["name"], hw_arch="hailo8")
    tape.call(runner, "translate_onnx_model", network["model"], network["name"])
    return runner


def _joined(tape: Tape, networks: List[Dict[str, Any]]) -> Any:
    """Join two networks with the scopes as dictionaries, or as text where these are refused."""
    left, right = [_parsed(tape, network) for network in networks]
    names = [network["name"] for network in networks]
    action = tape.sdk.JoinAction.AUTO_JOIN_INPUTS
    mine, other = [{name: name} for name in names]
    if not tape.attempt(left, "join", right, scope1_name=mine, scope2_name=other, join_action=action):
        tape.call(left, "join", right, scope1_name=names[0], scope2_name=names[1], join_action=action)
    return left


def _onward(tape: Tape, runner: Any, network: Dict[str, Any]) -> None:
    tape.stage(runner, "parsed")
    frames = _load(network["frames"]).astype("float32")
    tape.infer(runner, "SDK_NATIVE", frames)
    (name,) = STEP._input_layers(runner)
    line = "{}/normalization1 = normalization({}, {}, {})".format(name.partition("/")[0], MEAN, STD, name)
    tape.call(runner, "load_model_script", line)
    tape.call(runner, "optimize_full_precision")
    tape.stage(runner, "fp_optimized")
    tape.infer(runner, "SDK_FP_OPTIMIZED", frames)
    tape.call(runner, "optimize", _load(network["calibration"]))
    tape.attempt(runner, "analyze_noise", frames, batch_size=1, data_count=len(frames))
    tape.stage(runner, "quantized")
    tape.infer(runner, "SDK_QUANTIZED", frames)
    for method in ("get_params_statistics", "get_params_translated"):
        with contextlib.suppress(Refused):
            tape.note(method, _small(tape.call(runner, method)))
    _compile(tape, runner, "compiled.hef")
    tape.stage(runner, "compiled")


def _compile(tape: Tape, runner: Any, path: str) -> None:
    with open(path, "wb") as stream:
        stream.write(tape.call(runner, "compile"))


def _load(path: str) -> Any:
    import numpy as np

    return np.load(path)


def _small(parameters: Any) -> Dict[str, Any]:
    """Return what is small among parameters: scales, zero points, noise."""
    import numpy as np

    found = {}
    for name in sorted(map(str, parameters)):
        array = np.asarray(parameters[name])
        if array.dtype.kind in "biuf" and array.size <= SMALL:
            found[name] = array.astype(float).ravel().tolist()
    return found


def _shape(value: Any) -> str:
    """Return a value's type, and shape and type of what it holds."""
    if hasattr(value, "dtype"):
        return "{} {}".format(value.dtype, tuple(value.shape))
    if isinstance(value, (list, tuple)):
        return "{}[{}]".format(type(value).__name__, ", ".join(_shape(item) for item in value))
    return type(value).__name__


def _state(runner: Any) -> str:
    return str(getattr(getattr(runner, "state", None), "name", ""))


def _signature(owner: Any, name: str) -> str:
    """Return the parameters of a method, its defaults with them; `property` and the like for what is none."""
    member = inspect.getattr_static(owner, name)
    if not callable(member):
        return type(member).__name__
    try:
        parameters = inspect.signature(member).parameters.values()
    except (TypeError, ValueError):
        return "unknown"
    return ", ".join(str(item.replace(annotation=inspect.Parameter.empty)) for item in parameters)


def _installed() -> Dict[str, str]:
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _har(path: str) -> Dict[str, Any]:
    """Return what a HAR holds: its members in their order, and the text of its metadata."""
    try:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            texts = [archive.extractfile(item) for item in members if item.name.endswith(".metadata.json")]
            metadata = [text.read(MESSAGE_LIMIT).decode("utf-8", "replace") for text in texts if text]
    except (OSError, tarfile.TarError) as error:
        return {"members": [], "metadata": str(error)}
    return {"members": [[item.name, item.size] for item in members], "metadata": "".join(metadata)}


def case(sdk: Any, name: str, networks: List[Dict[str, Any]], options: Dict[str, Any]) -> Dict[str, Any]:
    """Run one case to its end, or to the call that ends it."""
    with contextlib.suppress(Refused):
        CASES[name](Tape(sdk), networks, **options)
    return {}


CASES: Dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (surface, single, pair, vanished, unite, manners, parse, threads, commands)
}


def _step() -> Any:
    """Load `step.py`, which alone names the SDK's packages, by its place: hefjoin may be absent here."""
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "step.py")
    spec = importlib.util.spec_from_file_location("step", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STEP = _step()

if __name__ == "__main__":
    sys.exit(STEP.main(sys.argv[1], {"case": case}))
