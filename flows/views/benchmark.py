"""A comparison on the terminal: how far it is while it runs, then the answer first and the figures below."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.views.plain import page
from hefjoin.report import by_turns
from hefjoin.results.timed import Timed


class Following:
    """A bar for each part of a comparison, on standard error; nothing without a terminal."""

    def __init__(self) -> None:
        """Prepare to show."""
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("± {task.fields[width]:.1f} %"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Begin to show."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._progress.stop()

    def on_block(self, what: str, elapsed: float, seconds: float, half_width_percent: float) -> None:
        """Move a bar, and say how far the interval reaches."""
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, width=0.0)
        self._progress.update(
            self._bars[what], total=seconds, completed=min(elapsed, seconds), width=half_width_percent
        )


def show(found: Timed) -> None:
    """Print the answer, the figures, and what to know of them."""
    console = page()
    style = "bold" if found.difference is None else "bold yellow" if found.is_different else "bold green"
    console.print(f"[{style}]{escape(by_turns.verdict(found))}[/]", soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    for label, text in by_turns.rows(found):
        grid.add_row(f"[dim]{escape(label)}[/dim]", escape(text))
    console.print(grid)
    for text in by_turns.notices(found):
        console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)
