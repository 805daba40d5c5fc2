"""`ClientRunner`: the methods that public code shows, with the arguments it shows and no other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fake_dfc import allocation, archive, engine, hef, log, optimization, translation
from fake_dfc import network as networks
from fake_dfc import script as scripts
from fake_dfc.network import Network
from fake_dfc.switches import switches
from hailo_sdk_common.states.states import InvalidStateException, allowed_states

from hailo_sdk_client.exposed_definitions import SUPPORTED_HW_ARCHS, CalibrationDataType, InferenceContext, States
from hailo_sdk_client.exposed_definitions import _JoinAction as JoinAction
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    AllocatorScriptParserException,
    BackendRuntimeException,
    NMSConfigPostprocessException,
)

PARSED, OPTIMIZED = States.HAILO_MODEL, States.FP_OPTIMIZED_MODEL
QUANTIZED, COMPILED = States.QUANTIZED_MODEL, States.COMPILED_MODEL
ANY = (PARSED, OPTIMIZED, QUANTIZED, COMPILED)
DEFAULT_ENTRIES = 64
"""Of the calibration set, unless the script says `calibset_size`."""
RECOMMENDED_ENTRIES = 1024
DEFAULT_LEVEL = 2


class InvalidArgumentsException(Exception):
    """An argument is wrong."""


@dataclass
class _Context:
    """What `infer_context` yields."""

    infer_context: InferenceContext
    network: Network | None


class ClientRunner:
    """One network on its way from ONNX to HEF."""

    def __init__(self, hw_arch: str | None = None, har: str | Path | None = None) -> None:
        if hw_arch is not None and hw_arch not in SUPPORTED_HW_ARCHS:
            raise InvalidArgumentsException(f"hw_arch {hw_arch} is not supported, choose from {SUPPORTED_HW_ARCHS}")
        self.hw_arch = hw_arch or "hailo8"
        self.state = States.UNINITIALIZED
        self.hef: bytes | str | None = None
        self._native: Network | None = None
        self._fp: Network | None = None
        self._quantized: Network | None = None
        self._codes: dict[str, optimization.Encoding] = {}
        self._statistics: dict[str, dict[str, list[float]]] = {}
        self._script: list[str] = []
        self._configs: dict[str, Any] = {}
        self._auto_script = ""
        if har is not None:
            self.load_har(har)
            self.hw_arch = hw_arch or self.hw_arch

    @allowed_states(States.UNINITIALIZED)
    def translate_onnx_model(
        self,
        model: str | bytes,
        net_name: str = "model",
        start_node_names: Sequence[str] | None = None,
        end_node_names: Sequence[str] | None = None,
        net_input_shapes: Mapping[str, Sequence[int]] | None = None,
        augmented_path: str | None = None,
        disable_shape_inference: bool = False,
        disable_rt_metadata_extraction: bool = False,
        net_input_format: Mapping[str, Sequence[Any]] | None = None,
        *,
        disable_onnx_simplifier: bool = False,
    ) -> tuple[Any, Any]:
        """Translate an ONNX file; returns (HN, parameters)."""
        if not isinstance(model, str | bytes):
            raise TypeError(f"model is a path as text, or the bytes of a model, not {type(model).__name__}")
        if augmented_path or disable_shape_inference or net_input_format:
            raise NotImplementedError("the stand-in for the DFC translates with the defaults")
        start = time.monotonic()
        log.info(f"Translation started on ONNX model {net_name}")
        graph = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
        log.info(f"Restored ONNX model {net_name} (completion time: {log.clock(start)})")
        if not disable_rt_metadata_extraction:
            log.info(f"Extracted ONNXRuntime meta-data for Hailo model (completion time: {log.clock(start)})")
        found = translation.translate(
            graph, net_name, start_node_names or (), end_node_names or (), net_input_shapes or {}
        )
        starts = [f"'{layer['original_names'][0]}': '{name}'" for name, layer in found.layers("input_layer").items()]
        ends = [f"'{layer['original_names'][0]}'" for layer in found.layers("output_layer").values()]
        log.info(f"Start nodes mapped from original model: {', '.join(starts)}.")
        log.info(f"End nodes mapped from original model: {', '.join(ends)}.")
        log.info(f"Translation completed on ONNX model {net_name} (completion time: {log.clock(start)})")
        self._native, self.state = found, PARSED
        return found.hn, self.get_params()

    def load_har(self, har: str | Path) -> None:
        """Load a HAR."""
        content = archive.load(har)
        self.hw_arch, self.state = content.hw_arch, States(content.state)
        self._native, self._fp, self._quantized = content.native, content.fp, content.quantized
        self._codes, self._statistics, self.hef = content.codes, content.statistics, content.hef
        self._script, self._auto_script, self._configs = content.script, content.auto_script, content.configs

    @allowed_states(*ANY)
    def save_har(self, har_path: str | Path) -> None:
        """Write a HAR; one that is there is replaced."""
        content = archive.Content(
            hw_arch=self.hw_arch, state=self.state.value, native=self._network(PARSED), fp=self._fp,
            quantized=self._quantized, codes=self._codes, statistics=self._statistics,
            hef=self.hef if isinstance(self.hef, bytes) else None, script=self._script, configs=self._configs,
            auto_script=self._auto_script,
        )  # fmt: skip
        archive.save(har_path, content, self.get_params(), version("hailo-dataflow-compiler"))
        log.info(f"Saved HAR to: {har_path}")

    @allowed_states(PARSED)
    def join(
        self,
        runner: ClientRunner,
        scope1_name: Mapping[str, str] | str | None = None,
        scope2_name: Mapping[str, str] | str | None = None,
        join_action: Any = JoinAction.NONE,
        join_action_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Take another runner's network into this one; by default they stay unconnected."""
        if not isinstance(runner, ClientRunner) or not isinstance(join_action, JoinAction):
            raise InvalidArgumentsException("join takes a ClientRunner and a JoinAction")
        if join_action is JoinAction.CUSTOM or join_action_info:
            raise NotImplementedError("the stand-in for the DFC joins without join_action_info")
        if runner.state is not self.state:
            raise InvalidStateException(f"Both runners must be in the same state: {self.state}, {runner.state}")
        first, second = _renamed(self._network(PARSED), scope1_name), _renamed(runner._network(PARSED), scope2_name)
        if overlap := set(first.scopes) & set(second.scopes):
            raise InvalidArgumentsException(f"Scope names overlap: {sorted(overlap)}")
        shared = _shared_input(first, second) if join_action is JoinAction.AUTO_JOIN_INPUTS else {}
        self._native, self._script = networks.joined(first, second, shared), []

    @allowed_states(*ANY)
    def load_model_script(self, model_script: str | Path | None = None, append: bool = False) -> None:
        """Load commands from text or a file; what was loaded is replaced, unless `append`."""
        text, source = str(model_script or ""), "string"
        if isinstance(model_script, Path) or (text.endswith(".alls") and "\n" not in text):
            source = text
            text = Path(text).read_text(encoding="utf-8")
        log.info(f"Loading model script commands to {self.model_name} from {source}")
        commands = scripts.parse(text)
        late = [command.name for command in commands if command.stage in ("modification", "optimization")]
        if late and self.state in (QUANTIZED, COMPILED):
            raise AllocatorScriptParserException(f"{', '.join(late)}: not allowed after optimization")
        if self.state is PARSED:
            self._configs |= _configs(commands, Path(source).parent if source != "string" else Path())
            changed = optimization.modified(self._network(PARSED), commands, self._configs)
            _bits(changed, commands)
        lines = text.splitlines()
        self._script = [*self._script, *lines] if append else lines

    @property
    def model_script(self) -> str:
        """The text that was loaded."""
        return "\n".join(self._script)

    @allowed_states(PARSED)
    def optimize_full_precision(self, calib_data: Any = None) -> None:
        """Apply the script's modifications."""
        del calib_data
        self._fp = optimization.modified(self._network(PARSED), self._commands(), self._configs)
        self.state = OPTIMIZED

    @allowed_states(PARSED, OPTIMIZED)
    def optimize(
        self,
        calib_data: Any,
        data_type: CalibrationDataType = CalibrationDataType.auto,
        work_dir: str | None = None,
    ) -> None:
        """Quantize with raw frames (NHWC): an array, {input layer: array} or the path of a .npy file."""
        if not isinstance(data_type, CalibrationDataType):
            raise InvalidArgumentsException(f"data_type must be a CalibrationDataType, not {data_type!r}")
        del work_dir
        commands = self._commands()
        network = self._fp or optimization.modified(self._network(PARSED), commands, self._configs)
        frames = engine.frames_by_input(network, calib_data)
        count = min(_said(commands, "calibset_size", DEFAULT_ENTRIES), *(len(array) for array in frames.values()))
        log.info("Starting Model Optimization")
        _report_level(commands, len(next(iter(frames.values()))))
        log.info("Model received quantization params from the hn")
        log.info(f"Using dataset with {count} entries for calibration")
        with log.algorithm("Statistics Collector"):
            log.bar("Calibration", count)
            bits = _bits(network, commands)
            first = {name: array[:count] for name, array in frames.items()}
            self._quantized, self._codes = optimization.quantized(network, first, bits)
        for name in ("Fix zp_comp Encoding", "Matmul Equalization", "Bias Correction"):
            log.info(f"{name} skipped")
        self._fp, self.state = network, QUANTIZED
        log.info("Model Optimization is done")

    @allowed_states(QUANTIZED, COMPILED)
    def analyze_noise(self, dataset: Any, batch_size: int = 1, data_count: int | None = None) -> None:
        """Measure each layer's noise; `get_params_statistics` has it afterwards."""
        del batch_size
        network = self._network(OPTIMIZED)
        frames = {name: a[:data_count] for name, a in engine.frames_by_input(network, dataset).items()}
        layers = network.computing
        with log.algorithm("Layer Noise Analysis"):
            log.bar("Full Quant Analysis", len(next(iter(frames.values()))), "iterations")
            exact, rough = (engine.run(form, frames, layers) for form in (network, self._network(QUANTIZED)))
        found = {name: optimization.layer_snr_db(*pair) for name, *pair in zip(layers, exact, rough, strict=True)}
        self._statistics = {name: {"layer_noise_analysis/partial_snr": [value]} for name, value in found.items()}
        log.info("Output layers signal-to-noise ratio (SNR): measures the quantization noise (higher is better)")
        for name, layer in network.layers("output_layer").items():
            if (source := layer["input"][0]) in found:
                log.info(f"\t{name} SNR:\t{found[source]:.3f} dB")

    def get_params_statistics(self) -> dict[str, dict[str, Any]]:
        """Return statistics by layer; the simple noise analysis under `layer_noise_analysis/partial_snr`."""
        return {
            name: {key: np.array(value, np.float32) for key, value in row.items()}
            for name, row in self._statistics.items()
        }

    def compile(self) -> bytes:
        """Return the bytes of a HEF."""
        if self.state not in (QUANTIZED, COMPILED):
            raise BackendRuntimeException(
                "Failed to compile the model: Model requires quantized weights in order to run on HW, but none were "
                "given. Did you forget to quantize?"
            )
        network, commands = self._network(QUANTIZED), self._commands()
        contexts = allocation.allocate(network, self.hw_arch, commands, switches())
        self._auto_script = allocation.decisions(network, commands, contexts)
        codes = self._codes
        if switches().demotes_16_bit_outputs:  # and keeps the stale scale, as users of 3.33 found
            codes = {name: {**code, "bits": 8} if name in network.order else code for name, code in codes.items()}
        self.hef = hef.build(network, codes, self.hw_arch, version("hailo-dataflow-compiler"), contexts)
        self.state = COMPILED
        return self.hef

    @contextmanager
    @allowed_states(*ANY)
    def infer_context(
        self,
        inference_context: InferenceContext,
        device_ids: Any = None,
        nms_score_threshold: float | None = None,
        custom_infer_config: Any = None,
        gpu_policy: Any = None,
    ) -> Iterator[_Context]:
        """Prepare one form of the network for `infer`."""
        forms = {
            InferenceContext.SDK_NATIVE: PARSED,
            InferenceContext.SDK_FP_OPTIMIZED: OPTIMIZED,
            InferenceContext.SDK_QUANTIZED: QUANTIZED,
        }
        options = (device_ids, nms_score_threshold, custom_infer_config, gpu_policy)
        if not isinstance(inference_context, InferenceContext):
            raise InvalidArgumentsException(f"{inference_context!r} is not an InferenceContext")
        if inference_context not in forms or any(options):
            raise NotImplementedError("the stand-in for the DFC runs native, fp_optimized and quantized models only")
        context = _Context(inference_context, self._network(forms[inference_context]))
        try:
            yield context
        finally:
            context.network = None

    @allowed_states(*ANY)
    def infer(
        self,
        context: _Context,
        dataset: Any,
        data_type: CalibrationDataType | str = CalibrationDataType.auto,
        data_count: int | None = None,
        batch_size: int = 1,
    ) -> Any:
        """Return an array for one output, a list of arrays for several."""
        del data_type, batch_size
        if not isinstance(context, _Context) or context.network is None:
            raise InvalidArgumentsException("infer needs the context of an open `with runner.infer_context(…)`")
        frames = {name: a[:data_count] for name, a in engine.frames_by_input(context.network, dataset).items()}
        log.bar("Inference", len(next(iter(frames.values()))))
        found = engine.run(context.network, frames)
        return found[0] if len(found) == 1 else found

    @property
    def model_name(self) -> str:
        """The network's name, after a join `joined_<scope>_<scope>`."""
        return str(self._network(PARSED).hn["name"])

    @allowed_states(*ANY)
    def get_hn_dict(self) -> dict[str, Any]:
        """Return the HN of the current state."""
        return self._network(self.state).hn

    get_hn = get_hn_dict

    @allowed_states(*ANY)
    def get_params(self) -> dict[str, Any]:
        """Return the native weights, `<scope>/<layer>/kernel:0` and `bias:0`."""
        return translation.weights(self._network(PARSED))

    def _commands(self) -> list[scripts.Command]:
        return scripts.parse(self.model_script)

    def _network(self, state: States) -> Network:
        """Return the network as it is in a state.

        Raises:
            InvalidStateException: It has not come so far.
        """
        forms = {PARSED: self._native, OPTIMIZED: self._fp, QUANTIZED: self._quantized, COMPILED: self._quantized}
        found = forms.get(state)
        if found is None:
            raise InvalidStateException(f"The model is in {self.state}, {state} is needed")
        return found


