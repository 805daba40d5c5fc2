"""What is taken of the chip, as bars: foretold for each model and all of them, and as the compiler answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from hefjoin.manifest import Manifest
from hefjoin.report import plots, words
from hefjoin.report.foretold import Use, uses
from hefjoin.results.checked import Forecast


@dataclass(frozen=True)
class Bar:
    """A share of a limit, as a bar."""

    label: str
    color: str
    width_percent: float
    text: str


@dataclass(frozen=True)
class Resource:
    """What the networks take of one resource of the chip."""

    name: str
    limit: str
    limit_percent: float
    """Where the limit stands on the bars' scale."""
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class ContextUse:
    """What one context takes of the chip."""

    title: str
    bars: tuple[Bar, ...]
    clusters: str


def utilization(manifest: Manifest) -> list[ContextUse]:
    """Return what the compiler says each context takes."""
    return [
        ContextUse(
            title=use.context or "The one context",
            bars=tuple(
                Bar(name, plots.INK, 100 * share, words.percent(share))
                for name, share in (
                    ("Control", use.total.control),
                    ("Compute", use.total.compute),
                    ("Memory", use.total.memory),
                )
            ),
            clusters=f", over {words.plural(len(use.clusters), 'cluster')}" if use.clusters else "",
        )
        for use in manifest.compiled.utilization
    ]


def resources(forecast: Forecast, colors: Mapping[str, str]) -> list[Resource]:
    """Return what is foretold of each resource.

    Args:
        forecast: Of the build.
        colors: Of the models, by name.
    """
    return [_resource(name, list(found), colors) for name, found in groupby(uses(forecast), lambda use: use.resource)]


def _resource(name: str, found: list[Use], colors: Mapping[str, str]) -> Resource:
    scale = max(1.0, *(use.share for use in found))
    bars = tuple(
        Bar(
            use.model,
            colors.get(use.model, plots.INK),
            100 * use.share / scale,
            f"{words.si(use.used)} · {100 * use.share:.0f}{words.THIN}%",
        )
        for use in found
    )
    return Resource(f"{name[:1].upper()}{name[1:]}", words.si(found[0].limit), 100 / scale, bars)
