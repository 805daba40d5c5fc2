"""Quantize: the joined network in integers, and what that cost each model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from hefjoin.artifacts import Ref
from hefjoin.errors import CompileError, InputError
from hefjoin.manifest import Frames, LayerNoise, ModelAccuracy, Quantized, Sdk
from hefjoin.sdk import log as sdk_log
from hefjoin.sdk.process import run_step
from hefjoin.stages.accuracy import model_accuracy
from hefjoin.stages.contract import Stage, Workplace

NOISE_FRAMES = 8


class Quantize(Stage[Quantized]):
    """Quantize the joined network and compare it with its float self.

    Requires: a joined network, frames of its input's shape. Ensures: a quantized HAR; for every output of every
    model its SNR and agreement; finite outputs.
    """

    stage: ClassVar[str] = "quantize"
    version: ClassVar[int] = 2
    result: ClassVar[type[Quantized]] = Quantized

    name: str
    har: Ref
    output_layers: tuple[str, ...]
    script: str
    requested_level: int
    calibration: Ref
    evaluation: Frames
    sdk: Sdk

    def run(self, work: Path, place: Workplace) -> Quantized:
        """Start the SDK, then judge the outputs it wrote."""
        arguments = {
            "har": str(place.store.get(self.har, work / "joined.har")),
            "script": self.script,
            "calibration": str(place.store.get(self.calibration, work / "calibration.npy")),
            "evaluation": str(place.store.get(self.evaluation.npy, work / "evaluation.npy")),
            "quantized_har": str(work / "quantized.har"),
            "outputs": str(work / "outputs.npz"),
            "noise_frames": NOISE_FRAMES,
        }
        found = run_step(place.toolchain, "quantize", arguments, work, model=self.name, on_progress=place.on_progress)
        if found.result["outputs"] != list(self.output_layers):
            raise InputError(
                f"{self.name}: the model script left the outputs {found.result['outputs']}, "
                f"{list(self.output_layers)} were joined; accuracy is judged per joined output"
            )
        noise = found.result["noise"]
        return Quantized(
            har=place.store.put(work / "quantized.har", "har"),
            script=found.result["script"],
            requested_level=self.requested_level,
            effective_level=sdk_log.effective_level(found.lines, self.requested_level),
            accuracy=self._accuracy(work / "outputs.npz"),
            layer_noise=tuple(LayerNoise(layer=layer, snr_db=value) for layer, value in noise.items()),
            outputs=place.store.put(work / "outputs.npz", "npz"),
            warnings=sdk_log.warnings(found.lines),
        )

    def ensures(self, result: Quantized) -> None:
        """Check that every model was judged, on numbers."""
        judged = {output.layer: output.snr_db for accuracy in result.accuracy for output in accuracy.outputs}
        missing = [layer for layer in self.output_layers if not np.isfinite(judged.get(layer, np.nan))]
        if missing:
            raise CompileError(
                f"{self.name}: quantized outputs of {', '.join(missing)} are not finite; the network overflows in "
                "integers. Look at its layers' SNR, or clip its ranges in the model script",
                log_tail="",
            )

    def _accuracy(self, outputs: Path) -> tuple[ModelAccuracy, ...]:
        by_model: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        with np.load(outputs) as arrays:
            for index, layer in enumerate(self.output_layers):
                pair = arrays[f"float_{index}"], arrays[f"quantized_{index}"]
                by_model.setdefault(layer.partition("/")[0], {})[layer] = pair
        labels = self.evaluation.labels
        return tuple(model_accuracy(model, pairs, labels.get(model)) for model, pairs in by_model.items())
