"""`hefjoin loader`: the Python that runs a build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.door import command, store_option

if TYPE_CHECKING:
    from hefjoin.manifest import Manifest


@command
@click.argument("build", metavar="BUILD")
@store_option
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Where to write it.  [default: <name>_loader.py]")  # fmt: skip
def loader(debug: bool, build: str, store: str, out: Path | None) -> None:
    """Write a Python module that loads a build's HEF and returns {model: {output: array}}.

    BUILD is a manifest.json, a folder with one, or a build or name in the store.
    """
    del debug
    from hefjoin.builds.find import find_manifest
    from hefjoin.stores import open_store

    click.echo(write(find_manifest(build, open_store(store)), out))


def write(manifest: Manifest, out: Path | None) -> Path:
    """Write the loader of a build, in the place of an older one; return where it lies.

    Args:
        manifest: The build.
        out: The file; None for the module's own name, in the working directory.

    Raises:
        StoreError: The file cannot be written.
    """
    from hefjoin.loader import module_name, render
    from hefjoin.stores import os_errors, partial_file

    path = out or Path(f"{module_name(manifest)}.py")
    text = render(manifest)
    with os_errors(f"write {path}", str(path.parent)), partial_file(path.parent) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return path
