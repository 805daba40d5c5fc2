"""`hefjoin example`: a spec to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from flows.door import command


@command
@click.argument("name", metavar="NAME")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def example(debug: bool, name: str, directory: Path) -> None:
    """Write a ready spec with all it needs: resnet-pair, mnist-pair or ocr-pair."""
    del debug
    from hefjoin.examples import write

    spec = write(name, directory)
    click.echo(f"{spec}\nbuild it:  hefjoin build {spec}")
