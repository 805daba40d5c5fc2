"""`hefjoin calibration`: what one calibration set is worth to all models of a spec."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flows.door import command, store_option


@command
@click.argument("spec", metavar="SPEC")
@store_option
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="The page, with its JSON beside it (default: NAME-calibration.html).")  # fmt: skip
@click.option("--loss", metavar="PERCENT", type=click.FloatRange(0, 100, max_open=True), default=1.0, show_default=True,
              help="Of its coverage, what a model may lose by the smaller set.")  # fmt: skip
@click.option("--prove", is_flag=True, help="Quantize with the smaller set and the whole one, and compare the SNR.")
@click.option("--write-subset", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the smaller set: a .npy of its frames, or a .txt that lists them.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The JSON to standard output as well; no table.")
def calibration(
    debug: bool,
    spec: str,
    store: str,
    out: Path | None,
    loss: float,
    prove: bool,
    write_subset: Path | None,
    as_json: bool,
) -> None:
    """See which calibration frames which model needs, what is clipped, and how few frames would do."""
    from flows.views import duet as view
    from hefjoin.errors import InputError
    from hefjoin.folders import sources_folder, work_folder
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages import duet
    from hefjoin.stages.contract import Workplace, own_directory
    from hefjoin.stages.preflight import preflight
    from hefjoin.stores import open_store
    from hefjoin.stores.pins import running

    del debug
    wanted = read_spec(spec)
    page = out or Path(f"{wanted.name}-calibration.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {page}: a page is written, so give a name that ends in .html")
    if write_subset and write_subset.suffix.lower() not in (".npy", ".txt"):
        raise InputError(f"--write-subset {write_subset}: a name ends in .npy, for frames, or .txt, for a list")
    preflight(wanted)
    place = open_store(store)
    with running(place, f"calibration of {wanted.name}") as build, view.progress() as on_progress:
        work = Workplace(place, work_folder(), resolve("emulator"), on_progress=on_progress, build=build)
        found = duet.measure(wanted, work, sources_folder(), loss / 100)
        proof = duet.prove(wanted, found, work) if prove else None
        if write_subset:
            duet.write_subset(found, work, write_subset)
        with own_directory(work, "page") as folder:
            frames = place.get(found.checked.calibration.npy, folder / "frames.npy")
            beside = view.lay_out(page, wanted.name, found, frames, proof)
    if as_json:
        click.echo(json.dumps(beside, indent=2))
    else:
        view.show(found, proof, page)
    if write_subset:
        click.echo("\n".join(view.what_to_change(found, write_subset)), err=as_json)
