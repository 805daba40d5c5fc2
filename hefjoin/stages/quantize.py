"""Quantize: the joined network in integers, and what that cost each model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, InputError
from hefjoin.results.checked import Frames, JoinCheck
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import LayerNoise, ModelAccuracy, OutputAccuracy, Quantized
from hefjoin.results.sources import Sdk
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.process import run_step
from hefjoin.spec import BuildSpec
from hefjoin.stages.accuracy import model_accuracy, output_accuracy
from hefjoin.stages.contract import Stage, Workplace, own_directory
from hefjoin.stages.precision import precision_line
from hefjoin.stages.script import assemble, before_optimize, changed_by_script, files, post_processed

NOISE_FRAMES = 16


class Quantize(Stage[Quantized]):
    """Quantize the joined network and compare it with its float self, and that with the network as parsed.

    Requires: a joined network, frames of its input's shape. Ensures: a quantized HAR; for every output of every
    model its SNR and agreement, but where the script post-processes it to boxes; finite outputs.
    """

    stage: ClassVar[str] = "quantize"
    version: ClassVar[int] = 5
    result: ClassVar[type[Quantized]] = Quantized

    name: str
    har: Ref
    output_layers: tuple[str, ...]
    script: str
    raised: dict[str, str] = Field(default_factory=dict)
    """Precision of layers, put over what the script says."""
    files: dict[str, Ref]
    """What the script refers to, by the name it has there."""
    post_processed: tuple[str, ...]
    """Models whose outputs the script replaces."""
    not_native: dict[str, str]
    """Models that the script makes another network of, and why."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the script's normalization, for the networks as parsed."""
    requested_level: int
    calibration: Ref
    evaluation: Frames
    sdk: Sdk

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined, place: Workplace) -> Self:
        """Return the stage for a build; the files that its scripts refer to go into the store."""
        with own_directory(place, "scripts") as folder:
            referred = {name: place.put(path, "json") for name, path in files(spec, folder).items()}
        return cls(
            name=joined.name,
            har=joined.network.har,
            output_layers=joined.output_layers,
            script=before_optimize(assemble(spec, checked, joined)),
            files=referred,
            post_processed=post_processed(spec),
            not_native=changed_by_script(spec),
            mean=checked.mean,
            std=checked.std,
            requested_level=spec.quantization.optimization_level,
            calibration=checked.calibration.npy,
            evaluation=checked.evaluation,
            sdk=place.toolchain.sdk,
        )

    def run(self, work: Path, place: Workplace) -> Quantized:
        """Start the SDK, then judge the outputs it wrote."""
        arguments = {
            "har": str(place.store.get(self.har, work / "joined.har")),
            "script": self.script + "".join(f"{precision_line(*each)}\n" for each in self.raised.items()),
            "calibration": str(place.store.get(self.calibration, work / "calibration.npy")),
            "evaluation": str(place.store.get(self.evaluation.npy, work / "evaluation.npy")),
            "quantized_har": str(work / "quantized.har"),
            "outputs": str(work / "outputs.npz"),
            "noise_frames": NOISE_FRAMES,
            "native_scopes": [model for model in self._models if model not in self.not_native],
            "mean": list(self.mean),
            "std": list(self.std),
        }
        for name, ref in self.files.items():
            place.store.get(ref, work / name)
        found = run_step(
            place.toolchain,
            "quantize",
            arguments,
            work,
            model=self.name,
            on_progress=place.on_progress,
            checkpoints=place.checkpoints,
        )
        outputs = tuple(found.result["outputs"])
        self._refuse_lost(outputs)
        unjudged = tuple(layer for layer in outputs if layer not in self.output_layers)
        noise = found.result["noise"]
        native, not_native = self._native(outputs, work / "outputs.npz")
        return Quantized(
            har=place.put(work / "quantized.har", "har"),
            script=found.result["script"],
            requested_level=self.requested_level,
            effective_level=sdk_log.effective_level(found.lines, self.requested_level),
            output_layers=outputs,
            unjudged=unjudged,
            accuracy=self._accuracy(outputs, work / "outputs.npz"),
            layer_noise=tuple(LayerNoise(layer=layer, **figures) for layer, figures in noise.items()),
            raised=self.raised,
            outputs=place.put(work / "outputs.npz", "npz"),
            native=native,
            not_native=not_native,
            warnings=sdk_log.warnings(found.lines),
        )

    def ensures(self, result: Quantized) -> None:
        """Check that every model was judged, on numbers."""
        judged = {output.layer: output.snr_db for accuracy in result.accuracy for output in accuracy.outputs}
        wanted = [layer for layer in result.output_layers if layer not in result.unjudged]
        missing = [layer for layer in wanted if not np.isfinite(judged.get(layer, np.nan))]
        if missing:
            raise CompileError(
                f"{self.name}: quantized outputs of {', '.join(missing)} are not finite; the network overflows in "
                "integers. Look at its layers' SNR, or clip its ranges in the model script",
                log_tail="",
            )

    def _refuse_lost(self, outputs: tuple[str, ...]) -> None:
        """Refuse a script that took outputs away from a model that it was not to post-process."""
        kept = [layer for layer in self.output_layers if layer.partition("/")[0] not in self.post_processed]
        lost = [layer for layer in kept if layer not in outputs]
        silent = [model for model in self.post_processed if not any(layer.startswith(f"{model}/") for layer in outputs)]
        if lost or silent:
            raise InputError(
                f"{self.name}: the model script left the outputs {', '.join(outputs)}; "
                f"{', '.join([*lost, *(f'any output of {model}' for model in silent)])} is gone"
            )

    def _accuracy(self, outputs: tuple[str, ...], path: Path) -> tuple[ModelAccuracy, ...]:
        by_model: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        with np.load(path) as arrays:
            for index, layer in enumerate(outputs):
                if layer in self.output_layers:
                    pair = arrays[f"float_{index}"], arrays[f"quantized_{index}"]
                    by_model.setdefault(layer.partition("/")[0], {})[layer] = pair
        return tuple(model_accuracy(model, pairs) for model, pairs in by_model.items())

    def _native(self, outputs: tuple[str, ...], path: Path) -> tuple[tuple[OutputAccuracy, ...], dict[str, str]]:
        """Compare the float outputs with those of the network as parsed; return also the models without, and why."""
        found, missing = [], dict(self.not_native)
        with np.load(path) as arrays:
            for index, layer in enumerate(outputs):
                model = layer.partition("/")[0]
                if layer not in self.output_layers or model in self.not_native:
                    continue
                native = arrays.get(f"native_{index}")
                if native is None:
                    missing[model] = "the compiler could not run it as parsed, see the warnings"
                elif not np.isfinite(native).all():
                    missing[model] = f"{layer} is not finite as parsed"
                else:
                    found.append(output_accuracy(layer, native, arrays[f"float_{index}"]))
        return tuple(found), missing

    @property
    def _models(self) -> list[str]:
        return list(dict.fromkeys(layer.partition("/")[0] for layer in self.output_layers))
