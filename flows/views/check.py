"""What `hefjoin check` shows: one table of agreements and disagreements, and what to do."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.views.plain import page
from hefjoin.report.compared import VERDICTS, found_text
from hefjoin.results.checked import Comparison
from hefjoin.spec import BuildSpec
from hefjoin.stages.examine import Examined

STYLES = {"agrees": "green", "handled": "cyan", "look": "yellow", "fails": "red"}


def as_data(spec: BuildSpec, found: Examined) -> dict[str, Any]:
    """Return what was found, as JSON says it."""
    rows = [row.model_dump(mode="json") for row in found.rows]
    return {"name": spec.name, "passes": found.passes, "rows": rows}


def show(spec: BuildSpec, found: Examined) -> None:
    """Print the table and the answer."""
    console = page()
    table = Table("What", "Found", "Verdict", "How it is handled, what to do", header_style="bold")
    for row in found.rows:
        verdict = Text(VERDICTS[row.verdict], style=STYLES[row.verdict])
        table.add_row(row.what, Text(found_text(row, "\n")), verdict, _said(row))
    console.print(table)
    failing = sum(row.verdict == "fails" for row in found.rows)
    doubtful = sum(row.verdict == "look" for row in found.rows)
    names = escape(" + ".join(model.name for model in spec.models))
    if failing:
        console.print(f"[bold]{names}[/bold] [red]would fail the build: {failing} of {len(found.rows)} rows[/red]")
    else:
        aside = f"; {doubtful} to look at" if doubtful else ""
        console.print(f"[bold]{names}[/bold] [green]may share one input[/green]{aside}")


def _said(row: Comparison) -> Group:
    return Group(*map(Text, row.notes), *([Text(row.remedy, style="bold")] if row.remedy else []))
