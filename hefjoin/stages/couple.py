"""Couple: in what the models of a join influence each other, and what that did to their numbers.

The rule: where nothing couples them that changes numbers, nothing is run and the report says so; else each model is
quantized alone, with its own part of the script and the same frames, and compared. A comparison is a `Quantize` like
any other, kept and reused by content.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from hefjoin.formats.model_script import Command, layers, parse
from hefjoin.formats.model_script_commands import COMMANDS
from hefjoin.formats.model_script_files import named_file
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined, Network
from hefjoin.results.quantized import Coupled, Coupling, Quantized, Repair, Repaired
from hefjoin.results.sources import Provider
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Stage, Workplace, perform
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.script import assemble_alone, before_optimize, post_processed, scripts

Array = npt.NDArray[Any]

logger = logging.getLogger("hefjoin.stages")

TRAINING = ("finetune", "adaround")
WITH_KERNEL = ("conv", "dw", "dense", "deconv")
"""Layers that take a normalization into their kernel, or leave it as it is."""
TRAINS_FROM = 2
"""The level from which the DFC trains."""


def couplings(
    spec: BuildSpec,
    provider: Provider,
    checked: JoinCheck,
    joined: Joined,
    quantized: Quantized,
    repair: Repair | None,
) -> tuple[Coupling, ...]:
    """Return in what ways the models influence each other, in words.

    Args:
        spec: What was built.
        provider: Who quantized: levels mean different work.
        checked: The shared input, and whether it is normalized.
        joined: The network.
        quantized: The joined network; the compiler may have done less than the spec asks for.
        repair: What a repair raised; None where there was none.
    """
    changing = [
        text
        for where, scope, script in scripts(spec)
        for command in parse(script, where).commands
        for text in _coupled_by(command, where if scope else "the joint script", scope)
    ]
    changing += [*_coupled_by_level(provider, quantized), *_coupled_by_normalization(checked, joined)]
    shared = [
        f"All models learn their ranges from the same {checked.calibration.health.count} frames, as each would alone",
        *_coupled_by_repair(spec, repair),
    ]
    return tuple(
        Coupling(text=text, changes_numbers=changes)
        for texts, changes in ((changing, True), (shared, False))
        for text in texts
    )


def _coupled_by(command: Command, where: str, scope: str) -> Iterator[str]:
    """Yield what one command of a script does to several models."""
    level = command.get("compression_level")
    shares = [key for key in ("auto_4bit_weights_ratio", "auto_16bit_weights_ratio") if command.get(key)]
    if level or shares:
        yield f"`{command}` in {where} chooses the layers that lose or gain bits over the weights of all models"
    elif command.args[:1] and str(command.args[0]) in TRAINING and command.get("policy") == "enabled":
        yield f"`{command}` in {where} trains all models together"
    elif scope and COMMANDS[command.name].stage == "optimization" and not list(layers(command)):
        yield f"`{command}` stands in {where} and acts on all models, not on {scope} alone"


def _coupled_by_level(provider: Provider, quantized: Quantized) -> Iterator[str]:
    level = quantized.effective_level
    if provider == "dfc" and level >= TRAINS_FROM:
        yield f"Optimization level {level} trains the weights of all models together"
    elif provider == "emulator" and level >= 1:
        yield (
            f"Optimization level {level} takes at most 64 frames, fewer where the tensors of all models together would "
            "need more than 256 MiB"
        )


def _coupled_by_repair(spec: BuildSpec, repair: Repair | None) -> Iterator[str]:
    if repair is None or not repair.rounds:
        return
    counts = {model.name: 0 for model in spec.models}
    for layer in repair.raised:
        counts[layer.partition("/")[0]] += 1
    got = ", ".join(f"{model} got {count}" for model, count in counts.items())
    yield f"All models share the {repair.budget} layers that a repair may raise: {got}; alone each has them raised too"


def _coupled_by_normalization(checked: JoinCheck, joined: Joined) -> Iterator[str]:
    """Yield the layers that a normalization of their own would be one with."""
    first = [layer for layer in joined.network.layers if joined.input_layer in layer.inputs]
    if checked.std and (merging := [layer.name for layer in first if layer.type not in WITH_KERNEL]):
        yield (
            f"The shared normalization is a layer of its own, rounded by itself; alone it would be one with "
            f"{', '.join(merging)}"
        )


class Couple(Stage[Coupled]):
    """Quantize each model alone.

    Requires: parsed networks whose scope is their model's name, and the joined one quantized. Ensures: the SNR of
    every output that was judged, its model quantized alone.
    """

    stage: ClassVar[str] = "couple"
    version: ClassVar[int] = 1
    result: ClassVar[type[Coupled]] = Coupled

    name: str
    joined: Quantized
    couplings: tuple[Coupling, ...]
    alone: tuple[Quantize, ...]
    """One for each model; none where nothing that changes numbers couples them."""

    @classmethod
    def of(
        cls,
        spec: BuildSpec,
        networks: Mapping[str, Network],
        checked: JoinCheck,
        joined: Joined,
        repaired: Repaired,
        place: Workplace,
    ) -> Self:
        """Return the stage for a build; a HAR that came with another scope than its model's name is left out."""
        quantized, provider = repaired.quantized, place.toolchain.sdk.provider
        ties = couplings(spec, provider, checked, joined, quantized, repaired.repair)
        whole = Quantize.of(spec, checked, joined, place)
        compared = [model.name for model in spec.models if any(tie.changes_numbers for tie in ties)]
        return cls(
            name=joined.name,
            joined=quantized,
            couplings=ties,
            alone=tuple(
                _alone(whole, spec, checked, joined, networks[name], quantized)
                for name in compared
                if networks[name].scopes == (name,)
            ),
        )

    def run(self, work: Path, place: Workplace) -> Coupled:
        """Quantize each model, and compare its outputs with those that it has in the joined network."""
        alone_db: dict[str, float] = {}
        equal: dict[str, bool] = {}
        together = _outputs(self.joined, work, place) if self.alone else {}
        for stage in self.alone:
            logger.info("couple %s: %s alone", self.name, stage.name)
            found = perform(stage, place).value
            alone_db |= found.snr_by_output
            equal |= {
                layer: np.array_equal(array, together[layer]) for layer, array in _outputs(found, work, place).items()
            }
        return Coupled(couplings=self.couplings, alone_db=alone_db, alone_bits_equal=equal)

    def ensures(self, result: Coupled) -> None:
        """Check that the outputs are those of the joined network."""
        models = {stage.name for stage in self.alone}
        judged = {layer for layer in self.joined.snr_by_output if layer.partition("/")[0] in models}
        assert set(result.alone_db) == set(result.alone_bits_equal) == judged


