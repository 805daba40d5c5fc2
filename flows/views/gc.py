"""What `hefjoin gc` removes or would remove, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from flows.views.plain import page
from hefjoin.builds.gc import Waste
from hefjoin.report.words import plural

SHOWN = 20


def show(found: Waste, uri: str) -> None:
    """Print what nothing needs, by kind, the builds by name."""
    console = page()
    for owner in found.running:
        console.print(f"{escape(owner.what)} is running ({escape(str(owner))}); what it uses stays", soft_wrap=True)
    for build_id in found.lost:
        console.print(f"[yellow]the manifest of build {escape(build_id)} is lost; what only that knows of is not kept"
                      "[/yellow]", soft_wrap=True)  # fmt: skip
    if found.is_empty:
        console.print(f"nothing to remove in {escape(uri)}", soft_wrap=True)
        return
    builds = [key for key in found.records if key.startswith("builds/")]
    if builds:
        table = Table("Name", "Compiler", "Builds that go", header_style="bold")
        for folder in dict.fromkeys(key.rpartition("/")[0] for key in builds):
            _, provider, name = folder.split("/")
            ids = [key.rpartition("/")[2] for key in builds if key.rpartition("/")[0] == folder]
            more = f"\nand {len(ids) - SHOWN} more" if ids[SHOWN:] else ""
            table.add_row(escape(name), provider, escape("\n".join(ids[:SHOWN])) + more)
        console.print(table)
    console.print(f"in {escape(uri)}: {summary(found)}", soft_wrap=True)


def summary(found: Waste) -> str:
    """Return in a line what is removed."""
    size = sum(each.size_bytes for each in found.objects)
    parts = [
        plural(len(found.builds), "build"),
        f"{plural(found.stages, 'finished stage')} that can be reused no more",
        f"{plural(len(found.objects), 'artifact')} ({size / 1e6:,.1f} MB)",
        f"{plural(len(found.leftovers), 'upload')} that did not end",
    ]
    return ", ".join(parts)


def tell(found: Waste, *, is_removed: bool) -> None:
    """Print what came of it."""
    console = page()
    if is_removed:
        console.print(f"removed {plural(len(found.objects), 'artifact')}, {found.size_bytes / 1e6:,.1f} MB freed")
    else:
        console.print("nothing was removed; --yes does it without asking")


def as_json(found: Waste, *, is_removed: bool) -> str:
    """Return the same for programs."""
    content = {
        "is_removed": is_removed,
        "builds": found.builds,
        "records": found.records,
        "artifacts": [{"name": each.name, "size_bytes": each.size_bytes} for each in found.objects],
        "unfinished_uploads": [{"name": each.name, "size_bytes": each.size_bytes} for each in found.leftovers],
        "size_bytes": found.size_bytes,
        "running": [owner.model_dump(mode="json") for owner in found.running],
    }
    return json.dumps(content, indent=2)


@contextmanager
def removing() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal."""
    with Progress(
        console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal
    ) as progress:
        bar = progress.add_task("removing", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
