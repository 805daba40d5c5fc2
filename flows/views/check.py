"""What `hefjoin check` shows: one table of agreements and disagreements, what to do, and what was mended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.views.plain import page
from hefjoin.report.compared import VERDICTS, found_text
from hefjoin.results.checked import Comparison
from hefjoin.spec import BuildSpec
from hefjoin.stages.examine import Examined

if TYPE_CHECKING:
    from hefjoin.stages.mend import Mended

STYLES = {"agrees": "green", "handled": "cyan", "look": "yellow", "fails": "red"}


def print_data(spec: BuildSpec, found: Examined, mended: Mended | None = None, target: Path | None = None) -> None:
    """Print what was found, and what was mended, as JSON."""
    data: dict[str, Any] = {
        "name": spec.name,
        "passes": found.passes,
        "rows": [row.model_dump(mode="json") for row in found.rows],
    }
    if mended is not None:
        data["mends"] = [{"field": each.field, "value": each.value, "why": each.why} for each in mended.mends]
        data["proof"] = [{**each.model_dump(mode="json"), "holds": each.holds} for each in mended.proved]
        data["written"] = str(target) if target else None
    click.echo(json.dumps(data, indent=2))


def print_table(spec: BuildSpec, found: Examined) -> None:
    """Print the table and the answer."""
    console = page()
    _show(console, spec, found)


def print_mended(path: str, mended: Mended, target: Path | None) -> None:
    """Print what was mended and why, the difference, the proof, and the table of the mended spec."""
    from hefjoin.joining.edit import difference
    from hefjoin.spec_file import text_of

    console = page()
    _show(console, mended.spec, mended.examined)
    if not mended.mends:
        console.print("nothing that can be mended in the spec" if not mended.examined.passes else "nothing to mend")
    for each in mended.mends:
        console.print(f"[bold]{escape(each.field)}[/bold]: {escape(each.why)}")
    if target is not None:
        console.print(Text(difference(text_of(Path(path)), mended.text, path, str(target))))
    if mended.proved:
        _show_proof(console, mended)
    if target is not None:
        console.print(f"wrote {escape(str(target))}", soft_wrap=True)
    elif mended.mends:
        why = "what is left stands in the table" if not mended.examined.passes else "the numbers are others"
        console.print(f"[red]nothing was written: {why}[/red]")


def _show(console: Console, spec: BuildSpec, found: Examined) -> None:
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


def _show_proof(console: Console, mended: Mended) -> None:
    table = Table("Proof: output", "Frames", "Largest difference", "Of values up to", "", header_style="bold")
    for each in mended.proved:
        holds = Text("the same", style="green") if each.holds else Text("differs", style="red")
        table.add_row(
            f"{each.model}: {each.output}", str(each.frames), f"{each.max_abs_difference:.1e}",
            f"{each.largest_value:.3g}", holds,
        )  # fmt: skip
    console.print(table)
    console.print("[dim]Each model's file alone on ONNX Runtime, on frames prepared on the host, against its outputs "
                  "behind the shared input (emulator, float).[/dim]")  # fmt: skip