def _alone(
    whole: Quantize, spec: BuildSpec, checked: JoinCheck, joined: Joined, network: Network, quantized: Quantized
) -> Quantize:
    """Return how one model is quantized by itself: its HAR, its part of the script, all else as in the join."""
    (model,) = network.scopes
    script = assemble_alone(spec, checked, joined, network)
    named = {path for command in script.commands if (path := named_file(command))}
    return whole.model_copy(
        update={
            "name": model,
            "har": network.har,
            "output_layers": tuple(tensor.layer for tensor in network.outputs),
            "script": before_optimize(script),
            "files": {name: ref for name, ref in whole.files.items() if name in named},
            "post_processed": tuple(each for each in post_processed(spec) if each == model),
            "not_native": {each: reason for each, reason in whole.not_native.items() if each == model},
            "raised": {layer: mode for layer, mode in quantized.raised.items() if layer.startswith(f"{model}/")},
        }
    )


def _outputs(quantized: Quantized, work: Path, place: Workplace) -> dict[str, Array]:
    """Return the quantized outputs that were judged, by layer."""
    judged = quantized.snr_by_output
    with np.load(place.store.get(quantized.outputs, work / f"{quantized.outputs.sha256}.npz")) as arrays:
        return {
            layer: arrays[f"quantized_{index}"]
            for index, layer in enumerate(quantized.output_layers)
            if layer in judged
        }