def _renamed(network: Network, names: Mapping[str, str] | str | None) -> Network:
    if isinstance(names, str):
        if len(network.scopes) != 1:
            raise InvalidArgumentsException(f"One scope name given for the scopes {network.scopes}")
        names = {network.scopes[0]: names}
    elif switches().refuses_dict_scopes and names is not None:
        raise InvalidArgumentsException(f"Scope name must be a string, {type(names).__name__} given")
    if unknown := set(names or {}) - set(network.scopes):
        raise InvalidArgumentsException(f"Scopes {sorted(unknown)} do not exist, the model has {network.scopes}")
    return networks.rename(network, names or {})


def _shared_input(first: Network, second: Network) -> dict[str, str]:
    sides = [side.layers("input_layer") for side in (first, second)]
    if any(len(inputs) != 1 for inputs in sides):
        raise InvalidArgumentsException(f"Auto join needs one input on each side, not {[list(side) for side in sides]}")
    (kept,), (dropped,) = sides
    shapes = [inputs[name]["output_shapes"][0] for inputs, name in zip(sides, (kept, dropped), strict=True)]
    if shapes[0] != shapes[1]:
        raise InvalidArgumentsException(f"The inputs differ: {kept} is {shapes[0]}, {dropped} is {shapes[1]}")
    return {} if switches().keeps_both_inputs else {dropped: kept}


