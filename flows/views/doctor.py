"""What an examination found, for `hefjoin doctor`: JSON for machines, a table for people.

The rule: what is well takes one line; what is not says what follows and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from hefjoin.compatibility import is_in, table
from hefjoin.doctor import Finding

PLAIN_WIDTH = 120
STYLES = {"ok": "green", "untested": "yellow", "missing": "yellow", "problem": "bold red"}
NOTE = "not needed: the emulator does without it"


def describe(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings and the table of versions that fit together, ready for JSON."""
    return {
        "findings": [finding.model_dump() for finding in findings],
        "compatibility": table().model_dump(mode="json"),
    }


def show(findings: Sequence[Finding]) -> None:
    """Write the findings to standard output, and which versions fit together."""
    rich = Console(highlight=False)
    if not rich.is_terminal:
        rich.width = PLAIN_WIDTH
    rich.print(Group(_findings(findings), f"[dim]{NOTE}[/dim]", "", _releases()))


def _findings(findings: Sequence[Finding]) -> Table:
    lines = Table("", "", "State", "Found", box=None, header_style="bold", pad_edge=False)
    part = ""
    for finding in findings:
        style = STYLES.get(finding.state, "dim")
        state = finding.state.partition(" for ")[0]
        lines.add_row(
            "" if finding.part == part else f"[bold]{finding.part}[/bold]",
            escape(finding.subject),
            f"[{style}]{state}[/{style}]",
            _text(finding),
        )
        part = finding.part
    return lines


def _text(finding: Finding) -> str:
    lines = [escape(finding.found)]
    if finding.follows:
        lines.append(f"[dim]{escape(finding.follows)}[/dim]")
    if finding.next_step:
        lines.append(f"→ {escape(finding.next_step)}")
    return "\n".join(lines)


def _releases() -> Table:
    known = table()
    shown = Table(
        "DFC", "HailoRT", "System", "Python", "TensorFlow", "CUDA", "Source",
        box=None, header_style="bold", pad_edge=False, title="What fits together on the Hailo-8", title_justify="left",
    )  # fmt: skip
    for release in known.releases:
        if is_in(release.dfc, known.supported.dfc):
            shown.add_row(
                release.dfc,
                release.hailort or "–",
                ", ".join(release.systems),
                ", ".join(release.python),
                release.tensorflow or "–",
                release.cuda or "–",
                f"{release.confidence}: {release.source}",
            )
    return shown
