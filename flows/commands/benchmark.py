"""`hefjoin benchmark`: how fast a HEF is here, or whether it is faster than another."""

from __future__ import annotations

from typing import Any

import click

from flows.door import command, store_option


@command
@click.argument("hef", metavar="HEF")
@click.option("--against", metavar="OTHER", multiple=True,
              help="What to compare with; twice or more: separate HEFs that take the device by turns.")  # fmt: skip
@store_option
@click.option("--device", type=click.Choice(["auto", "emulated", "hailort", "hailortcli"]), default="auto",
              show_default=True, help="What runs them.")  # fmt: skip
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
              help="Frames sent together.")  # fmt: skip
@click.option("--precision", metavar="PERCENT", type=click.FloatRange(min=0, min_open=True), default=1.0,
              show_default=True, help="End when the 95 % interval is ± PERCENT.")  # fmt: skip
@click.option("--seconds", metavar="S", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True,
              help="End after so long all the same.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def benchmark(
    debug: bool,
    hef: str,
    against: tuple[str, ...],
    store: str,
    device: Any,
    batch_size: int,
    precision: float,
    seconds: float,
    as_json: bool,
) -> None:
    """Time a HEF on this machine's device; with --against say whether it is slower than another.

    HEF and OTHER are HEF files, or builds in the store: a name for its latest, name@3 for its third record, an id.
    """
    del debug
    import json
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from flows.views.benchmark import Following, show
    from hefjoin.report.by_turns import verdict
    from hefjoin.stores import open_store
    from hefjoin.timing.run import run

    with TemporaryDirectory(prefix="hefjoin-benchmark-") as folder, Following() as following:
        found = run(
            [(hef,), against] if against else [(hef,)],
            open_store(store),
            Path(folder),
            device=device,
            batch_size=batch_size,
            seconds=seconds,
            precision_percent=precision,
            on_block=following.on_block,
        )
    if as_json:
        answer = {"verdict": verdict(found), "is_different": found.is_different}
        click.echo(json.dumps({**answer, **found.model_dump(mode="json")}, indent=2))
    else:
        show(found)
