"""`hefjoin build`: the flow join-and-compile, and what it leaves laid out for people."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.door import GATE_FAILED, command, store_option

if TYPE_CHECKING:
    from types import FrameType

    from hefjoin.builds.find import Build


@command
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@store_option
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Compiler; auto: the DFC where HEFJOIN_DFC_PYTHON names one, else the emulator.")  # fmt: skip
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), default=Path("out"), show_default=True,
              help="Where HEF, report and manifest are laid, in a folder of the build's name.")  # fmt: skip
@click.option("--force", is_flag=True, help="Build every stage anew, though nothing changed.")
@click.option("--json", "as_json", is_flag=True, help="Manifest to standard output, all else to standard error.")
def build(debug: bool, specs: tuple[str, ...], store: str, sdk: Any, out: Path, force: bool, as_json: bool) -> None:
    """Run the flow join-and-compile on one or more specs: files, or objects as s3://bucket/key."""
    from flows.embedded import prefect_api
    from flows.views.console import Console
    from hefjoin.builds.rows import latest
    from hefjoin.errors import DeviceError, InputError
    from hefjoin.folders import cache_folder
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages.preflight import preflight
    from hefjoin.stores import open_store

    loaded = [read_spec(uri) for uri in specs]
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; a folder is wanted")
    for spec in loaded:
        preflight(spec)
    place = open_store(store)
    for spec in loaded:
        resolve(sdk, spec.dfc_python)
    _stop_on_signals()
    builds: list[Build] = []
    with Console(debug) as console:
        console.say("starting the embedded Prefect server" if console.is_first_wait() else "asking Prefect")
        with prefect_api(cache_folder(), debug=debug):
            from flows.build import join_and_compile

            for spec in loaded:
                console.begin(spec.name)
                try:
                    done = join_and_compile(spec, store=store, sdk=sdk, force=force)
                except DeviceError as error:
                    error.add_note("the HEF is kept; build again and only the benchmark is run")
                    raise
                newest = latest(place, done.published.provider, done.published.name)
                console.show_build(done, lay_out(done, place, out), newest.build_id if newest else "")
                builds.append(done)
    if as_json:
        for done in builds:
            click.echo(json.dumps(done.manifest.model_dump(mode="json"), indent=2))
    console.show_table(builds)
    if not all(done.manifest.is_promotable for done in builds):
        sys.exit(GATE_FAILED)


def _stop_on_signals() -> None:
    """Let a signal stop the compiler's processes, and who waits for another build, before it stops this one."""
    from hefjoin.sdk.process import stop_running_steps
    from hefjoin.stores.claims import stop_waiting

    def stop(number: int, frame: FrameType | None) -> None:
        stop_waiting()
        stop_running_steps()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def lay_out(each: Build, store: Any, out: Path) -> Path:
    """Bring HEF, report and manifest of a build to a folder of its name; what lay there is replaced."""
    folder = out / each.manifest.spec.name
    store.get(each.published.hef, folder / each.published.hef_name)
    store.get(each.published.report, folder / "report.html")
    store.get(each.published.manifest, folder / "manifest.json")
    return folder
