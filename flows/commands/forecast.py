"""`hefjoin forecast`: whether networks fit one context together, and how fast they may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.door import command

SPECS = (".yaml", ".yml", ".json")


@command
@click.argument("sources", metavar="SPEC|MODEL...", nargs=-1, required=True)
@click.option("--hw-arch", type=click.Choice(["hailo8", "hailo8l"]),
              help="Chip of model files (default: hailo8); a spec says its own.")  # fmt: skip
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="emulator", show_default=True,
              help="Who parses the models; the DFC takes longer.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def forecast(debug: bool, sources: tuple[str, ...], hw_arch: Any, sdk: Any, as_json: bool) -> None:
    """Forecast fit and speed of a spec, or of ONNX and HAR files joined, and what would make them fit."""
    from flows.views.forecast import show
    from hefjoin.errors import InputError
    from hefjoin.folders import sources_folder
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages import foretell

    del debug
    if any(source.lower().endswith(SPECS) for source in sources):
        if len(sources) > 1 or hw_arch:
            raise InputError("give one spec alone, or models with --hw-arch; a spec says its models and its chip")
        spec = read_spec(sources[0])
        found = foretell.of_spec(spec, resolve(sdk, spec.dfc_python), sources_folder())
    else:
        found = foretell.of_files(list(map(Path, sources)), hw_arch or "hailo8", resolve(sdk), sources_folder())
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json"), indent=2))
    else:
        show(found)
