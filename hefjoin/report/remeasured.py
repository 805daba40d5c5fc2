"""A build's HEF measured anew, beside what was measured when it was built; markdown for the Prefect UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hefjoin.report import words
from hefjoin.report.markdown import escaped, table
from hefjoin.report.summary import EMULATOR_NOTICE

if TYPE_CHECKING:
    from hefjoin.manifest import Machine, Manifest
    from hefjoin.results.measured import Measured

HEADINGS = ("Batch", "Now", "95 % interval of the median", "When it was built")


def measured_markdown(manifest: Manifest, measured: Measured, machine: Machine) -> str:
    """Return what was measured, one row a batch size, every figure with its source.

    Args:
        manifest: The build.
        measured: Its HEF, measured anew.
        machine: Where.
    """
    where = f"on {measured.device}, by {machine.host} ({machine.cpu}, {words.plural(machine.cores, 'core')})"
    parts = [f"## {escaped(manifest.spec.name)}: {escaped(manifest.build_id)} measured anew"]
    if measured.source == "emulator":
        parts.append(f"> {EMULATOR_NOTICE}")
    if not measured.batches:
        return "\n\n".join([*parts, escaped(f"Not measured, by {machine.host}: {measured.device}")]) + "\n"
    before = {batch.batch_size: batch for batch in manifest.measured.batches}
    rows = [
        (
            str(batch.batch_size),
            words.sourced(words.rate_text(batch.fps), measured.source),
            f"{words.significant(batch.fps_low)} to {words.rate_text(batch.fps_high)}",
            words.sourced(words.rate_text(before[batch.batch_size].fps), manifest.measured.source)
            if batch.batch_size in before
            else manifest.measured.source,
        )
        for batch in measured.batches
    ]
    parts += [table(HEADINGS, rows), escaped(f"Measured {where}.")]
    parts += [escaped(note) for note in measured.notes]
    return "\n\n".join(parts) + "\n"
