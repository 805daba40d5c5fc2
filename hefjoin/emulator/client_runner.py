"""`ClientRunner`, the DFC's one door, with the DFC's calls, states, script and artifacts, on ONNX Runtime.

The rule: strict. A call the DFC's documentation does not show, in a state it does not allow, with an argument it
does not have, raises. What cannot be known without the compiler (how many contexts) is a forecast and says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hefjoin.emulator import archive, exceptions, hn
from hefjoin.emulator import compile as compiling
from hefjoin.emulator import optimize as optimizing
from hefjoin.emulator.calibrate import Ranges
from hefjoin.emulator.equalize import Factors, equalize
from hefjoin.emulator.exposed_definitions import (
    SUPPORTED_HW_ARCHS,
    CalibrationDataType,
    InferenceContext,
    JoinAction,
    States,
)
from hefjoin.emulator.feeds import Feeds, refuse_unlike, to_nhwc
from hefjoin.emulator.fp_optimize import fp_optimize
from hefjoin.emulator.graph import Array
from hefjoin.emulator.host import with_host_side
from hefjoin.emulator.join import Network, input_scales, renamed
from hefjoin.emulator.join import join as join_networks
from hefjoin.emulator.log import algorithm, duration, say
from hefjoin.emulator.noise import layer_noise
from hefjoin.emulator.plan import Plan, after_optimization, plan
from hefjoin.emulator.quantize import Encoding, quantized_tensors
from hefjoin.emulator.script_view import modified, with_host_steps
from hefjoin.emulator.states import LOADED, in_state
from hefjoin.emulator.translate import translate
from hefjoin.emulator.weights import Weight, Weights, arrays
from hefjoin.errors import InputError, SpecError
from hefjoin.formats.model_script import Script
from hefjoin.formats.model_script import parse as parse_script
from hefjoin.formats.model_script_files import named_file, read_config
from hefjoin.sessions import open_session

EQUALIZED = "/equalization/factors"
"""Ends the key of the statistics that hold what a layer's channels were divided by."""


@dataclass
class Context:
    """What `infer_context` yields: one form of the network, ready to run until the context ends."""

    infer_context: InferenceContext
    session: Any
    model: onnx.ModelProto


