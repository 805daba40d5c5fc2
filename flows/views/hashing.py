"""Progress of hashing, on a terminal; without one nothing is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from hefjoin.builds.verify import OnHashed


@contextmanager
def hashing() -> Iterator[OnHashed]:
    """Yield what is told how many bytes are done, of how many."""
    console = Console(stderr=True)
    columns = (TextColumn("hashing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def on_hashed(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield on_hashed
