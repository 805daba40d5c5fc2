"""The joined network as a picture: one input above, one column of layers for each model, its outputs below.

The rule: a network of a hundred layers must still be read at a glance, so runs of equal layers, and of repeating
patterns of layers, become one box; parallel branches within a model are drawn in one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from hefjoin.report import words
from hefjoin.results.networks import Joined, LayerView, Tensor

MOST_RUNS = 16
LONGEST_PATTERN = 6

COLUMN, GAP, MARGIN = 348, 36, 10
ROW, ARROW = 32, 12
TRUNK, HEADER = 40, 48
LETTER = 8
"""Width of a letter of a label, in pixels, on the wide side."""
INK, FAINT = "#1d2733", "#5b6875"


@dataclass(frozen=True)
class Run:
    """Neighbouring layers drawn as one box."""

    label: str
    layers: tuple[LayerView, ...]

    @property
    def cost(self) -> str:
        """Its parameters and multiply-accumulates."""
        counts = (sum(layer.parameters for layer in self.layers), sum(layer.macs for layer in self.layers))
        return " · ".join(words.si(count) if count else "–" for count in counts) if any(counts) else ""

    @property
    def names(self) -> str:
        """Its first and last layer."""
        first, last = self.layers[0].name, self.layers[-1].name
        return first if first == last else f"{first} … {last}"


def group_runs(layers: Sequence[LayerView], most: int = MOST_RUNS) -> list[Run]:
    """Return layers in order, grouped into at most `most` runs: `conv ×3`, `(dw → conv) ×13`, `14 layers: …`."""
    runs: list[Run] = []
    at = 0
    while at < len(layers):
        period, times = _longest_repetition([layer.type for layer in layers[at:]])
        taken = tuple(layers[at : at + period * times])
        pattern = " → ".join(layer.type for layer in taken[:period])
        if times > 1:
            pattern = f"({pattern}) ×{times}" if period > 1 else f"{pattern} ×{times}"
        runs.append(Run(pattern, taken))
        at += len(taken)
    while len(runs) > most:
        sizes = [len(a.layers) + len(b.layers) for a, b in pairwise(runs)]
        first = sizes.index(min(sizes))
        merged = runs[first].layers + runs[first + 1].layers
        runs[first : first + 2] = [Run(_mixture(merged), merged)]
    return runs


def draw_graph(joined: Joined, colors: Mapping[str, str]) -> Markup:
    """Return the picture as SVG.

    Args:
        joined: The joined network.
        colors: A colour for each model, in the order of the columns.
    """
    shared, columns = _columns(joined.network.layers, list(colors))
    outputs: dict[str, list[Tensor]] = {model: [] for model in colors}
    for tensor in joined.network.outputs:
        outputs[joined.model_of_output[tensor.layer]].append(tensor)
    width = 2 * MARGIN + len(colors) * COLUMN + (len(colors) - 1) * GAP
    canvas = _Canvas()
    bottom = _draw_trunk(canvas, joined, group_runs(shared), width)
    top = depth = bottom + 2 * ARROW
    for index, (model, color) in enumerate(colors.items()):
        left = MARGIN + index * (COLUMN + GAP)
        canvas.line(left + COLUMN // 2, bottom, top, color)
        depth = max(depth, _draw_column(canvas, left, top, model, color, columns[model], outputs[model]))
    return canvas.svg(width, depth + MARGIN, f"Joined network: one input, {words.plural(len(colors), 'model')}")


def _draw_trunk(canvas: _Canvas, joined: Joined, shared: Sequence[Run], width: int) -> int:
    """Draw the input and what all models share, as wide as all columns; return where it ends."""
    entry = next(each for each in joined.network.inputs if each.layer == joined.input_layer)
    span, y = width - 2 * MARGIN, MARGIN
    canvas.box(MARGIN, y, span, TRUNK, fill=INK, title=entry.layer)
    canvas.text(MARGIN + 14, y + 25, "one input", "#ffffff", weight=600, size=15)
    canvas.text(MARGIN + 104, y + 25, words.shape_text(entry.shape), "#ffffff")
    y += TRUNK
    for run in shared:
        canvas.line(width // 2, y, y + ARROW, INK)
        _draw_run(canvas, MARGIN, y + ARROW, span, run, INK)
        y += ARROW + ROW
    return y


def _draw_column(
    canvas: _Canvas,
    left: int,
    top: int,
    model: str,
    color: str,
    layers: Sequence[LayerView],
    outputs: Sequence[Tensor],
) -> int:
    """Draw one model downwards from `top`; return where it ends."""
    middle = left + COLUMN // 2
    canvas.box(left, top, COLUMN, HEADER, fill=color, title=model)
    canvas.text(left + 14, top + 21, words.shortened(model, 30), "#ffffff", weight=600, size=15)
    canvas.text(left + 14, top + 38, words.plural(len(layers), "layer"), "#ffffff", size=12)
    canvas.text(left + COLUMN - 14, top + 38, "parameters · MACs per frame", "#ffffff", anchor="end", size=12)
    y = top + HEADER
    for run in group_runs(layers):
        canvas.line(middle, y, y + ARROW, color)
        _draw_run(canvas, left, y + ARROW, COLUMN, run, color)
        y += ARROW + ROW
    for tensor in outputs:
        canvas.line(middle, y, y + ARROW, color)
        canvas.box(left, y + ARROW, COLUMN, ROW, fill="#ffffff", stroke=color, dash="5 3", title=tensor.layer)
        canvas.text(left + 14, y + ARROW + 21, "output", color, weight=600)
        name = words.shortened(words.layer_text(tensor.layer), 20)
        canvas.text(left + 70, y + ARROW + 21, name, FAINT, size=12)
        canvas.text(left + COLUMN - 14, y + ARROW + 21, words.shape_text(tensor.shape), INK, anchor="end")
        y += ARROW + ROW
    return y


def _draw_run(canvas: _Canvas, left: int, top: int, width: int, run: Run, color: str) -> None:
    canvas.box(left, top, width, ROW, fill=color, opacity=0.09, stroke=color, title=run.names)
    room = (width - 28) // LETTER - len(run.cost) - 1
    canvas.text(left + 14, top + 21, words.shortened(run.label, room), INK)
    canvas.text(left + width - 14, top + 21, run.cost, FAINT, anchor="end", size=12)


def _columns(layers: Sequence[LayerView], models: Sequence[str]) -> tuple[list[LayerView], dict[str, list[LayerView]]]:
    """Return the layers that lead to more than one model, and each model's own."""
    reaches: dict[str, set[str]] = {layer.name: {layer.name.partition("/")[0]} for layer in layers}
    for layer in reversed(layers):
        for source in layer.inputs:
            if source in reaches:
                reaches[source] |= reaches[layer.name]
    own = {model: [layer for layer in layers if reaches[layer.name] == {model}] for model in models}
    shared = [layer for layer in layers if not any(reaches[layer.name] == {model} for model in models)]
    return shared, own


