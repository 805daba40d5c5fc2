"""`hefjoin check`: whether the models of a spec may share one input, before anything is built."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.door import command

if TYPE_CHECKING:
    from hefjoin.stages.mend import Mended


@command
@click.argument("spec", metavar="SPEC")
@click.option("--sdk", type=click.Choice(["auto", "dfc", "emulator"]), default="auto", show_default=True,
              help="Whose compiler would build; the DFC parses longer.")  # fmt: skip
@click.option("--fix", is_flag=True, help="Write a spec with what can be mended, and prove that it computes the same.")
@click.option("--output", metavar="FILE", help="Where --fix writes (default: SPEC.fixed.yaml beside SPEC).")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(debug: bool, spec: str, sdk: Any, fix: bool, output: str | None, as_json: bool) -> None:
    """Check whether the models of a spec may share one input, and whether its frames suit them."""
    from flows.views.check import print_data, print_mended, print_table
    from hefjoin.errors import InputError
    from hefjoin.folders import sources_folder
    from hefjoin.sdk.toolchain import resolve
    from hefjoin.spec_file import read_spec
    from hefjoin.stages.examine import examine

    del debug
    if output and not fix:
        raise InputError("--output says where --fix writes; give both")
    if fix:
        mended, target = _mended(spec, output, sdk)
        passes = mended.is_good
        print_data(mended.spec, mended.examined, mended, target) if as_json else print_mended(spec, mended, target)
    else:
        wanted = read_spec(spec)
        found = examine(wanted, resolve(sdk, wanted.dfc_python), sources_folder())
        passes = found.passes
        print_data(wanted, found) if as_json else print_table(wanted, found)
    if not passes:
        sys.exit(InputError.exit_code)


def _mended(spec: str, output: str | None, sdk: Any) -> tuple[Mended, Path | None]:
    """Mend a spec, and write it where that was possible; return where."""
    from hefjoin.errors import InputError
    from hefjoin.folders import sources_folder
    from hefjoin.spec_file import spec_of, text_of
    from hefjoin.stages.mend import mend

    path = Path(spec)
    if "://" in spec:
        raise InputError(
            f"{spec}: --fix mends a file on this machine; copy the spec, and what it names beside it, here"
        )
    target = Path(output) if output else path.with_name(f"{path.stem}.fixed{path.suffix}")
    if target.resolve() == path.resolve():
        raise InputError(f"{target} is the spec itself, which stays as it is; choose another --output")
    if target.resolve().parent != path.resolve().parent:
        raise InputError(f"{target} lies elsewhere than {path}, whose paths are seen from its folder; write it there")
    text = text_of(path)
    mended = mend(text, lambda changed: spec_of(changed, path), sdk, sources_folder())
    if not (mended.mends and mended.is_good):
        return mended, None
    content = mended.text.encode()
    try:
        if target.exists() and target.read_bytes() != content:
            raise InputError(f"{target} exists and says something else; remove it, or choose another --output")
        partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}; choose another --output") from error
    return mended, target
