"""`hefjoin schema`: what a spec and a manifest may hold."""

from __future__ import annotations

import json
from typing import Any

import click

from flows.door import command


@command
@click.argument("what", metavar="[spec|manifest|calibration]", default="spec",
                type=click.Choice(["spec", "manifest", "calibration"]))  # fmt: skip
def schema(debug: bool, what: Any) -> None:
    """Print the JSON Schema of a spec, of the manifest of a build, or of the JSON of `hefjoin calibration`."""
    del debug
    from hefjoin.builds.schema import json_schema

    click.echo(json.dumps(json_schema(what), indent=2, ensure_ascii=False))
