"""`hefjoin conformance`: what an SDK answers, recorded and compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from flows.door import DIFFERENT, command


@command
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Whom to ask; auto: the DFC where HEFJOIN_DFC_PYTHON names one, else the emulator.")  # fmt: skip
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="The archive.  [default: conformance-<sdk>-<version>.tar.gz]")  # fmt: skip
@click.option("--compare", metavar="A B", nargs=2, type=click.Path(path_type=Path),
              help="Say in what two archives differ instead; exit code 1 where they do.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Answers or differences as JSON.")
def conformance(debug: bool, sdk: Any, out: Path | None, compare: tuple[Path, Path] | None, as_json: bool) -> None:
    """Record what an SDK and a device make of a fixed set of small networks, or compare two such records."""
    del debug
    from flows.views import conformance as kit

    if compare:
        comparison = kit.compare(*compare)
        if as_json:
            click.echo(comparison.model_dump_json(indent=2))
        else:
            kit.show_comparison(comparison)
        sys.exit(0 if comparison.is_equal else DIFFERENT)
    recording, path = kit.make(sdk, out)
    if as_json:
        click.echo(json.dumps([answer.model_dump() for answer in recording.answers], indent=2))
    else:
        kit.show_recording(recording, path)
