"""Two builds side by side, for people. The one rule: figures of different sources are not subtracted."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.views.plain import page
from hefjoin.builds.diff import Diff, FigurePair
from hefjoin.builds.figures import Figure
from hefjoin.report.words import minus, significant

KINDS = {"input": "inputs", "spec": "spec", "version": "versions", "machine": "machine"}
EXACT_UNITS = ("", "bytes")


def show(found: Diff) -> None:
    """Print what changed, then the figures, then the layers whose noise changed most."""
    console = page()
    console.print(f"[bold]{escape(found.earlier)}[/bold] → [bold]{escape(found.later)}[/bold]")
    if found.is_empty:
        console.print("no difference")
        return
    grid = Table.grid(padding=(0, 2))
    for kind, label in KINDS.items():
        lines = [change.text for change in found.changes if change.kind == kind]
        grid.add_row(label, escape("\n".join(lines)) or "[dim]no difference[/dim]")
    grid.add_row("stages with other inputs", escape(", ".join(found.stages)) or "[dim]no difference[/dim]")
    console.print(grid)
    _show_figures(console, found)
    if found.noise:
        noise = Table("Layer whose noise changed most", "A", "B", "Difference", header_style="bold")
        for each in found.noise:
            change = each.later_db - each.earlier_db
            noise.add_row(
                escape(each.layer), _db(each.earlier_db), _db(each.later_db), f"{_sign(change)}{_db(abs(change))}"
            )
        console.print(noise)


def _show_figures(console: Console, found: Diff) -> None:
    table = Table("Figure", "A", "B", "Difference", header_style="bold")
    for pair in found.figures:
        table.add_row(escape(pair.name), _text(pair.earlier), _text(pair.later), _difference(pair))
    console.print(table)


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    value = "no noise" if figure.value is None else _value(figure.value, figure.unit)
    return escape(f"{value} ({figure.source})" if figure.source else value)


def _difference(pair: FigurePair) -> str:
    if pair.is_equal:
        return "[dim]none[/dim]"
    if pair.difference is None:
        is_other_source = pair.earlier and pair.later and pair.earlier.source != pair.later.source
        return "other source" if is_other_source else "–"
    unit = "points" if pair.later and pair.later.unit == "%" else pair.later.unit if pair.later else ""
    return f"{_sign(pair.difference)}{_value(abs(pair.difference), unit)}"


def _value(value: float, unit: str) -> str:
    if unit in EXACT_UNITS and value == round(value):
        number = f"{value:,.0f}"
    elif unit in ("dB", "%", "points"):
        number = f"{value:.1f}"
    else:
        number = significant(value)
    return f"{minus(number)} {unit}".rstrip()


def _db(value: float) -> str:
    return minus(f"{value:.1f} dB")


def _sign(value: float) -> str:
    return "+" if value > 0 else "−"
