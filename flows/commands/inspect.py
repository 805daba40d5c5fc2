"""`hefjoin inspect`: what a file holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flows.door import command


@command
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--like-hailortcli", is_flag=True, help="A HEF as `hailortcli parse-hef --parse-streams` prints it.")
@click.option("--verify", is_flag=True, help="Also compare the checksum of a HEF, which reads all of it.")
def inspect(debug: bool, file: Path, as_json: bool, like_hailortcli: bool, verify: bool) -> None:
    """Say what an ONNX, HAR or HEF file holds, without the vendor's software."""
    del debug
    from flows.views import inspect as view
    from flows.views.inspect_text import show

    if like_hailortcli:
        click.echo(view.like_hailortcli(file, verify=verify), nl=False)
        return
    found = view.describe(file, verify=verify)
    click.echo(json.dumps(found, indent=2) if as_json else show(found), nl=as_json)
