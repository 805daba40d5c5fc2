"""`hefjoin doctor`: what is installed."""

from __future__ import annotations

import json
import sys

import click

from flows.door import command


@command
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the table of versions that fit together.")
def doctor(debug: bool, as_json: bool) -> None:
    """Say what is installed for real builds and devices, what fits together and what is missing."""
    del debug
    from flows.views.doctor import describe, show
    from hefjoin.doctor import examine
    from hefjoin.errors import ToolchainError

    findings = examine()
    if as_json:
        click.echo(json.dumps(describe(findings), indent=2))
    else:
        show(findings)
    if any(finding.state == "problem" for finding in findings):
        sys.exit(ToolchainError.exit_code)
