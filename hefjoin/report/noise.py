"""What the report shows of noise, of its repair, and of what the models of a join do to each other.

The rule: the worst are named with the line that would mend them, ready to copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from hefjoin.forecast.fit import Fit
from hefjoin.manifest import Manifest
from hefjoin.report import plots, words
from hefjoin.results.quantized import LayerNoise, Mend, Repair

MOST_OUTPUTS = 6
SPAN_DB = 50.0
"""That an axis shows at most."""


@dataclass(frozen=True)
class ModelNoise:
    """One model, layer by layer."""

    model: str
    plot: Markup
    layers: tuple[LayerNoise, ...]
    mends: tuple[Mend, ...]
    """The layers that bring most to its noisiest output."""
    lines: str
    """Those that would raise them, for the joint script."""


@dataclass(frozen=True)
class RoundRow:
    """The network after a round of repair, or before the first."""

    raised: tuple[str, ...]
    snr: tuple[str, ...]
    """Of the outputs shown, in dB."""
    cost: tuple[str, str, str]
    """Share of the weight memory, of the controllers, and the probability of more than one context."""


@dataclass(frozen=True)
class CoupledRow:
    """An output, its model quantized in the join and alone."""

    layer: str
    joined: str
    alone: str
    difference: str


def by_model(manifest: Manifest, colors: Mapping[str, str], source: str) -> list[ModelNoise]:
    """Return what is known of each model's layers; models without any are left out."""
    noise = {
        model: tuple(each for each in manifest.quantized.layer_noise if each.layer.partition("/")[0] == model)
        for model in colors
    }
    limits = _limits(each for layers in noise.values() for each in layers)
    found = []
    for model, layers in noise.items():
        mends = tuple(mend for mend in manifest.mends if mend.output.partition("/")[0] == model)
        if layers:
            plot = plots.plot_layer_noise(
                model, layers, {mend.layer: mend.share for mend in mends}, colors[model], limits, source
            )
            found.append(ModelNoise(model, plot, layers, mends, "\n".join(mend.line for mend in mends if mend.line)))
    return found


def _limits(layers: Iterable[LayerNoise]) -> tuple[float, float]:
    """Return the ends of an axis in dB, for all models of a page; what has next to no noise does not stretch it."""
    values = [value for each in layers for value in (each.snr_db, each.own_snr_db) if value is not None]
    low = 10 * (min(values, default=0.0) // 10)
    return low, min(10 * (max(values, default=0.0) // 10 + 1), low + SPAN_DB)


def repair_outputs(repair: Repair) -> list[str]:
    """Return the outputs whose SNR is shown round by round: of more than `MOST_OUTPUTS` those noisiest at first."""
    noisiest = sorted(repair.snr_db, key=lambda layer: repair.snr_db[layer])[:MOST_OUTPUTS]
    return [layer for layer in repair.snr_db if layer in noisiest]


def repair_rows(repair: Repair) -> list[RoundRow]:
    """Return one row for the network as it was, and one after each round."""
    states = [((), repair.snr_db, repair.fit), *((each.raised, each.snr_db, each.fit) for each in repair.rounds)]
    return [
        RoundRow(raised, tuple(figure_text(snr_db[layer], 1) for layer in repair_outputs(repair)), _cost(fit))
        for raised, snr_db, fit in states
    ]


def _cost(fit: Fit) -> tuple[str, str, str]:
    return (
        words.percent(fit.weight_utilisation),
        words.percent(fit.controller_utilisation),
        words.percent(fit.probability_of_more_contexts),
    )


def figure_text(value: float | None, digits: int) -> str:
    """Return a figure whose unit and source stand above it; a dash where there is none."""
    return "–" if value is None else words.minus(f"{value:.{digits}f}")


def coupled_rows(manifest: Manifest) -> list[CoupledRow]:
    """Return one row for each output that was also quantized alone."""
    together, coupled = manifest.quantized.snr_by_output, manifest.coupled
    return [
        CoupledRow(
            layer=layer,
            joined=words.db_text(together[layer]),
            alone=words.db_text(alone_db),
            difference="equal, bit for bit"
            if coupled.alone_bits_equal[layer]
            else words.minus(f"{together[layer] - alone_db:+.1f}{words.THIN}dB"),
        )
        for layer, alone_db in coupled.alone_db.items()
    ]
