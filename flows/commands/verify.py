"""`hefjoin verify`: whether all that a build left is there and whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flows.door import command, store_option

if TYPE_CHECKING:
    from hefjoin.builds.verify import OnHashed, Verified
    from hefjoin.stores import Store


@command
@click.argument("build", metavar="BUILD")
@store_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify(debug: bool, build: str, store: str, as_json: bool) -> None:
    """Hash all that a build left and say what is missing or damaged; exit code 5 where something is.

    BUILD is a build's id or how it begins, a name for its latest, NAME@3 for a record, or a folder as out/faces.
    """
    del debug
    from flows.views.hashing import hashing
    from flows.views.verify import show
    from hefjoin.errors import StoreError
    from hefjoin.stores import open_store

    with hashing() as on_hashed:
        found = look_at(build, open_store(store), on_hashed)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        show(found)
    if found.findings:
        sys.exit(StoreError.exit_code)


def look_at(build: str, store: Store, on_hashed: OnHashed) -> Verified:
    """Verify a build in the store, or the folder in which it was laid out."""
    from hefjoin.builds import verify as domain
    from hefjoin.builds.find import find_manifest, find_published, manifest_file, record_of

    path = manifest_file(build)
    if path is None:
        return domain.verify(store, find_published(build, store), on_hashed)
    manifest = find_manifest(build, store)
    return domain.verify_folder(path.parent, manifest, record_of(store, manifest))
