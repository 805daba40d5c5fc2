"""The plots, as SVG text to stand inline in a page.

The rule: equal input gives equal text, and a plot can be read without its page: axes with units, the source of
what was measured, and a legend where colours or marks mean something.
"""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hefjoin.report import words
from hefjoin.results.covered import Curve
from hefjoin.results.measured import BatchMeasurement
from hefjoin.results.quantized import LayerNoise, OutputAccuracy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hefjoin.manifest import Manifest

Array = np.ndarray[Any, np.dtype[Any]]

POINTS = 5000
TITLE = 44
"""Characters that fit above a plot."""
COLORS = ("#0b62a8", "#c4500c", "#00795a", "#9c3f86", "#7a6200", "#4c5bb0", "#a03040", "#3f6f78")
"""One a model, in the order of the spec; told apart by the colour-blind, dark enough for white text on them."""
INK, FAINT, GRID = "#1d2733", "#5b6875", "#dfe4ea"
OWN_NOISE = "#c3ccd6"
WORST_MARKS = ("v", "s", "D", "^", "P")
MOST_BARS = 24
MOST_LAYERS = 120
"""Of a plot with a bar and a dot for each layer; of more, the bars are one area and the line has no dots."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
"""Place of a legend: under the axes."""
_ONE_AT_A_TIME = threading.Lock()
"""matplotlib's settings belong to the process; two builds may end at once."""


def colors_of(manifest: Manifest) -> dict[str, str]:
    """Return the colour of each model."""
    return {model.name: COLORS[index] for index, model in enumerate(manifest.spec.models)}


def plot_layer_noise(
    model: str,
    noise: Sequence[LayerNoise],
    brought: Mapping[str, float],
    color: str,
    limits: tuple[float, float],
    source: str,
) -> Markup:
    """Return the SNR at each layer of one model: accumulated as a line, own as bars that hang from above.

    Args:
        model: Its name.
        noise: Its layers, in order from the input.
        brought: The layers to mark and name, at most `WORST_MARKS` of them, with their share of the output's noise.
        color: The model's colour.
        limits: Lowest and highest SNR on the axis, in dB: the same for all models of a page.
        source: Who computed the SNR.
    """
    with _axes(4.6, 3.9, f"SNR at each layer of {model}, in dB") as (axes, page):
        own = [(place, each.own_snr_db) for place, each in enumerate(noise, 1) if each.own_snr_db is not None]
        if own:
            places, ends = zip(*own, strict=True)
            depths = [max(limits[1] - end, 0.0) for end in ends]
            style: dict[str, Any] = {"color": OWN_NOISE, "label": "own noise: the bar's lower end"}
            if len(noise) > MOST_LAYERS:
                axes.fill_between(places, ends, np.add(ends, depths), step="mid", linewidth=0, rasterized=True, **style)
            else:
                axes.bar(places, depths, bottom=ends, width=0.7, **style)
        snr_db = [each.snr_db for each in noise]
        axes.plot(
            range(1, len(noise) + 1),
            snr_db,
            color=color,
            linewidth=1.4,
            marker="o" if len(noise) <= MOST_LAYERS else "",
            markersize=2.6,
            label="accumulated",
        )
        places_of = {each.layer: place for place, each in enumerate(noise, 1)}
        for (layer, share), mark in zip(brought.items(), WORST_MARKS, strict=False):
            name = f"{words.shortened(words.layer_text(layer), TITLE)}: {words.percent(share)} of the noise"
            place = places_of[layer]
            axes.plot(
                [place], [snr_db[place - 1]], mark, label=name, markersize=7, mfc="none", mec=INK, linestyle="none"
            )
        axes.set(title=words.shortened(model, TITLE), ylim=limits, xlabel="layer, in order from the input")
        axes.set_ylabel(f"SNR (dB, {source})")
        axes.locator_params(integer=True, nbins=6)
        axes.legend(**BELOW, alignment="left")
    return page[0]


