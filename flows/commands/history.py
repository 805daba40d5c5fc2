"""`hefjoin history`: the builds of a name."""

from __future__ import annotations

import json
from typing import Any

import click

from flows.door import command, provider_option, store_option


@command
@click.argument("name", metavar="NAME")
@store_option
@provider_option
@click.option("--last", metavar="N", type=click.IntRange(min=1), help="Only the last N builds.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def history(debug: bool, name: str, store: str, sdk: Any, last: int | None, as_json: bool) -> None:
    """List the builds of a name: when, promoted or not, size, SNR, FPS, and what changed."""
    del debug
    from flows.views.history import show
    from hefjoin.builds.history import history as entries
    from hefjoin.builds.rollback import provider_of
    from hefjoin.stores import open_store

    place = open_store(store)
    found = entries(place, provider_of(place, name, sdk), name, last or 0)
    if as_json:
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in found], indent=2))
    else:
        show(name, found)
