"""`hefjoin check`: whether the models of a spec may share one input, before anything is built."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from flows.door import command


@command
@click.argument("spec", metavar="SPEC")
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Whose compiler would build; the DFC parses longer.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(debug: bool, spec: str, sdk: Any, as_json: bool) -> None:
    """Check whether the models of a spec may share one input, and whether its frames suit them."""
    from flows.views.check import as_data, show
    from hefjoin.errors import InputError
    from hefjoin.folders import sources_folder
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages.examine import examine

    del debug
    wanted = read_spec(spec)
    found = examine(wanted, resolve(sdk, wanted.dfc_python), sources_folder())
    if as_json:
        click.echo(json.dumps(as_data(wanted, found), indent=2))
    else:
        show(wanted, found)
    if not found.passes:
        sys.exit(InputError.exit_code)