def plot_snr(manifest: Manifest, colors: Mapping[str, str]) -> Markup:
    """Return the SNR of every judged output as bars, of more than `MOST_BARS` the worst, and the gate if there is one.

    Args:
        manifest: The build; at least one of its outputs was judged.
        colors: A colour for each model.
    """
    outputs = [(each.model, output) for each in manifest.quantized.accuracy for output in each.outputs]
    worst = {output.layer for _, output in sorted(outputs, key=lambda each: each[1].snr_db)[:MOST_BARS]}
    shown = [(model, output) for model, output in outputs if output.layer in worst]
    source, floor = manifest.quality_source, manifest.spec.gates.min_snr_db
    with _axes(7, 1.0 + 0.3 * len(shown), f"SNR of the outputs, in dB ({source})") as (axes, page):
        ends = [max(0.0, min(output.snr_db, words.EXACT_DB)) for _, output in shown]
        bars = axes.barh(range(len(shown)), ends, height=0.62, color=[colors[model] for model, _ in shown])
        axes.bar_label(bars, [words.db_text(output.snr_db) for _, output in shown], padding=4, fontsize=8.5)
        names = [words.shortened(f"{model}: {words.layer_text(output.layer)}", TITLE) for model, output in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set(xlim=(0, 1.18 * max([*ends, floor, 1.0])), xlabel=f"SNR, quantized against float (dB, {source})")
        if floor:
            axes.axvline(
                floor, color=INK, linewidth=1.2, linestyle="--", label=f"gate: at least {words.db_text(floor)}"
            )
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return page[0]


def plot_history(points: Sequence[tuple[str, float, str]], what: str) -> Markup:
    """Return the throughput of the builds of a name, the newest last and filled.

    Args:
        points: (moment as ISO 8601, FPS, source) of each build, at least one.
        what: What was measured: `throughput at batch 1`.
    """
    sources = list(dict.fromkeys(source for _, _, source in points))
    with _axes(7, 2.9, f"{what} of the last builds, in frames per second ({', '.join(sources)})") as (axes, page):
        for source, mark, color in zip(sources, WORST_MARKS, COLORS, strict=False):
            places = [place for place, point in enumerate(points) if point[2] == source]
            values = [points[place][1] for place in places]
            axes.plot(places, values, mark, color=color, linestyle="-", linewidth=1.2, mfc="white", label=source)
            if places[-1] == len(points) - 1:
                axes.plot(places[-1:], values[-1:], mark, color=color)
                axes.annotate(words.rate_text(values[-1]), (places[-1], values[-1]), (0, 8),
                              textcoords="offset points", ha="center", fontsize=8.5)  # fmt: skip
        every = math.ceil(len(points) / 7)
        ticks = range((len(points) - 1) % every, len(points), every)
        axes.set_xticks(ticks, [words.moment_text(points[place][0])[5:16] for place in ticks])
        axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(0, 1.2 * max(value for _, value, _ in points)))
        axes.set(
            xlabel="build, by its time (UTC)",
            ylabel=f"FPS ({', '.join(sources)})",
            title=f"{what[0].upper()}{what[1:]}",
        )
        if len(sources) > 1:
            axes.legend(**BELOW, ncols=len(sources))
    return page[0]


def plot_coverage(curves: Sequence[Curve], colors: Mapping[str, str], loss: float, source: str) -> Markup:
    """Return coverage against the number of frames, one line for each way to choose them, and what is wanted.

    Args:
        curves: Those of no model are of all models: the least covered one counts.
        colors: A colour for each model.
        loss: Of the coverage, what may be lost.
        source: Whose coverage it is.
    """
    styles: Iterator[dict[str, Any]] = iter(
        [{"color": INK, "linewidth": 2.2}, {"color": FAINT, "linewidth": 1.2, "linestyle": ":"}]
    )
    with _axes(5, 3.2 + 0.17 * len(curves), f"Coverage by the number of frames ({source})") as (axes, page):
        axes.axhline(100 * (1 - loss), color=INK, linewidth=1, linestyle="--",
                     label=f"wanted: {words.percent(1 - loss)}")  # fmt: skip
        for curve in curves:
            style: dict[str, Any] = {"color": colors[curve.model], "linewidth": 1.4} if curve.model else next(styles)
            label = f"{words.shortened(curve.title, TITLE)}: {curve.count:,}"
            axes.plot(curve.frames, [100 * value for value in curve.coverage], label=label, **style)
        axes.set(xlabel="frames", ylabel=f"coverage (%, {source})", ylim=(None, 101))
        axes.locator_params(axis="x", integer=True)
        axes.legend(**BELOW, alignment="left")
    return page[0]


