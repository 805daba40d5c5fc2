"""What every command shares: the group they belong to, the debug flag, and how a run ends.

The rule: a user's mistake ends in a sentence and an exit code, never in a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

DIFFERENT = 1
GATE_FAILED = 7
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="hefjoin")
@click.option("--debug", is_flag=True, help="Show tracebacks and all that the compiler prints.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Join neural networks that share one camera image into a single HEF for the Hailo-8."""
    context.obj = debug


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the debug flag, and turn what hefjoin raises on purpose into a message and an exit code.

    A note that was added to the error is a line of its own below the message.
    """

    @main.command(name=function.__name__, help=function.__doc__)
    @click.pass_obj
    @wraps(function)
    def run(debug: bool, /, **arguments: Any) -> None:
        from hefjoin.errors import HefJoinError, ToolchainError

        try:
            function(debug=debug, **arguments)
        except HefJoinError as error:
            if debug:
                raise
            for line in (error, *getattr(error, "__notes__", ())):
                click.echo(f"hefjoin: {line}", err=True)
            sys.exit(error.exit_code)
        except Exception as error:
            if debug or not _is_lost_server(error):
                raise
            click.echo(f"hefjoin: the Prefect server stopped answering ({error}); build again: what was finished is "
                       "kept and will be reused", err=True)  # fmt: skip
            sys.exit(ToolchainError.exit_code)
        except KeyboardInterrupt:
            click.echo("hefjoin: interrupted; what was finished is kept and will be reused", err=True)
            sys.exit(INTERRUPTED)

    return run


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --store."""
    return click.option(
        "--store", metavar="URI", default="artifacts", show_default=True, help="A folder or s3://bucket/prefix."
    )(function)


def provider_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --sdk that says whose builds of a name are meant."""
    return click.option(
        "--sdk", type=click.Choice(["dfc", "emulator"]), help="Whose builds, where the name has those of both."
    )(function)


def _is_lost_server(error: Exception) -> bool:
    """Return whether an error comes from Prefect's connection to its server."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpcore")
