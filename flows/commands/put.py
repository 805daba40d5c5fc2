"""`hefjoin put`: publish a model where specs look for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.door import command

if TYPE_CHECKING:
    from hefjoin.catalogue.put import Put

EVENT = "hefjoin.model.put"


@command
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("uri", metavar="URI")
def put(debug: bool, file: Path, uri: str) -> None:
    """Put a model or set of frames (.onnx, .har, .npy, .npz) at s3://bucket/key or a path, and tell the service of it.

    What the service's automations do then is to rebuild the specs that use it.
    """
    import os

    from flows.afar import API_URL
    from hefjoin.catalogue.put import put as put_there
    from hefjoin.report.words import size_text

    placed = put_there(file, uri)
    for each in placed:
        how = "" if each.is_new else "unchanged, "
        click.echo(f"{each.uri}  {how}{size_text(each.size_bytes)}, sha256 {each.sha256}")
    if not any(each.is_new for each in placed):
        return
    if not os.environ.get(API_URL):
        click.echo(f"hefjoin: {API_URL} is not set, so no server was told and nothing is rebuilt by itself", err=True)
        return
    _tell(placed[-1], debug)


def _tell(placed: Put, debug: bool) -> None:
    """Send the event; the server has it when this returns."""
    from flows.afar import prefect_client
    from hefjoin.errors import HefJoinError

    try:
        with prefect_client(debug) as client:
            from prefect.events.schemas.events import Event, Resource

            event = Event(
                event=EVENT,
                resource=Resource({"prefect.resource.id": f"hefjoin.model.{placed.uri}"}),
                payload={"uri": placed.uri, "sha256": placed.sha256, "size_bytes": placed.size_bytes},
            )
            client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    except HefJoinError as error:
        error.add_note("the file is in its place; nothing is rebuilt by itself")
        raise
    click.echo(f"told the Prefect server ({EVENT})", err=True)
