"""`hefjoin gc`: remove from a store what nothing needs, after it was shown."""

from __future__ import annotations

import sys

import click

from flows.door import command, store_option


@command
@store_option
@click.option("--keep", "builds", metavar="N", type=click.IntRange(min=1), required=True,
              help="Of each name keep the N builds last promoted and the N newest.")  # fmt: skip
@click.option("--days", metavar="D", type=click.FloatRange(min=0), default=0, show_default=True,
              help="Keep also each stage that was built within D days, for builds that have not ended.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="What is removed, or with no --yes would be, as JSON.")
def gc(debug: bool, store: str, builds: int, days: float, yes: bool, as_json: bool) -> None:
    """Remove builds that are not kept, and all that no build points to; show it first and ask.

    What a running build uses is never removed. Without a terminal and without --yes nothing is.
    """
    del debug
    from flows.views import gc as view
    from hefjoin.builds.gc import Keep, remove, waste
    from hefjoin.stores import open_store

    place, keep = open_store(store), Keep(builds=builds, days=days)
    found = waste(place, keep)
    if not as_json:
        view.show(found, place.uri)
    is_agreed = yes or (not found.is_empty and not as_json and sys.stdin.isatty() and click.confirm("Remove all this?"))
    if is_agreed and not found.is_empty:
        with view.removing() as on_removed:
            found = remove(place, found, keep, on_removed)
    if as_json:
        click.echo(view.as_json(found, is_removed=is_agreed))
    elif not found.is_empty:
        view.tell(found, is_removed=is_agreed)
