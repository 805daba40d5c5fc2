"""A forecast on the terminal: bars of what is used, the answers, the speed, and what would make it fit."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.views.plain import page
from hefjoin.report import foretold
from hefjoin.results.checked import Forecast

BAR = 24
"""Characters of a whole resource."""
STYLES = {"fits": "green", "uncertain": "yellow", "does not fit": "red"}
LONGEST = 160
"""Characters of what to write into a spec; the JSON has all of it."""


def show(forecast: Forecast) -> None:
    """Print a forecast."""
    console = page()
    fit = forecast.joined
    title = " + ".join(forecast.models)
    console.print(f"[bold]{escape(title)}[/bold] on {fit.hw_arch}: [{STYLES[fit.verdict]}]{fit.verdict}[/] (forecast)")
    console.print(_bars(forecast))
    console.print(_sentences(forecast))
    if forecast.changes:
        _show_changes(console, forecast)


def _bars(forecast: Forecast) -> Table:
    table = Table("", "", "", "", "", box=None, show_header=False, pad_edge=False)
    resource = ""
    for use in foretold.uses(forecast):
        style = "bold" if use.model == foretold.JOINED else ""
        color = "red" if use.share > 1 else "cyan"
        table.add_row(
            "" if use.resource == resource else use.resource,
            f"[{style}]{escape(use.model)}[/]" if style else escape(use.model),
            f"[{color}]{bar(use.share)}[/]",
            f"{100 * use.share:.0f} %",
            use.text,
        )
        resource = use.resource
    return table


def bar(share: float) -> str:
    """Return a bar of `BAR` characters; what is more than the whole ends in an arrow.

    >>> bar(0.5), bar(1.5)
    ('████████████············', '███████████████████████▶')
    """
    if share > 1:
        return "█" * (BAR - 1) + "▶"
    filled = round(share * BAR)
    return "█" * filled + "·" * (BAR - filled)


def _sentences(forecast: Forecast) -> Table:
    table = Table.grid(padding=(0, 2))
    for kind, answer in foretold.answers(forecast):
        table.add_row(f"one context {kind}", escape(answer))
    table.add_row("how sure", escape(foretold.trust_text(forecast.joined.hw_arch)))
    if forecast.fps is None:
        table.add_row("speed", f"no forecast: {escape(forecast.fps_note)}")
    for label, fps in foretold.rates(forecast):
        table.add_row(label.lower(), escape(foretold.rate_forecast_text(fps)))
    if forecast.latency is not None:
        table.add_row("latency", escape(foretold.latency_text(forecast.latency)))
    return table


def _show_changes(console: Console, forecast: Forecast) -> None:
    table = Table("What would change it, least loss first", "Then", "Loses", header_style="bold")
    for change in forecast.changes:
        how = change.how if len(change.how) <= LONGEST else f"{change.how[: LONGEST - 1]}…"
        style = "green" if change.is_enough else ""
        outcome = escape(foretold.change_text(change))
        table.add_row(
            f"{escape(change.what)}\n[dim]{escape(how)}[/dim]",
            f"[{style}]{outcome}[/]" if style else outcome,
            escape(change.loses),
        )
    console.print(table)
    if smallest := next((change for change in forecast.changes if change.is_enough), None):
        console.print(f"[bold]Smallest change that is enough:[/bold] {escape(smallest.what)}")
    console.print("[dim]A smaller image makes it faster, not smaller: layers and weights stay.[/dim]")
