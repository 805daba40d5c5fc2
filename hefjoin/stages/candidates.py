"""Which layers may be given more bits, what each brings to an output's noise, and what it takes of the chip.

The rule: what the chip's table supports, and nothing whose precision a person has said.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self

from hefjoin.artifacts import Record
from hefjoin.forecast.chip import chip_facts
from hefjoin.forecast.fit import Fit, counted_parameters, forecast_fit
from hefjoin.forecast.limits import Limits, limits_of
from hefjoin.forecast.noise import Snr, shares
from hefjoin.results.checked import JoinCheck
from hefjoin.results.networks import Joined, LayerView
from hefjoin.results.quantized import Mend, Quantized
from hefjoin.spec import BuildSpec, HwArch
from hefjoin.stages.precision import WIDE_ACTIVATIONS, precision_line, precisions
from hefjoin.stages.script import assemble, own_scripts

MENDS = 5
"""Of a model, that are named at most."""
LEAST_SHARE = 0.02
"""Of an output's noise, below which a layer is not worth naming."""


class Candidates(Record):
    """The layers of a joined network."""

    layers: tuple[LayerView, ...]
    fixed: tuple[str, ...]
    """Those whose precision the spec's scripts say."""
    wide: tuple[str, ...]
    """Those that have 16 bits by them, or by the spec's precision."""
    single_context: bool
    """Wanted, so that none may be raised with which it would be lost."""
    hw_arch: HwArch
    limits: Limits
    """What the compile may take of the chip."""

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined) -> Self:
        """Return those of a build."""
        names = [layer.name for layer in joined.network.layers]
        script = assemble(spec, checked, joined)
        modes = precisions(script, names, joined.output_layers)
        return cls(
            layers=joined.network.layers,
            fixed=tuple(precisions(own_scripts(spec, joined), names, joined.output_layers)),
            wide=tuple(name for name, mode in modes.items() if mode.startswith(WIDE_ACTIVATIONS)),
            single_context=spec.compile.single_context,
            hw_arch=spec.hw_arch,
            limits=limits_of(script),
        )

    @property
    def mode(self) -> str:
        """What a layer is raised to."""
        return str(chip_facts()["precision"]["raised"]["mode"])

    def brought(self, quantized: Quantized, outputs: Collection[str]) -> dict[str, dict[str, float]]:
        """Return, by output, which share of its noise each layer brings, the largest first."""
        noise = {each.layer: Snr(each.snr_db, each.own_snr_db) for each in quantized.layer_noise}
        inputs = {layer.name: layer.inputs for layer in self.layers}
        return {output: shares(inputs, noise, output) for output in outputs}

    def why_not(self, layer: str, raised: Sequence[str]) -> str:
        """Return what keeps a layer from being raised beside others; empty where nothing does."""
        kind = next((each.type for each in self.layers if each.name == layer), "host")
        if layer in raised or layer in self.wide:
            return f"it has {self.mode}"
        if layer in self.fixed:
            return "a script of the spec says its precision"
        if kind not in chip_facts()["precision"]["raised"]["layers"]:
            return f"no {kind} layer is known to take {self.mode}"
        fit = self.fit((*raised, layer))
        if self.single_context and fit.verdict == "does not fit":
            return (
                f"the network would no longer fit one context: {fit.weight_utilisation:.0%} of the weight memory, "
                f"P(more than one) = {fit.probability_of_more_contexts:.2f} (forecast)"
            )
        return ""

    def fit(self, raised: Collection[str]) -> Fit:
        """Return the forecast with layers in 16 bits, those of the scripts included."""
        parameters = {layer.name: layer.parameters for layer in self.layers}
        on_chip = sum(not layer.is_fused for layer in self.layers)
        counted = counted_parameters(parameters, {*self.wide, *raised})
        return forecast_fit(self.hw_arch, on_chip, counted, self.limits)

    def mends(self, quantized: Quantized) -> tuple[Mend, ...]:
        """Return, for the noisiest output of each model, the layers that bring most, with the lines that raise them."""
        if not quantized.layer_noise:
            return ()
        noisiest = [min(each.outputs, key=lambda output: output.snr_db).layer for each in quantized.accuracy]
        found = []
        for output, brought in self.brought(quantized, noisiest).items():
            for layer, share in list(brought.items())[:MENDS]:
                if share >= LEAST_SHARE:
                    reason = self.why_not(layer, tuple(quantized.raised))
                    line = "" if reason else precision_line(layer, self.mode)
                    found.append(Mend(output=output, layer=layer, share=share, line=line, reason=reason))
        return tuple(found)