def _longest_repetition(types: Sequence[str]) -> tuple[int, int]:
    """Return (period, times) of the repetition at the start that covers most; the shortest period among equals."""
    best = (1, 1)
    for period in range(1, min(LONGEST_PATTERN, len(types)) + 1):
        times = 1
        while types[times * period : (times + 1) * period] == types[:period]:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _mixture(layers: Sequence[LayerView]) -> str:
    counts = Counter(layer.type for layer in layers).most_common()
    named = ", ".join(f"{count} {kind}" for kind, count in counts[:2])
    return f"{len(layers)} layers: {named}{', …' if len(counts) > 2 else ''}"


@dataclass
class _Canvas:
    """Collects SVG elements; all text is escaped here."""

    parts: list[Markup] = field(default_factory=list)

    def box(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        fill: str,
        title: str,
        stroke: str = "none",
        opacity: float = 1.0,
        dash: str = "none",
    ) -> None:
        self.parts.append(
            Markup(
                '<rect x="{}" y="{}" width="{}" height="{}" rx="7" fill="{}" fill-opacity="{}" stroke="{}" '
                'stroke-dasharray="{}"><title>{}</title></rect>'
            ).format(x, y, width, height, fill, opacity, stroke, dash, title)
        )

    def text(
        self, x: int, y: int, text: str, fill: str, *, anchor: str = "start", size: int = 14, weight: int = 400
    ) -> None:
        self.parts.append(
            Markup('<text x="{}" y="{}" fill="{}" text-anchor="{}" font-size="{}" font-weight="{}">{}</text>').format(
                x, y, fill, anchor, size, weight, text
            )
        )

    def line(self, x: int, top: int, bottom: int, color: str) -> None:
        self.parts.append(
            Markup('<path d="M{0} {1}V{2}" stroke="{3}" stroke-width="2" fill="none"/>').format(x, top, bottom, color)
        )

    def svg(self, width: int, height: int, label: str) -> Markup:
        head = Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">').format(
            width, height, width, height, label
        )
        return head + Markup("").join(self.parts) + Markup("</svg>")
