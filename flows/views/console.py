"""What a person sees of a build on a terminal: each stage as it comes, progress on long work, one table at the end.

The rule: everything goes to standard error but the JSON that was asked for; without a terminal, plain lines.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from hefjoin.builds.find import Build
    from hefjoin.sdk.log import Progress as StageProgress

LINE_SECONDS = 10.0
LOG_WIDTH = 120


class Console:
    """Shows the log of a build."""

    def __init__(self, debug: bool) -> None:
        """Show the compiler's own lines too when `debug`."""
        self.rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        if not self.rich.is_terminal:
            self.rich.width = LOG_WIDTH
        self.handler = Handler(self.rich, debug)
        self.logger = logging.getLogger("hefjoin")

    def __enter__(self) -> Self:
        """Begin to show."""
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self.handler)
        self.handler.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and leave the terminal as it was."""
        self.handler.progress.stop()
        self.logger.removeHandler(self.handler)

    def say(self, text: str) -> None:
        """Write a line of the frame around the build."""
        self.rich.print(f"[dim]{escape(text)} …[/dim]")

    @staticmethod
    def is_first_wait() -> bool:
        """Return whether a server has to be started."""
        return not os.environ.get("PREFECT_API_URL")

    def begin(self, name: str) -> None:
        """Head a build."""
        self.rich.print(f"[bold]{escape(name)}[/bold]")

    def show_build(self, build: Build, folder: Path, latest: str) -> None:
        """Show where a build's files are and whether it was promoted; `latest` is the latest build of its name."""
        from hefjoin.report.summary import verdict_text, warnings
        from hefjoin.report.words import repair_text

        files = Table.grid(padding=(0, 2))
        for label, name in (
            ("HEF", build.published.hef_name),
            ("report", "report.html"),
            ("manifest", "manifest.json"),
        ):
            files.add_row(label, str(folder / name))
        verdict = verdict_text(build.manifest)
        if build.manifest.is_promotable and latest != build.manifest.build_id:
            verdict = f"Its gates passed, but build {latest} is the latest"
        self.rich.print(f"\n[bold]{escape(build.manifest.spec.name)}[/bold]  {escape(verdict)}")
        if build.manifest.repair and (repaired := repair_text(build.manifest.repair)):
            self.rich.print(f"repair: {escape(repaired)}")
        self.rich.print(files)
        for text in warnings(build.manifest):
            self.rich.print(f"[yellow]warning: {escape(text)}[/yellow]")

    def show_table(self, builds: Sequence[Build]) -> None:
        """Show what quantizing cost each model, its accuracy on labels, and the joined networks' figures."""
        from hefjoin.report import figure_rows, score_rows, summary_rows
        from hefjoin.report.summary import EMULATOR_NOTICE, HEADINGS, SCORE_HEADINGS

        models = Table("Build", *HEADINGS, header_style="bold")
        for build in builds:
            for row in summary_rows(build.manifest):
                models.add_row(build.manifest.spec.name, row.model, row.snr, row.accuracy, row.drop)
        scores = Table("Build", *SCORE_HEADINGS, header_style="bold")
        for build in builds:
            for score in score_rows(build.manifest):
                scores.add_row(build.manifest.spec.name, *astuple(score))
        figures = Table.grid(padding=(0, 2))
        for build in builds:
            for label, figure in figure_rows(build.manifest):
                figures.add_row(build.manifest.spec.name, label, figure)
        self.rich.print()
        self.rich.print(models)
        if scores.row_count:
            self.rich.print(scores)
        self.rich.print(figures)
        if any(build.manifest.sdk.provider == "emulator" for build in builds):
            self.rich.print(f"[dim]{EMULATOR_NOTICE}[/dim]")


class Handler(logging.Handler):
    """Turns log records into lines, and records of progress into bars."""

    def __init__(self, rich: RichConsole, debug: bool) -> None:
        """Write to a console."""
        super().__init__(logging.INFO)
        self.rich = rich
        self.debug = debug
        self.progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=rich,
            transient=True,
            disable=not rich.is_terminal,
        )
        self.bars: dict[str, TaskID] = {}
        self.told: dict[str, tuple[str, float]] = {}
        """By stage: what was last told, and when."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        if record.name == "hefjoin.progress":
            self._advance(record.__dict__["title"], record.__dict__["progress"])
        elif record.name == "hefjoin.sdk":
            text = record.getMessage()
            if self.debug or "[warning]" in text or "[error]" in text:
                self.rich.print(f"    [yellow]{escape(text)}[/yellow]")
        else:
            self.rich.print(f"  {escape(record.getMessage())}")

    def _advance(self, title: str, progress: StageProgress) -> None:
        text = f"{title}: {progress.what}"
        if not self.rich.is_terminal:
            self._advance_in_lines(title, text, progress)
            return
        if title not in self.bars:
            self.bars[title] = self.progress.add_task(escape(text), total=progress.total)
        self.progress.update(self.bars[title], description=escape(text), completed=progress.done, total=progress.total)
        if progress.done >= progress.total:
            self.progress.remove_task(self.bars.pop(title))

    def _advance_in_lines(self, title: str, text: str, progress: StageProgress) -> None:
        """Print a line where something else began, and at the most one every few seconds besides."""
        now = time.monotonic()
        what, when = self.told.get(title, ("", 0.0))
        if progress.what != what or now - when >= LINE_SECONDS:
            self.rich.print(f"  {escape(text)}, {100 * progress.done // max(progress.total, 1)} %")
            self.told[title] = progress.what, now