def _configs(commands: Sequence[scripts.Command], folder: Path) -> dict[str, Any]:
    found = {}
    for command in commands:
        files = [item for item in command.args if str(item).endswith(".json")]
        for name in files if command.name == "nms_postprocess" else []:
            if not (folder / name).is_file():
                raise NMSConfigPostprocessException(f"NMS config file {folder / name} not found")
            found[str(name)] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def _said(commands: Sequence[scripts.Command], keyword: str, default: Any) -> Any:
    return next((c.kwargs[keyword] for c in reversed(commands) if keyword in c.kwargs), default)


def _bits(network: Network, commands: Sequence[scripts.Command]) -> dict[str, int]:
    found: dict[str, int] = {}
    for command in commands:
        if command.name == "quantization_param":
            layers = optimization.selected(network, command.args[0])
            wide = str(command.kwargs.get("precision_mode")).startswith("a16")
            feeding = [network.hn["layers"][n]["input"][0] if "/output_layer" in n else n for n in layers]
            found.update(dict.fromkeys(feeding, 16 if wide else 8))
    return found


def _report_level(commands: Sequence[scripts.Command], entries: int) -> None:
    level = _said(commands, "optimization_level", None)
    if level is None and switches().has_gpu and entries >= RECOMMENDED_ENTRIES:
        log.info(f"Using default optimization level of {DEFAULT_LEVEL}")
    if level != 0 and not switches().has_gpu:
        log.warning(
            "Reducing optimization level to 0 (the accuracy won't be optimized and compression won't be used) because "
            "there's no available GPU"
        )
