"""The console of the commands that print a table: on a terminal as wide as that, else as wide as a page."""

from __future__ import annotations

from rich.console import Console

PAGE_WIDTH = 120


def page() -> Console:
    """Return a console on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PAGE_WIDTH)
    return console