class ClientRunner:
    """One network (or several joined ones) on its way from ONNX to HEF."""

    def __init__(self, hw_arch: str | None = None, har: str | Path | None = None) -> None:
        """Create a runner.

        Args:
            hw_arch: `hailo8` or `hailo8l`; left out, that of the HAR, or `hailo8`.
            har: A HAR to load.
        """
        if hw_arch is not None and hw_arch not in SUPPORTED_HW_ARCHS:
            raise exceptions.InvalidArgumentsException(
                f"hw_arch {hw_arch!r} is not supported; one of {', '.join(SUPPORTED_HW_ARCHS)} is"
            )
        self.hw_arch = hw_arch or "hailo8"
        self.state = States.UNINITIALIZED
        self._model = onnx.ModelProto()
        self._weights: dict[str, Weight] = {}
        """The large constants of the model that stay in their files."""
        self._hn: hn.Hn = {}
        self._script = Script()
        self._optimized_by = Script()
        """The script in force when the network left its native form; a later one changes no numbers."""
        self._files: dict[str, Any] = {}
        """Content of the configurations that the script names, by the path it gives."""
        self._merged: dict[str, str] = {}
        self._quantized: onnx.ModelProto | None = None
        self._encodings: dict[str, Encoding] = {}
        self._statistics: dict[str, list[float]] = {}
        self._hef: bytes | None = None
        self._compiled_by = Script()
        if har is not None:
            self.load_har(har)
            self.hw_arch = hw_arch or self.hw_arch

    @in_state(States.UNINITIALIZED)
    def translate_onnx_model(
        self,
        model: str | Path,
        net_name: str = "model",
        start_node_names: Sequence[str] | None = None,
        end_node_names: Sequence[str] | None = None,
        net_input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> tuple[hn.Hn, dict[str, Any]]:
        """Translate an ONNX file; returns (HN, parameters), the parameters being inside the HAR only."""
        start = time.monotonic()
        if not net_name or "/" in net_name:
            raise exceptions.InvalidArgumentsException(f"net_name {net_name!r} must be a name without `/`")
        say(f"Translation started on ONNX model {net_name}")
        translated = translate(Path(model), net_name, start_node_names or (), end_node_names or (), net_input_shapes)
        self._model, self._weights = translated.model, translated.weights
        self._hn = hn.build(translated, net_name)
        self.state = States.HAILO_MODEL
        inputs = [f"'{layer['original_names'][0]}': '{name}'" for name, layer in hn.input_layers(self._hn).items()]
        ends = [f"'{layer['original_names'][0]}'" for layer in hn.output_layers(self._hn).values()]
        say(f"Start nodes mapped from original model: {', '.join(inputs)}.")
        say(f"End nodes mapped from original model: {', '.join(ends)}.")
        say(f"Translation completed on ONNX model {net_name} (completion time: {duration(start)})")
        return self._hn, {}

    def load_har(self, har: str | Path) -> None:
        """Load a HAR that this emulator wrote."""
        found = archive.read(Path(har))
        self._take(found.network)
        self._script, self._files = found.script, found.files
        self._hef, self._compiled_by = found.hef, found.compiled_by
        self.state, self.hw_arch = found.state, found.hw_arch

    @in_state(*LOADED)
    def save_har(self, har_path: str | Path) -> None:
        """Write the HAR; an existing file is replaced."""
        held = archive.Archived(
            self.state, self.hw_arch, self._network(), self._script, self._files, self._hef, self._compiled_by
        )
        archive.write(Path(har_path), held, self.get_hn_dict())
        say(f"Saved HAR to: {har_path}")

    @in_state(States.HAILO_MODEL, States.FP_OPTIMIZED_MODEL, States.QUANTIZED_MODEL)
    def join(
        self,
        runner: ClientRunner,
        scope1_name: Mapping[str, str] | str | None = None,
        scope2_name: Mapping[str, str] | str | None = None,
        join_action: JoinAction = JoinAction.NONE,
        join_action_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Join another runner's network into this one; networks that were optimized may only stand side by side.

        Args:
            runner: The other network, in the same state; it is left as it was.
            scope1_name: New names of this network's scopes: {old: new}, or a text where there is one scope.
            scope2_name: The same for the other network.
            join_action: How they are wired.
            join_action_info: For CUSTOM: {"<scope1>/<layer>": "<scope2>/<layer>"} with the new names; an input layer
                shares the other's input, an output layer feeds it. "output_layers_order" may name an order.
        """
        if not isinstance(runner, ClientRunner):
            raise exceptions.InvalidArgumentsException(f"runner must be a ClientRunner, is {type(runner).__name__}")
        if not isinstance(join_action, JoinAction):
            raise exceptions.InvalidArgumentsException(f"join_action must be a JoinAction, is {join_action!r}")
        if runner.state is not self.state:
            raise exceptions.InvalidStateException(
                f"both runners must be in one state: {self.state.value} and {runner.state.value}"
            )
        first, second = (
            renamed(side._network(), names) for side, names in ((self, scope1_name), (runner, scope2_name))
        )
        if join_action is not JoinAction.NONE and self.state is not States.HAILO_MODEL:
            raise exceptions.InvalidStateException(
                f"{join_action} wires parsed networks (hailo_model), these are in {self.state.value}"
                f"{input_scales(first, second)}; join them before optimizing, or with JoinAction.NONE"
            )
        self._take(join_networks(first, second, join_action, join_action_info or {}))
        self._script, self._files = Script(), {**runner._files, **self._files}

    def _network(self) -> Network:
        return Network(
            model=self._model,
            hn=self._hn,
            merged=self._merged,
            optimized_by=self._optimized_by,
            quantized=self._quantized,
            encodings=self._encodings,
            statistics=self._statistics,
            weights=self._weights,
        )

    def _take(self, network: Network) -> None:
        self._model, self._hn, self._merged, self._optimized_by = network[:4]
        self._quantized, self._encodings, self._statistics, self._weights = network[4:]

    @in_state(*LOADED)
    def load_model_script(self, model_script: str | Path | None, append: bool = False) -> None:
        """Take commands from text or from an .alls file; replaces what was loaded unless `append`.

        What has acted already stays: a script may repeat it (the vendor's tools load one file for every step), and
        new commands that would change numbers are refused.

        Raises:
            exceptions.InvalidArgumentsException: The script, or a configuration that it names, cannot be read.
            exceptions.BackendScriptParserException: It is written wrongly.
            exceptions.AllocatorScriptParserException: It does not fit the network or its state.
        """
        text, source = str(model_script or ""), "string"
        if isinstance(model_script, Path) or (text.strip().endswith(".alls") and "\n" not in text.strip()):
            source = text.strip()
            try:
                text = Path(source).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise exceptions.InvalidArgumentsException(f"{source} is no readable model script: {error}") from error
        say(f"Loading model script commands to {self.model_name} from {source}")
        try:
            script = parse_script(text, source=source)
        except SpecError as error:
            raise exceptions.BackendScriptParserException(str(error)) from error
        before = self._script.commands if append else ()
        candidate = Script((*before, *script.commands))
        files = self._files | self._configurations(script, Path(source).parent)
        candidate = after_optimization(candidate, self._optimized_by, self.state)
        self._plan(candidate, files)
        self._script, self._files = candidate, files

    @property
    def model_script(self) -> str:
        """The commands loaded so far."""
        return str(self._script)

    @in_state(States.HAILO_MODEL)
    def optimize_full_precision(self, calib_data: Any = None) -> None:
        """Apply the script's modifications and fold affine steps; `calib_data` has no use here."""
        self._fp_graph(self._script)
        self._optimized_by, self.state = self._script, States.FP_OPTIMIZED_MODEL

    @in_state(States.HAILO_MODEL, States.FP_OPTIMIZED_MODEL)
    def optimize(
        self,
        calib_data: Any,
        data_type: CalibrationDataType = CalibrationDataType.auto,
        work_dir: str | None = None,
    ) -> None:
        """Quantize.

        Args:
            calib_data: Raw frames, NHWC: an array, a dictionary {input layer: array} or the path of a .npy file.
            data_type: How to read `calib_data`; every form is told apart by itself.
            work_dir: Accepted as the DFC does; nothing is written there.
        """
        refuse_unlike(data_type, calib_data)
        script = self._plan(self._script)
        self._report(script)
        model = self._fp_graph(self._script)
        feeds = Feeds(model, calib_data)
        # A camera's bytes are sent to the chip as they are.
        known: Ranges = dict.fromkeys(hn.input_layers(self._hn), (0.0, 255.0)) if feeds.is_uint8 else {}
        found = optimizing.optimize(model, feeds, script, known)
        self._quantized, self._encodings = found.model, found.encodings
        self._statistics = {f"{name}{EQUALIZED}": factor.tolist() for name, factor in found.equalized.items()}
        self._optimized_by, self.state = self._script, States.QUANTIZED_MODEL
        say("Model Optimization is done")

    @in_state(States.QUANTIZED_MODEL, States.COMPILED_MODEL)
    def analyze_noise(self, dataset: Any, batch_size: int = 1, data_count: int | None = None) -> None:
        """Measure the noise at every layer's output; `get_params_statistics` has it afterwards."""
        del batch_size  # frames go one at a time
        reference = self._fp_graph(self._optimized_by)
        feeds = Feeds(reference, dataset)
        assert self._quantized is not None
        equalize(reference, self._equalized())
        layers = hn.computing_layers(self.get_hn_dict())
        tensors = [name for name in quantized_tensors(reference) if name in layers]
        with algorithm("Layer Noise Analysis"):
            found = layer_noise(reference, self._quantized, tensors, feeds.frames(data_count))
        for name, noise in found.items():
            for kind, value in (("", noise.accumulated), ("own_", noise.own)):
                self._statistics[f"{name}/layer_noise_analysis/{kind}snr"] = [value.snr_db]
                self._statistics[f"{name}/layer_noise_analysis/{kind}cosine"] = [value.cosine]

    def get_params_statistics(self) -> dict[str, list[float]]:
        """Return statistics, each a list of numbers, by key.

        `<layer>/layer_noise_analysis/snr` is the accumulated noise in dB and `…/cosine` its cosine; `…/own_snr` and
        `…/own_cosine`, which the DFC does not have, are those of the layer alone. `<layer>/equalization/factors`
        says what the channels of its output were divided by.
        """
        return self._statistics

    def _equalized(self) -> Factors:
        return {
            key.removesuffix(EQUALIZED): np.array(values, dtype=np.float32)
            for key, values in self._statistics.items()
            if key.endswith(EQUALIZED)
        }

    @contextmanager
    @in_state(*LOADED)
    def infer_context(self, inference_context: InferenceContext) -> Iterator[Context]:
        """Prepare one form of the network for `infer`."""
        if not isinstance(inference_context, InferenceContext):
            raise exceptions.InvalidArgumentsException(f"{inference_context!r} is no InferenceContext")
        outside: Weights = {}
        if inference_context is InferenceContext.SDK_NATIVE:
            model, outside = self._model, self._weights
        elif inference_context is InferenceContext.SDK_FP_OPTIMIZED and self.state is not States.HAILO_MODEL:
            model = with_host_side(self._fp_graph(self._optimized_by), self._plan(self._optimized_by).host_steps)
        elif inference_context is InferenceContext.SDK_QUANTIZED and self._quantized is not None:
            model = with_host_side(self._quantized, self._plan(self._optimized_by).host_steps)
        else:
            raise exceptions.InvalidStateException(
                f"{inference_context} needs an optimized model, the runner is in {self.state.value}"
            )
        context = Context(inference_context, open_session(model.SerializeToString(), weights=arrays(outside)), model)
        try:
            yield context
        finally:
            context.session = None

    def infer(self, context: Context, dataset: Any, data_count: int | None = None) -> Array | list[Array]:
        """Run frames; returns float32 NHWC, one array, or a list in the order of the output layers."""
        if not isinstance(context, Context) or context.session is None:
            raise exceptions.InvalidArgumentsException("infer needs the context of an open `with infer_context`")
        results = [context.session.run(None, feeds) for feeds in Feeds(context.model, dataset).frames(data_count)]
        outputs = [to_nhwc(np.concatenate(arrays)) for arrays in zip(*results, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs

    def compile(self) -> bytes:
        """Return the bytes of an emulated HEF."""
        if self._quantized is None:
            raise exceptions.BackendRuntimeException(
                "Failed to compile the model: Model requires quantized weights in order to run on HW, but none were "
                "given. Did you forget to quantize?"
            )
        script = self._plan(self._script)
        self._report(script)
        start = time.monotonic()
        say("Starting Hailo allocation and compilation flow (emulated: the number of contexts is a forecast)")
        fit = compiling.forecast(self._hn, self.hw_arch, self._script)
        say("Trying to compile the network in a single context")
        if script.single_context:
            compiling.refuse_unless_it_fits(fit)
        flow = "Single" if fit.contexts == 1 else "Multi"
        say(f"Using {flow}-context flow")
        say(
            f"Forecast: {fit.layers} layers of {fit.layer_limit}, {fit.parameters} parameters of "
            f"{fit.parameter_limit}, {fit.contexts} context(s), P(more than one) = "
            f"{fit.probability_of_more_contexts:.2f}"
        )
        say("Building HEF...")
        applied = self._plan(self._optimized_by)
        view = modified(self._hn, applied.modifications)
        steps = applied.host_steps
        self._hef = compiling.build_hef(view, self._quantized, self._encodings, fit, archive.SDK_VERSION, steps)
        say(f"Successful Compilation (compilation time: {time.monotonic() - start:.0f}s)")
        self._compiled_by, self.state = self._script.stage("compilation"), States.COMPILED_MODEL
        return self._hef

    @property
    def hef(self) -> bytes | None:
        """The compiled HEF."""
        return self._hef

    @property
    def model_name(self) -> str:
        """Name of the network; after a join `joined_<scope>_<scope>`."""
        return str(self._hn.get("name", ""))

    @in_state(*LOADED)
    def get_hn_dict(self) -> hn.Hn:
        """Return the HN, once the model is optimized with what the script made of it."""
        if self.state is States.HAILO_MODEL:
            return self._hn
        applied = self._plan(self._optimized_by)
        return with_host_steps(modified(self._hn, applied.modifications), applied.host_steps)

    def _plan(self, script: Script, files: Mapping[str, Any] | None = None) -> Plan:
        return plan(script, self._hn, self._merged, self._files if files is None else files)

    def _configurations(self, script: Script, folder: Path) -> dict[str, Any]:
        """Read what a script names, from beside it; what lies in the HAR need not be there any more."""
        paths = {path for command in script.commands if (path := named_file(command))}
        try:
            return {path: read_config(folder / path) for path in paths if path not in self._files}
        except InputError as error:
            raise exceptions.InvalidArgumentsException(str(error)) from error

    def _report(self, script: Plan) -> None:
        for text in script.warnings:
            say(text, "warning")
        for text in script.not_emulated:
            say(f"Not emulated, kept for the real compiler: {text}", "warning")

    def _fp_graph(self, script: Script) -> onnx.ModelProto:
        return fp_optimize(self._model, self._plan(script).modifications, self._weights)
