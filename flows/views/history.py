"""The builds of a name as a table for people. The one rule: a figure stands beside the word that says its source."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from flows.views.plain import page
from hefjoin.builds.history import Entry
from hefjoin.manifest import Manifest
from hefjoin.report import words
from hefjoin.report.by_turns import speed_change_text
from hefjoin.report.summary import EMULATOR_NOTICE

ID_WIDTH = 24
WIDE = 100
"""From here on there is room for an id on one line without saying so."""
STYLES = {"latest": "bold green", "promoted": "green", "rolled back": "yellow", "not promoted": "red"}


def show(name: str, entries: Sequence[Entry]) -> None:
    """Print a row for each build, the newest last."""
    console = page()
    table = Table(header_style="bold", show_lines=True)
    table.add_column("Build, and what changed", overflow="fold", width=ID_WIDTH if console.width < WIDE else None)
    for heading in ("Promoted", "Models", "HEF"):
        table.add_column(heading, overflow="fold")
    for before, entry in zip(("", *(each.build_id for each in entries)), entries, strict=False):
        known = entry.manifest
        models, hef = (_models(known), _hef(known, entry)) if known is not None else ("–", "–")
        table.add_row(_build(entry, before), _state(entry), escape(models), escape(hef))
    console.print(f"[bold]{escape(name)}[/bold]")
    console.print(table)
    if any(entry.manifest is not None and entry.manifest.sdk.provider == "emulator" for entry in entries):
        console.print(f"[dim]{EMULATOR_NOTICE}[/dim]", soft_wrap=True)


def _build(entry: Entry, before: str) -> str:
    if entry.manifest is None:
        return f"{entry.build_id}\n[red]{escape(entry.problem)}[/red]"
    sdk = entry.manifest.sdk
    version = sdk.version.partition("-emulator")[0]
    made = f"{words.moment_text(entry.created_at)}, {sdk.provider} {version}"
    what = "; ".join(entry.changed) or "nothing: built anew"
    since = f" since {entry.parent}" if entry.parent != before else ""
    changed = f"changed{since}: {what}" if entry.parent else "no build before it"
    return f"[bold]{entry.build_id}[/bold]\n{escape(made)}\n{escape(changed)}"


def _state(entry: Entry) -> str:
    numbers = f"record{'s' if entry.records[1:] else ''} {', '.join(map(str, entry.records))}" if entry.records else ""
    text = f"[{STYLES[entry.state]}]{entry.state}[/]" + (f"\n{numbers}" if numbers else "")
    for gate in entry.gates:
        if gate.verdict == "failed":
            text += escape(f"\n{gate.name}: {gate.found}, {gate.missed}")
        elif gate.verdict == "not evaluated":
            text += escape(f"\n{gate.name}: not evaluated")
    return text


def _models(build: Manifest) -> str:
    scored = {each.model: each for each in build.scored.models}
    lines = []
    for each in build.quantized.accuracy:
        line = f"{each.model} {words.db_text(each.snr_db)}"
        found = scored.get(each.model)
        if found and (score := found.at("quantized")):
            line += f", {words.metric_text(found.metric)} {words.score_text(found.kind, score.value)}"
        lines.append(line)
    return "\n".join([*lines, f"({build.quality_source})"])


def _hef(build: Manifest, entry: Entry) -> str:
    size = words.size_text(build.compiled.hef.size_bytes)
    text = f"{size}\n{words.contexts_text(build.compiled)}\n{words.fps_text(build.measured)}"
    if entry.speed is None:
        return text
    return f"{text}\n{'regression: ' if entry.speed.is_regression else ''}{speed_change_text(entry.speed)}"
