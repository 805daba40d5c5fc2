"""`hefjoin cache`: what is kept on this machine beside stores."""

from __future__ import annotations

import click

from flows.door import command


@command
@click.argument("action", metavar="info|clean", type=click.Choice(["info", "clean"]))
@click.option("--json", "as_json", is_flag=True, help="As JSON; `clean` then needs --yes to remove anything.")
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), default=0.0,
              help="Only what was last used longer ago.  [default: all]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Remove without asking.")
def cache(debug: bool, action: str, as_json: bool, older_than: float, yes: bool) -> None:
    """Say what sources, work folders and Prefect homes take here (info), or remove what no build uses (clean)."""
    del debug
    from flows.views.cache import removals, removals_json, usage
    from hefjoin import housekeeping

    if action == "info":
        found = housekeeping.usage()
        click.echo(found.model_dump_json(indent=2) if as_json else usage(found))
        return
    chosen = housekeeping.removable(older_than)
    click.echo(removals_json(chosen) if as_json else removals(chosen))
    if chosen and (yes or (not as_json and click.confirm("Remove this?"))):
        housekeeping.clean(chosen)
        if not as_json:
            click.echo("removed")
