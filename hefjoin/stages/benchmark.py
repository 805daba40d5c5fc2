"""Benchmark: run the HEF on real frames, on the device that runs what was built; time it and judge its outputs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hefjoin.artifacts import Ref
from hefjoin.devices import guard, hailort, open_device
from hefjoin.devices.emulated import cpu_name
from hefjoin.errors import DeviceError
from hefjoin.results.checked import Frames, JoinCheck
from hefjoin.results.compiled import Compiled
from hefjoin.results.measured import Measured
from hefjoin.results.quantized import Quantized
from hefjoin.sdk.log import Progress
from hefjoin.spec import NAME_PATTERN, BuildSpec, DeviceKind
from hefjoin.stages.accuracy import model_accuracy
from hefjoin.stages.contract import Stage, Workplace

NOT_MEASURED = "not measured"

Outputs = Mapping[str, npt.NDArray[Any]]


class Benchmark(Stage[Measured]):
    """Measure throughput and latency, and each model's accuracy where the device hands its outputs back.

    Requires: a HEF, frames of its input's shape, what the float network gave for them. Ensures: a figure for each
    batch size, with its source; or none, and why.
    """

    stage: ClassVar[str] = "benchmark"
    version: ClassVar[int] = 4
    result: ClassVar[type[Measured]] = Measured

    name: str = Field(pattern=NAME_PATTERN)
    hef: Ref
    is_emulated: bool
    evaluation: Frames
    outputs: Ref
    """.npz of the quantize stage: `float_<i>` per judged output, i as in `output_layers`."""
    output_layers: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    seconds: float
    device: DeviceKind
    host: str
    """The machine and its HailoRT: a figure of one is not reused for another."""

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, quantized: Quantized, compiled: Compiled) -> Self:
        """Return the stage for a build, on this machine."""
        return cls(
            name=spec.name,
            hef=compiled.hef,
            is_emulated=compiled.is_emulated,
            evaluation=checked.evaluation,
            outputs=quantized.outputs,
            output_layers=quantized.output_layers,
            batch_sizes=tuple(spec.benchmark.batch_sizes),
            seconds=spec.benchmark.seconds,
            device=spec.benchmark.device,
            host=this_host(),
        )

    def run(self, work: Path, place: Workplace) -> Measured:
        """Bring the HEF and the frames to the device; where `auto` finds none, say so."""
        suffix = "emulated.hef" if self.is_emulated else "hef"
        hef = place.store.get(self.hef, work / f"{self.name}.{suffix}")
        frames = place.store.get(self.evaluation.npy, work / "frames.npy")

        def on_round(done: int, total: int) -> None:
            if place.on_progress is not None:
                place.on_progress(Progress("Benchmark", done, total))

        try:
            device = open_device(self.device, self.is_emulated)
            measured = device.benchmark(hef, frames, self.batch_sizes, self.seconds, on_round)
            given = device.outputs(hef, frames)
        except DeviceError as error:
            if self.device != "auto" or error.reason != "missing":
                raise
            return Measured(source=NOT_MEASURED, device=error.message, batches=(), load_average=os.getloadavg()[0])
        if given is None:
            return measured
        return self._judged(measured, given, place.store.get(self.outputs, work / "outputs.npz"), place)

    def ensures(self, result: Measured) -> None:
        """Check that nothing emulated is taken for a measurement on a device."""
        measured = [batch.batch_size for batch in result.batches]
        wanted = list(self.batch_sizes) if result.source != NOT_MEASURED else []
        if measured != wanted or (result.source == "emulator") != self.is_emulated:
            raise DeviceError(
                f"{self.name}: {result.device} measured batch sizes {measured} as {result.source!r}, not {wanted}",
                is_transient=False,
            )

    def is_final(self, result: Measured) -> bool:
        """Return whether a device was there; next time one may be plugged in."""
        return result.source != NOT_MEASURED

    def _judged(self, measured: Measured, given: Outputs, outputs: Path, place: Workplace) -> Measured:
        """Return the measurement with the accuracy of the device's outputs, and a note for each that is not judged."""
        with np.load(outputs) as arrays:
            keys = {layer: f"float_{index}" for index, layer in enumerate(self.output_layers)}
            exact = {layer: arrays[key] for layer, key in keys.items() if key in arrays}
        notes = [note for layer in exact if (note := _not_judged(layer, exact[layer], given))]
        pairs = {
            layer: (array, given[layer].reshape(array.shape))
            for layer, array in exact.items()
            if not _not_judged(layer, array, given)
        }
        by_model: dict[str, dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {}
        for layer, pair in pairs.items():
            by_model.setdefault(layer.partition("/")[0], {})[layer] = pair
        kept = outputs.with_name("device.npz")
        on_device = {f"device_{self.output_layers.index(layer)}": array for layer, (_, array) in pairs.items()}
        np.savez(kept, allow_pickle=False, **on_device)
        return measured.model_copy(
            update={
                "accuracy": tuple(model_accuracy(model, found) for model, found in by_model.items()),
                "outputs": place.put(kept, "npz") if pairs else None,
                "notes": (*measured.notes, *notes),
            }
        )


def this_host() -> str:
    """Return this machine, and what of it decides a figure: processor, HailoRT, driver, the chip that is chosen."""
    runtime = (hailort.installed_version(), guard.driver_version(), os.environ.get(guard.DEVICE, ""))
    return ", ".join(filter(None, (platform.node(), cpu_name(), *runtime)))


def _not_judged(layer: str, exact: npt.NDArray[Any], given: Outputs) -> str:
    """Return why an output of the device cannot be compared; empty where it can."""
    if layer not in given:
        return f"accuracy of {layer}: not available (the device gave {', '.join(given) or 'no arrays'})"
    if given[layer].size != exact.size:
        return f"accuracy of {layer}: not available (shape {given[layer].shape}, the float network's {exact.shape})"
    if not np.isfinite(given[layer]).all():
        return f"accuracy of {layer}: not available (the device gave values that are not finite)"
    return ""
