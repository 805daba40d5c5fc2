"""`hefjoin rollback`: an earlier build is the latest again."""

from __future__ import annotations

from typing import Any

import click

from flows.door import command, provider_option, store_option


@command
@click.argument("name", metavar="NAME")
@click.option("--to", metavar="BUILD", default="", help="Which build.  [default: the one that was latest before]")
@provider_option
@store_option
def rollback(debug: bool, name: str, to: str, sdk: Any, store: str) -> None:
    """Make an earlier build the latest of its name, by a new record."""
    del debug
    from flows.views.hashing import hashing
    from hefjoin.builds.rollback import provider_of, roll_back
    from hefjoin.stores import open_store

    place = open_store(store)
    provider = provider_of(place, name, sdk)
    with hashing() as on_hashed:
        current, record = roll_back(place, name, provider, to, on_hashed)
    click.echo(
        f"{name}: build {record.build_id} is the latest again, instead of {current.build_id}; its new record is "
        f"{record.record}.\n"
        "Building the spec again as it was does not undo this; one that comes to anything else, or is forced, does."
    )
