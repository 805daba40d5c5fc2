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
from hefjoin.forecast.fit import Fit
from hefjoin.forecast.noise import noise_to_signal, worth_raising
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Held, Quantized, Repair, Repaired, RepairRound
from hefjoin.spec import BuildSpec
from hefjoin.stages.candidates import LEAST_SHARE, Candidates
from hefjoin.stages.contract import Stage, Workplace, perform
from hefjoin.stages.quantize import Quantize

logger = logging.getLogger("hefjoin.stages")

LEAST_GAIN_DB = 0.1
"""That a round must bring to one of the outputs that miss the floor; with less, what is left is no matter of bits."""


class RepairStage(Stage[Repaired]):
    """Raise layers.

    Requires: a quantized network, with its layers' noise where the compiler tells it. Ensures: every output reaches the
    floor, or the reason why one does not; in any case a network that is whole, and what would mend it further.
    """

    stage: ClassVar[str] = "repair"
    version: ClassVar[int] = 2
    result: ClassVar[type[Repaired]] = Repaired

    quantize: Quantize
    """How the network was quantized."""
    quantized: Quantized
    candidates: Candidates
    floor_db: float
    """0: none, and nothing is raised."""
    budget: int

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized, place: Workplace) -> Self:
        """Return the stage for a build."""
        return cls(
            quantize=Quantize.of(spec, checked, joined, place),
            quantized=quantized,
            candidates=Candidates.of(spec, checked, joined),
            floor_db=spec.gates.min_snr_db,
            budget=spec.quantization.repair_layers,
        )

    @property
    def name(self) -> str:
        """The joined network's."""
        return self.quantize.name

    def run(self, work: Path, place: Workplace) -> Repaired:
        """Repair where there is a floor, and say what makes the noise that is left."""
        del work
        latest, repair = self._repaired(place) if self.floor_db > 0 else (self.quantized, None)
        return Repaired(quantized=latest, repair=repair, mends=self.candidates.mends(latest))

    def _repaired(self, place: Workplace) -> tuple[Quantized, Repair]:
        """Raise, quantize and measure, until there is nothing to do or nothing that may be done."""
        latest, rounds, held = self.quantized, list[RepairRound](), tuple[Held, ...]()
        while not (ending := self._ending(latest, rounds)):
            chosen, held = self._choice(latest, least=2 ** len(rounds))
            if not chosen:
                ending = "nothing that would help may be raised"
                break
            try:
                found, rounds = self._next(latest, rounds, chosen, place)
            except CompileError as error:
                ending = f"the network could not be quantized with {', '.join(chosen)} raised: {error.message}"
                break
            latest = found
        logger.info("repair %s: %s", self.name, ending)
        repair = Repair(
            floor_db=self.floor_db,
            budget=self.budget,
            mode=self.candidates.mode,
            snr_db=self.quantized.snr_by_output,
            fit=self.candidates.fit(()),
            rounds=tuple(rounds),
            held=held,
            ending=ending,
        )
        return latest, repair

    def ensures(self, result: Repaired) -> None:
        """Check that the network is the one that the rounds tell of, and that no limit was passed."""
        repair = result.repair
        if repair is None:
            return
        assert repair.raised == tuple(result.quantized.raised)
        assert len(repair.raised) <= self.budget
        assert not set(repair.raised) & {*self.candidates.fixed, *self.candidates.wide}

    def _missed(self, quantized: Quantized) -> dict[str, float]:
        return {layer: snr_db for layer, snr_db in quantized.snr_by_output.items() if snr_db < self.floor_db}

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
        if rounds and self._gained_db(rounds) < LEAST_GAIN_DB:
            return f"the last round brought less than {LEAST_GAIN_DB:g} dB; what is left is no matter of bits"
        return ""

    def _gained_db(self, rounds: Sequence[RepairRound]) -> float:
        """Return the most that the last round brought one of the outputs that missed the floor before it."""
        before = rounds[-2].snr_db if len(rounds) > 1 else self.quantized.snr_by_output
        return max(rounds[-1].snr_db[layer] - before[layer] for layer in rounds[-1].expected_db)

    def _choice(self, quantized: Quantized, least: int) -> tuple[tuple[str, ...], tuple[Held, ...]]:
        """Return the layers to raise next, and those that would have been."""
        missed, raised = self._missed(quantized), tuple(quantized.raised)
        left = self.budget - len(raised)
        brought = self.candidates.brought(quantized, missed)
        worst = brought[min(missed, key=missed.__getitem__)]
        held: list[Held] = []

        def is_free(layer: str, chosen: Collection[str]) -> bool:
            reason = self.candidates.why_not(layer, (*raised, *chosen))
            if reason and layer not in raised and worst.get(layer, 0.0) >= LEAST_SHARE:
                held.append(Held(layer=layer, share=worst[layer], reason=reason))
            return not reason

        most = left if left <= 2 else math.ceil(left / 2)  # the other half is chosen by what this one brought
        found = worth_raising(missed, brought, self.floor_db, range(min(least, most), most + 1), is_free)
        return tuple(found), tuple(held)

    def _expected(self, quantized: Quantized, chosen: Sequence[str]) -> dict[str, float]:
        missed = self._missed(quantized)
        brought = self.candidates.brought(quantized, missed)
        left = {name: 1 - sum(brought[name].get(layer, 0.0) for layer in chosen) for name in missed}
        return {
            name: -10 * math.log10(max(noise_to_signal(snr_db) * left[name], 1e-12)) for name, snr_db in missed.items()
        }

    def _next(
        self, before: Quantized, rounds: list[RepairRound], chosen: tuple[str, ...], place: Workplace
    ) -> tuple[Quantized, list[RepairRound]]:
        """Quantize with further layers raised."""
        logger.info("repair %s: %s to %s", self.name, ", ".join(chosen), self.candidates.mode)
        raised = dict.fromkeys((*before.raised, *chosen), self.candidates.mode)
        outcome = perform(self.quantize.model_copy(update={"raised": raised}), place)
        done = RepairRound(
            raised=chosen,
            expected_db=self._expected(before, chosen),
            snr_db=outcome.value.snr_by_output,
            fit=self.candidates.fit(raised),
            is_reused=outcome.run.is_reused,
        )
        earlier = before.snr_by_output
        changes = [f"{layer} {earlier[layer]:.1f} to {snr_db:.1f} dB" for layer, snr_db in done.snr_db.items()]
        logger.info("repair %s: %s; %s", self.name, ", ".join(changes), cost_text(done.fit))
        return outcome.value, [*rounds, done]


def cost_text(fit: Fit) -> str:
    """Return what a network takes of the chip, as a forecast."""
    return (
        f"{fit.weight_utilisation:.0%} of the weight memory, {fit.controller_utilisation:.0%} of the controllers, "
        f"P(more than one context) = {fit.probability_of_more_contexts:.2f} (forecast)"
    )
