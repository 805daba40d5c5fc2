"""Repair: the noisiest layers get more bits, until every output reaches the floor that the spec sets.

The rule: no more layers than the spec allows, none whose precision a script fixes, and none with which the forecast
says that the single context is lost. Each round is a `Quantize` of its own, so that a build never does one twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar, Self

from hefjoin.errors import CompileError
from hefjoin.forecast.fit import Fit, chip_facts, counted_parameters, forecast_fit
from hefjoin.forecast.noise import Snr, noise_to_signal, shares, worth_raising
from hefjoin.manifest import Held, JoinCheck, Joined, LayerView, Quantized, Repair, Repaired, RepairRound
from hefjoin.spec import BuildSpec, HwArch
from hefjoin.stages.contract import Stage, Workplace, perform
from hefjoin.stages.precision import WIDE_ACTIVATIONS, precisions
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.script import assemble, own_scripts

logger = logging.getLogger("hefjoin.stages")

LEAST_GAIN_DB = 0.1
"""That a round must bring to one of the outputs it is for; with less, what is left is no matter of bits."""
LEAST_SHARE = 0.01
"""Of an output's noise, below which it is not told why a layer was not raised."""


class RepairStage(Stage[Repaired]):
    """Raise layers.

    Requires: a quantized network with its layers' noise. Ensures: every output reaches the floor, or the reason why
    one does not; in any case a network that is whole.
    """

    stage: ClassVar[str] = "repair"
    version: ClassVar[int] = 1
    result: ClassVar[type[Repaired]] = Repaired

    quantize: Quantize
    """How the network was quantized."""
    quantized: Quantized
    layers: tuple[LayerView, ...]
    fixed: tuple[str, ...]
    """Layers whose precision the spec's scripts say."""
    wide: tuple[str, ...]
    """Layers that have 16 bits already."""
    floor_db: float
    budget: int
    single_context: bool
    hw_arch: HwArch

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized, place: Workplace) -> Self:
        """Return the stage for a build."""
        names = [layer.name for layer in joined.network.layers]
        modes = precisions(assemble(spec, checked, joined), names, joined.output_layers)
        return cls(
            quantize=Quantize.of(spec, checked, joined, place),
            quantized=quantized,
            layers=joined.network.layers,
            fixed=tuple(precisions(own_scripts(spec, joined), names, joined.output_layers)),
            wide=tuple(name for name, mode in modes.items() if mode.startswith(WIDE_ACTIVATIONS)),
            floor_db=spec.gates.min_snr_db,
            budget=spec.quantization.repair_layers,
            single_context=spec.compile.single_context,
            hw_arch=spec.hw_arch,
        )

    @property
    def subject(self) -> str:
        """The joined network."""
        return self.quantize.name

    def run(self, work: Path, place: Workplace) -> Repaired:
        """Raise, quantize and measure, until there is nothing to do or nothing that may be done."""
        del work
        latest, rounds, held = self.quantized, list[RepairRound](), tuple[Held, ...]()
        while not (ending := self._ending(latest, rounds)):
            raised = tuple(latest.raised)
            chosen, held = self._choice(latest, raised, least=2 ** len(rounds))
            if not chosen:
                ending = "nothing that would help may be raised"
                break
            stage = self.quantize.model_copy(update={"raised": dict.fromkeys((*raised, *chosen), self._mode)})
            expected = self._expected(latest, chosen)
            logger.info("repair %s: %s to %s", self.subject, ", ".join(chosen), self._mode)
            try:
                outcome = perform(stage, place)
            except CompileError as error:
                ending = f"with {', '.join(chosen)} in {self._mode} the network could not be quantized: {error.message}"
                break
            rounds.append(self._round(outcome.value, chosen, expected, is_reused=outcome.run.is_reused))
            self._tell(latest, rounds[-1])
            latest = outcome.value
        logger.info("repair %s: %s", self.subject, ending)
        repair = Repair(
            floor_db=self.floor_db,
            budget=self.budget,
            mode=self._mode,
            snr_db=snr_by_output(self.quantized),
            fit=self._fit(()),
            rounds=tuple(rounds),
            held=held,
            ending=ending,
        )
        return Repaired(quantized=latest, repair=repair)

    def ensures(self, result: Repaired) -> None:
        """Check that the network is the one that the rounds tell of, and that no limit was passed."""
        repair = result.repair
        assert repair.raised == tuple(result.quantized.raised)
        assert len(repair.raised) <= self.budget
        assert not set(repair.raised) & {*self.fixed, *self.wide}

    @property
    def _mode(self) -> str:
        return str(chip_facts()["precision"]["raised"]["mode"])

    def _missed(self, quantized: Quantized) -> dict[str, float]:
        return {layer: snr_db for layer, snr_db in snr_by_output(quantized).items() if snr_db < self.floor_db}

    def _ending(self, quantized: Quantized, rounds: Sequence[RepairRound]) -> str:
        """Return why there is no further round; empty where one may help."""
        missed = self._missed(quantized)
        if not missed:
            return f"every output reaches {self.floor_db:g} dB"
        if self.budget == 0:
            return "quantization.repair_layers is 0"
        if len(quantized.raised) >= self.budget:
            return f"the {self.budget} layers of quantization.repair_layers are used up"
        if not quantized.layer_noise:
            return "the noise of the layers is not known"
        before = rounds[-2].snr_db if len(rounds) > 1 else snr_by_output(self.quantized)
        if rounds and all(snr_db - before[layer] < LEAST_GAIN_DB for layer, snr_db in missed.items()):
            return f"the last round brought less than {LEAST_GAIN_DB:g} dB; what is left is no matter of bits"
        return ""

    def _choice(
        self, quantized: Quantized, raised: Collection[str], least: int
    ) -> tuple[tuple[str, ...], tuple[Held, ...]]:
        """Return the layers to raise next, and those that would have been."""
        missed, left = self._missed(quantized), self.budget - len(raised)
        brought = self._brought(quantized, missed)
        worst = brought[min(missed, key=missed.__getitem__)]
        held: list[Held] = []

        def is_free(layer: str, chosen: Collection[str]) -> bool:
            reason = self._why_not(layer, (*raised, *chosen))
            if reason and worst.get(layer, 0.0) >= LEAST_SHARE:
                held.append(Held(layer=layer, share=worst[layer], reason=reason))
            return not reason

        most = left if left <= 2 else math.ceil(left / 2)  # the other half is chosen by what this one brought
        found = worth_raising(missed, brought, self.floor_db, range(min(least, most), most + 1), is_free)
        return tuple(found), tuple(held)

    def _brought(self, quantized: Quantized, outputs: Collection[str]) -> dict[str, dict[str, float]]:
        noise = {each.layer: Snr(each.snr_db, each.own_snr_db) for each in quantized.layer_noise}
        inputs = {layer.name: layer.inputs for layer in self.layers}
        return {output: shares(inputs, noise, output) for output in outputs}

    def _expected(self, quantized: Quantized, chosen: Sequence[str]) -> dict[str, float]:
        missed = self._missed(quantized)
        brought = self._brought(quantized, missed)
        left = {name: 1 - sum(brought[name].get(layer, 0.0) for layer in chosen) for name in missed}
        return {
            name: -10 * math.log10(max(noise_to_signal(snr_db) * left[name], 1e-12)) for name, snr_db in missed.items()
        }

    def _why_not(self, layer: str, raised: Sequence[str]) -> str:
        """Return what keeps a layer from being raised beside others; empty where nothing does."""
        kind = next(each.type for each in self.layers if each.name == layer)
        if layer in raised or layer in self.wide:
            return f"has {self._mode}"
        if layer in self.fixed:
            return "a script of the spec says its precision"
        if kind not in chip_facts()["precision"]["raised"]["layers"]:
            return f"no `{kind}` is known to take {self._mode}"
        fit = self._fit((*raised, layer))
        if self.single_context and fit.verdict == "does not fit":
            return (
                f"the network would no longer fit one context: {fit.weight_utilisation:.0%} of the weight memory, "
                f"P(more than one) = {fit.probability_of_more_contexts:.2f} (forecast)"
            )
        return ""

    def _fit(self, raised: Collection[str]) -> Fit:
        """Return the forecast with layers in 16 bits, those of the scripts included."""
        parameters = {layer.name: layer.parameters for layer in self.layers}
        on_chip = sum(not layer.is_fused for layer in self.layers)
        return forecast_fit(self.hw_arch, on_chip, counted_parameters(parameters, {*self.wide, *raised}))

    def _round(
        self, found: Quantized, chosen: tuple[str, ...], expected: dict[str, float], *, is_reused: bool
    ) -> RepairRound:
        return RepairRound(
            raised=chosen,
            expected_db=expected,
            snr_db=snr_by_output(found),
            fit=self._fit(tuple(found.raised)),
            is_reused=is_reused,
        )

    def _tell(self, before: Quantized, done: RepairRound) -> None:
        earlier = snr_by_output(before)
        changes = [f"{layer} {earlier[layer]:.1f} to {snr_db:.1f} dB" for layer, snr_db in done.snr_db.items()]
        logger.info("repair %s: %s; %s", self.subject, ", ".join(changes), cost_text(done.fit))


def snr_by_output(quantized: Quantized) -> dict[str, float]:
    """Return the SNR of every judged output, in dB, by its layer."""
    return {output.layer: output.snr_db for each in quantized.accuracy for output in each.outputs}


def cost_text(fit: Fit) -> str:
    """Return what a network takes of the chip, as a forecast."""
    return (
        f"{fit.weight_utilisation:.0%} of the weight memory, {fit.controller_utilisation:.0%} of the controllers, "
        f"P(more than one context) = {fit.probability_of_more_contexts:.2f} (forecast)"
    )
