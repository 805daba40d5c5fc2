"""The `hefjoin` command: the door to the flows.

The rule: what a command does not need is not imported; a user's mistake ends in a sentence and an exit code, never
in a traceback.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from types import FrameType

    from flows.build import Build

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
    """Give a command the debug flag, and turn what hefjoin raises on purpose into a message and an exit code."""

    @main.command(name=function.__name__, help=function.__doc__)
    @click.pass_obj
    @wraps(function)
    def run(debug: bool, /, **arguments: Any) -> None:
        from hefjoin.errors import DeviceError, HefJoinError, ToolchainError

        try:
            function(debug=debug, **arguments)
        except HefJoinError as error:
            if debug:
                raise
            click.echo(f"hefjoin: {error}", err=True)
            if function.__name__ == "build" and isinstance(error, DeviceError):
                click.echo("hefjoin: the HEF is kept; build again and only the benchmark is run", err=True)
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


def _is_lost_server(error: Exception) -> bool:
    """Return whether an error comes from Prefect's connection to its server."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpcore")


@command
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--store", metavar="URI", default="artifacts", show_default=True, help="A folder or s3://bucket/prefix.")
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Compiler; auto: the DFC where HEFJOIN_DFC_PYTHON names one, else the emulator.")  # fmt: skip
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), default=Path("out"), show_default=True,
              help="Where HEF, report and manifest are laid, in a folder of the build's name.")  # fmt: skip
@click.option("--force", is_flag=True, help="Build every stage anew, though nothing changed.")
@click.option("--json", "as_json", is_flag=True, help="Manifest to standard output, all else to standard error.")
def build(debug: bool, specs: tuple[Path, ...], store: str, sdk: Any, out: Path, force: bool, as_json: bool) -> None:
    """Run the flow join-and-compile on one or more specs."""
    from flows.console import Console
    from flows.embedded import prefect_api
    from hefjoin.errors import InputError
    from hefjoin.folders import cache_folder
    from hefjoin.sdk.process import stop_running_steps
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec import load_spec
    from hefjoin.stages.preflight import preflight
    from hefjoin.stores import open_store

    def stop(number: int, frame: FrameType | None) -> None:
        stop_running_steps()
        raise KeyboardInterrupt

    loaded = [load_spec(path) for path in specs]
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a folder is wanted")
    for spec in loaded:
        preflight(spec)
    place = open_store(store)
    for spec in loaded:
        resolve(sdk, spec.dfc_python)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with Console(debug) as console:
        console.say("starting the embedded Prefect server" if console.is_first_wait() else "asking Prefect")
        with prefect_api(cache_folder(), debug=debug):
            from flows.build import join_and_compile

            builds: list[Build] = []
            for spec in loaded:
                console.begin(spec.name)
                done = join_and_compile(spec, store=store, sdk=sdk, force=force)
                console.show_build(done, lay_out(done, place, out))
                builds.append(done)
    if as_json:
        for done in builds:
            click.echo(json.dumps(done.manifest.model_dump(mode="json"), indent=2))
    console.show_table(builds)
    if not all(done.manifest.is_promotable for done in builds):
        sys.exit(GATE_FAILED)


def lay_out(each: Build, store: Any, out: Path) -> Path:
    """Bring HEF, report and manifest of a build to a folder of its name; what lay there is replaced."""
    folder = out / each.manifest.spec.name
    store.get(each.published.hef, folder / each.published.hef_name)
    store.get(each.published.report, folder / "report.html")
    store.get(each.published.manifest, folder / "manifest.json")
    return folder


@command
@click.argument("name", metavar="NAME")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def example(debug: bool, name: str, directory: Path) -> None:
    """Write a ready spec with all it needs: resnet-pair, mnist-pair or ocr-pair."""
    del debug
    from hefjoin.examples import write

    spec = write(name, directory)
    click.echo(f"{spec}\nbuild it:  hefjoin build {spec}")


@command
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--like-hailortcli", is_flag=True, help="A HEF as `hailortcli parse-hef --parse-streams` prints it.")
@click.option("--verify", is_flag=True, help="Also compare the checksum of a HEF, which reads all of it.")
def inspect(debug: bool, file: Path, as_json: bool, like_hailortcli: bool, verify: bool) -> None:
    """Say what an ONNX, HAR or HEF file holds, without the vendor's software."""
    del debug
    import flows.inspect
    from flows.inspect_view import show

    if like_hailortcli:
        click.echo(flows.inspect.like_hailortcli(file, verify=verify), nl=False)
        return
    found = flows.inspect.describe(file, verify=verify)
    click.echo(json.dumps(found, indent=2) if as_json else show(found), nl=as_json)


@command
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the table of versions that fit together.")
def doctor(debug: bool, as_json: bool) -> None:
    """Say what is installed for real builds and devices, what fits together and what is missing."""
    del debug
    from flows.doctor import describe, show
    from hefjoin.doctor import examine
    from hefjoin.errors import ToolchainError

    findings = examine()
    if as_json:
        click.echo(json.dumps(describe(findings), indent=2))
    else:
        show(findings)
    if any(finding.state == "problem" for finding in findings):
        sys.exit(ToolchainError.exit_code)


@command
@click.argument("build", metavar="BUILD")
@click.option("--store", metavar="URI", default="artifacts", show_default=True, help="A folder or s3://bucket/prefix.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="Where to write it.  [default: <name>_loader.py]")  # fmt: skip
def loader(debug: bool, build: str, store: str, out: Path | None) -> None:
    """Write a Python module that loads a build's HEF and returns {model: {output: array}}.

    BUILD is a manifest.json, a folder with one, or a build or name in the store.
    """
    del debug
    from flows.loader import find_manifest, write
    from hefjoin.stores import open_store

    manifest = find_manifest(build, open_store(store))
    click.echo(write(manifest, out))


@command
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Whom to ask; auto: the DFC where HEFJOIN_DFC_PYTHON names one, else the emulator.")  # fmt: skip
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path),
              help="The archive.  [default: conformance-<sdk>-<version>.tar.gz]")  # fmt: skip
@click.option("--compare", metavar="A B", nargs=2, type=click.Path(path_type=Path),
              help="Say in what two archives differ instead; exit code 1 where they do.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Answers or differences as JSON.")
def conformance(debug: bool, sdk: Any, out: Path | None, compare: tuple[Path, Path] | None, as_json: bool) -> None:
    """Record what an SDK and a device make of a fixed set of small networks, or compare two such records."""
    del debug
    from flows import conformance as kit

    if compare:
        comparison = kit.compare(*compare)
        if as_json:
            click.echo(comparison.model_dump_json(indent=2))
        else:
            kit.show_comparison(comparison)
        sys.exit(0 if comparison.is_equal else DIFFERENT)
    recording, path = kit.make(sdk, out)
    if as_json:
        click.echo(json.dumps([answer.model_dump() for answer in recording.answers], indent=2))
    else:
        kit.show_recording(recording, path)


if __name__ == "__main__":
    main()
