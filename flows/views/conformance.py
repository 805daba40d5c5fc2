"""What the conformance kit found, for `hefjoin conformance`: answers as a table, a comparison group by group."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hefjoin.conformance.compare import Comparison, Difference
from hefjoin.conformance.numbers import NOT_THERE
from hefjoin.conformance.recording import FINISHED, Recording
from hefjoin.errors import InputError
from hefjoin.sdk.toolchain import Choice

PLAIN_WIDTH = 120
SHOWN_PLACES = 3
SHOWN_DIFFERENCES = 40


def make(sdk: Choice, out: Path | None) -> tuple[Recording, Path]:
    """Record what an SDK and a device do, with a line on standard error for every case, and write the archive.

    Raises:
        InputError: There is no folder for the archive, or a folder in its place.
        ToolchainError: The SDK that is asked for is not there.
        StoreError: The archive cannot be written.
    """
    from hefjoin.conformance import archive
    from hefjoin.conformance.record import record
    from hefjoin.sdk.toolchain import resolve

    toolchain = resolve(sdk)
    path = out or Path(f"conformance-{toolchain.sdk.provider}-{toolchain.sdk.version}.tar.gz")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--out {path}: {'a folder' if path.is_dir() else 'no folder there'}; name a file to write")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    recording = record(toolchain, on_case=lambda case, begun, total: console.print(f"{begun + 1}/{total}  {case}"))
    archive.write(path, recording)
    return recording, path


def compare(first: Path, second: Path) -> Comparison:
    """Return in what two archives differ.

    Raises:
        InputError: One of them is no archive of a recording.
    """
    from hefjoin.conformance import archive
    from hefjoin.conformance.compare import compare as compare_recordings

    return compare_recordings(archive.read(first), archive.read(second))


def show_recording(recording: Recording, path: Path) -> None:
    """Write the answers to standard output, and which cases did not end well."""
    console = _console()
    table = Table("", "Question", box=None, header_style="bold", pad_edge=False)
    table.add_column("Answer", overflow="fold")
    for answer in recording.answers:
        text = f"{answer.answer}: {answer.measured}" if answer.measured else answer.answer
        table.add_row(str(answer.number), escape(answer.question), escape(text))
    console.print(table)
    unfinished = [each.observed for each in recording.cases.values() if each.observed.ended != FINISHED]
    for observed in unfinished:
        console.print(f"[yellow]{escape(observed.ended.splitlines()[0])}[/yellow]")
    environment = recording.environment
    console.print(
        f"{len(recording.cases)} cases, {len(unfinished)} did not finish; {environment.provider} "
        f"{environment.sdk_version}, {escape(environment.device)}"
    )
    console.print(escape(str(path)), soft_wrap=True)


def show_comparison(comparison: Comparison) -> None:
    """Write to standard output in what two recordings differ."""
    console = _console()
    console.print(f"A  {comparison.first}\nB  {comparison.second}")
    for group in comparison.groups:
        verdict = "equal" if group.is_equal else f"{len(group.differences)} differences"
        console.print(f"[bold]{group.group}[/bold]: [{'green' if group.is_equal else 'yellow'}]{verdict}[/]")
        for each in group.differences[:SHOWN_DIFFERENCES]:
            console.print(escape(_text(each)), soft_wrap=True)
        if len(group.differences) > SHOWN_DIFFERENCES:
            console.print(f"  and {len(group.differences) - SHOWN_DIFFERENCES} more; --json lists them all")


def _text(each: Difference) -> str:
    more = len(each.places) - SHOWN_PLACES
    places = ", ".join(each.places[:SHOWN_PLACES]) + (f" and {more} more" if more > 0 else "")
    if NOT_THERE in (each.first, each.second):
        return f"  only in {'A' if each.second == NOT_THERE else 'B'}: {each.what}  ({places})"
    return f"  {each.what}  ({places})\n    A  {each.first}\n    B  {each.second}"


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console
