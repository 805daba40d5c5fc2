"""`hefjoin diff`: two builds side by side."""

from __future__ import annotations

import click

from flows.door import command, store_option


@command
@click.argument("earlier", metavar="A")
@click.argument("later", metavar="B")
@store_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def diff(debug: bool, earlier: str, later: str, store: str, as_json: bool) -> None:
    """Say in what build B differs from build A.

    A and B are a build's id or how it begins, a name for its latest, NAME@3 for a record, or a manifest.json.
    """
    del debug
    from flows.views.diff import show
    from hefjoin.builds.diff import diff as compare
    from hefjoin.builds.find import find_manifest
    from hefjoin.stores import open_store

    place = open_store(store)
    found = compare(find_manifest(earlier, place), find_manifest(later, place))
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        show(found)
