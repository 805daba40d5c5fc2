"""What `hefjoin verify` found, for people: a line where all is well, else a table of what is not."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from flows.views.plain import page
from hefjoin.builds.verify import Verified
from hefjoin.report.words import plural

DIGEST_SHOWN = 12
USES_SHOWN = 3


def show(found: Verified) -> None:
    """Print what was looked at, what is wrong and what a build of the same spec would do about it."""
    console = page()
    looked_at = f"{plural(found.artifacts, 'artifact')} ({found.size_bytes / 1e6:,.1f} MB)"
    if found.records:
        looked_at += f", {plural(found.records, 'record')}"
    console.print(f"build {escape(found.build_id)}: {looked_at}", soft_wrap=True)
    for what in found.unchecked:
        console.print(f"not checked: {escape(what)}", soft_wrap=True)
    if not found.findings:
        console.print("[green]all of it is there, bit for bit[/green]")
        return
    table = Table("What for", "Problem", "Expected", "Found", "Built again by", header_style="bold")
    for each in found.findings:
        more = f" and {len(each.uses) - USES_SHOWN} more" if each.uses[USES_SHOWN:] else ""
        table.add_row(
            escape(f"{'record ' if each.kind == 'record' else ''}{', '.join(each.uses[:USES_SHOWN])}{more}"),
            f"[red]{each.problem}[/red]",
            _digest(each.expected),
            _digest(each.found) or "–",
            escape(", ".join(each.stages)) or "–",
        )
    console.print(table)
    for each in found.findings:
        console.print(f"{each.problem}: {escape(each.uri)}", soft_wrap=True)
    if any(each.stages for each in found.findings):
        console.print("Build the spec again: the stages above are done anew, the others are reused.", soft_wrap=True)
    else:
        console.print("Build the spec again: what lies there is replaced.", soft_wrap=True)


def _digest(text: str) -> str:
    is_digest = len(text) == 64 and " " not in text
    return f"{text[:DIGEST_SHOWN]}…" if is_digest else escape(text)
