"""`python -m deployments`: start a server or a worker, deploy, or run Prefect's own command with the same settings.

The rule: a server and a worker replace this process, so that a signal and a service manager reach Prefect itself.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Mapping

import click

from deployments import settings
from flows.worker import WORKER
from hefjoin.errors import HefJoinError

MENDED = "deployments.mended"
NOTHING_ALLOWED = (
    f"hefjoin: {settings.SOURCES} is not set, so no run may read a model; it names folders, s3://bucket/prefix and "
    "package://name, separated by blanks"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run hefjoin as a service."""


@main.command()
def server() -> None:
    """Start a hardened Prefect server, on 127.0.0.1 unless PREFECT_SERVER_API_HOST names another address."""
    _become(settings.server_environment(), "server", "start", module=MENDED)


@main.command()
@click.argument("pool", type=click.Choice(list(settings.LIMITS)))
@click.option(
    "--limit", type=click.IntRange(min=1), help="Runs at a time; builders 1, hailo8 1, control 20 unless set."
)
def worker(pool: str, limit: int | None) -> None:
    """Start a worker that takes runs from a pool."""
    name = f"{pool} on {platform.node()}, process {os.getpid()}"
    runs = str(limit or settings.LIMITS[pool])
    environment = {**settings.worker_environment(), WORKER: str(os.getpid())}
    if environment["HEFJOIN_SERVICE"] == "1" and settings.SOURCES not in environment:
        click.echo(NOTHING_ALLOWED, err=True)
    command = ("worker", "start", "--pool", pool, "--type", "process", "--limit", runs, "--name", name)
    _become(environment, *command, module=MENDED)


@main.command()
def setup() -> None:
    """Make pools, automations and deployments what this checkout says; what is so already is left."""
    os.environ.update(settings.client_environment())
    settings.make_home(os.environ)
    from deployments.setup import apply

    apply(click.echo)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prefect(arguments: tuple[str, ...]) -> None:
    """Run Prefect's own command against the server: `python -m deployments prefect flow-run ls`."""
    _become(settings.client_environment(), *arguments)


def _become(environment: Mapping[str, str], *arguments: str, module: str = "prefect") -> None:
    """Replace this process by Prefect's command."""
    settings.make_home(environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a shell's background job ignores SIGINT, on which Prefect stops
    os.execve(sys.executable, [sys.executable, "-m", module, "--no-prompt", *arguments], dict(environment))


if __name__ == "__main__":
    try:
        main(prog_name="python -m deployments")
    except HefJoinError as error:
        click.echo(f"hefjoin: {error}", err=True)
        sys.exit(error.exit_code)
