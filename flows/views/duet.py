"""What one calibration set is worth to several models: on the terminal, and laid out as a page with its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.views.plain import page as plain_page
from hefjoin.errors import StoreError
from hefjoin.report.duet import advice, only_by, render_duet, sentence, share_text
from hefjoin.report.words import db_text, percent
from hefjoin.results.covered import CalibrationPage, Covered, Proof
from hefjoin.sdk.log import Progress as Done
from hefjoin.stages.duet import Duet


@contextmanager
def progress() -> Iterator[Callable[[Done], None]]:
    """Yield what is told how far the frames are; shown on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("networks", total=None)
        what = ""

        def on_progress(done: Done) -> None:
            nonlocal what
            if done.what != what:
                what = done.what
                bars.reset(task, total=done.total, description=what)
            bars.update(task, completed=done.done)

        yield on_progress


def lay_out(path: Path, name: str, duet: Duet, frames: Path, proof: Proof | None) -> dict[str, Any]:
    """Write the page and its JSON beside it, and return that.

    Raises:
        StoreError: They cannot be written.
    """
    beside = CalibrationPage(name=name, covered=duet.covered, proof=proof).model_dump(mode="json")
    texts = {
        path: render_duet(name, duet.covered, frames, duet.checked.color, proof),
        path.with_suffix(".json"): json.dumps(beside, indent=1),
    }
    for target, text in texts.items():
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError(
                f"the page cannot be written to {target}: {error.strerror or error}; give another --out",
                reason="refused",
                uri=str(target),
                is_transient=False,
            ) from error
    return beside


def show(duet: Duet, proof: Proof | None, path: Path) -> None:
    """Print a summary."""
    console, covered = plain_page(), duet.covered
    console.print(f"[bold]{escape(sentence(covered))}[/bold]")
    console.print(_models(covered))
    console.print(f"clipped on {covered.judged:,} {covered.judged_on}; coverage of the {covered.source}")
    if proof:
        console.print(_proof(covered, proof))
    for each in advice(covered):
        console.print(escape(each))
    console.print(f"page: {escape(str(path))}, {escape(str(path.with_suffix('.json')))}", soft_wrap=True)


def _models(covered: Covered) -> Table:
    table = Table("Model", "Channels", "Values clipped", "Channels clipped", "Frames alone", "Only it needs", "Keeps",
                  header_style="bold")  # fmt: skip
    for each in covered.models:
        table.add_row(
            escape(each.model),
            f"{each.channels:,}",
            share_text(each.clipped_share),
            f"{each.clipped_channels:,}",
            f"{each.frames_alone:,}",
            f"{len(only_by(covered, each.model)):,}",
            percent(covered.subset.coverage[each.model]),
        )
    return table


def _proof(covered: Covered, proof: Proof) -> Table:
    table = Table("Model", f"SNR, all {covered.frames:,} frames", f"SNR, {len(covered.subset.frames):,} frames",
                  header_style="bold")  # fmt: skip
    for model, whole in proof.whole_snr_db.items():
        table.add_row(
            escape(model), *(f"{db_text(snr)} ({proof.source})" for snr in (whole, proof.subset_snr_db[model]))
        )
    return table


def what_to_change(duet: Duet, path: Path) -> Iterator[str]:
    """Yield what to write into the spec to use a subset that was written."""
    count = len(duet.covered.subset.frames)
    if path.suffix.lower() != ".npy":
        yield f"{path}: the {count:,} frames of the subset by name; keep these in the calibration set"
        return
    yield f"{path}: to use it, write into the spec"
    yield "  calibration:"
    yield f"    source: {path.resolve()}"
    yield f"    count: {count}"
    if duet.is_one_set:
        yield "the evaluation frames lie behind them in the file, as they did before"
        if duet.has_labels:
            yield "the labels of the evaluation frames are not in it: without them accuracy is agreement with float"