def plot_scatter(title: str, exact: Array, rough: Array, accuracy: OutputAccuracy, color: str, source: str) -> Markup:
    """Return an output's quantized values against its float ones, at most `POINTS` of them, drawn by a fixed seed.

    Args:
        title: Whose output it is.
        exact: The float network's, float32, any shape.
        rough: The quantized network's, of the same shape.
        accuracy: Its SNR goes into the title.
        color: The model's colour.
        source: Who computed the outputs.
    """
    x, y = exact.reshape(-1), rough.reshape(-1)
    if x.size > POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(x.size, POINTS, replace=False, shuffle=False))
        x, y = x[chosen], y[chosen]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    room = 0.04 * (high - low) or 1.0
    with _axes(4.2, 4.2, f"Quantized against float values of {title}") as (axes, page):
        ends = (low - room, high + room)
        axes.plot(ends, ends, color=INK, linewidth=1, label="no difference")
        axes.plot(
            x,
            y,
            ".",
            color=color,
            markersize=3.2,
            alpha=0.35,
            markeredgewidth=0,
            rasterized=True,
            label="one value",
        )
        axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="float network, native unit of the output")
        axes.set_ylabel(f"quantized network ({source}), same unit")
        axes.set_title(f"{words.shortened(title, TITLE)}\nSNR {words.db_text(accuracy.snr_db)} ({source})")
    return page[0]


def plot_throughput(batches: Sequence[BatchMeasurement], source: str) -> Markup:
    """Return frames per second by batch size: every timed round, and their median."""
    with _axes(4.6, 3.2, f"Throughput by batch size, in frames per second ({source})") as (axes, page):
        for place, batch in enumerate(batches):
            spread = np.linspace(-0.16, 0.16, len(batch.rounds_fps) + 2)[1:-1]
            axes.plot(place + spread, batch.rounds_fps, "o", color=FAINT, markersize=4, alpha=0.6, mew=0)
            axes.plot([place - 0.24, place + 0.24], [batch.fps] * 2, color=INK, linewidth=2.2)
        first_dots, first_line = axes.lines[:2]
        _by_batch(axes, batches, max(max(batch.fps, *batch.rounds_fps) for batch in batches))
        axes.set_ylabel(f"throughput (FPS, {source})")
        axes.legend([first_dots, first_line], ["one round", "median"], **BELOW, ncols=2)
    return page[0]


def plot_latency(batches: Sequence[BatchMeasurement], source: str) -> Markup:
    """Return the round trip of one batch by batch size: half, 95 % and 99 % of them are faster."""
    # NaN where a batch size has none: nothing is drawn there.
    values = {
        name: [math.nan if (found := getattr(batch, f"latency_{name}_ms")) is None else found for batch in batches]
        for name in ("p50", "p95", "p99")
    }
    with _axes(4.6, 3.2, f"Latency by batch size, in milliseconds ({source})") as (axes, page):
        for place, ends in enumerate(zip(values["p50"], values["p99"], strict=True)):
            axes.plot([place] * 2, ends, color=FAINT, linewidth=1)
        for mark, name in (("o", "p50"), ("s", "p95"), ("v", "p99")):
            axes.plot(range(len(batches)), values[name], mark, color=INK, markersize=6, label=name)
        _by_batch(axes, batches, float(np.nanmax(values["p99"])))
        axes.set_ylabel(f"latency of one batch (ms, {source})")
        axes.legend(**BELOW, ncols=3)
    return page[0]


def _by_batch(axes: Axes, batches: Sequence[BatchMeasurement], top: float) -> None:
    axes.set_xticks(range(len(batches)), [str(batch.batch_size) for batch in batches])
    axes.set(xlim=(-0.6, len(batches) - 0.4), ylim=(0, 1.15 * top), xlabel="batch size (frames sent together)")
    axes.grid(axis="x", visible=False)


@contextmanager
def _axes(width: float, height: float, label: str) -> Iterator[tuple[Axes, list[Markup]]]:
    """Give axes to draw on, in inches; the list holds the finished SVG afterwards."""
    finished: list[Markup] = []
    with _ONE_AT_A_TIME, matplotlib.rc_context({**STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot(), finished
        text = io.StringIO()
        unknown = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=unknown, dpi=160, transparent=True)
    finished.append(_inline(text.getvalue(), label))


def _inline(document: str, label: str) -> Markup:
    """Return an SVG document as an element: no prolog, no ids that another plot has too, a text for the blind."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[\w.]+_\d+"', "", svg)
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(label), 1))
