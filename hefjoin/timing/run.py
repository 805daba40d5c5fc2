"""From names to a comparison: finds the HEFs, opens the device, times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hefjoin.devices import open_device
from hefjoin.results.timed import Timed
from hefjoin.spec import DeviceKind
from hefjoin.stores import Store
from hefjoin.timing.compare import Asked, OnBlock, compare
from hefjoin.timing.subjects import frames_for, require_comparable, subject


def run(
    given: Sequence[Sequence[str]],
    store: Store,
    folder: Path,
    *,
    device: DeviceKind,
    batch_size: int,
    seconds: float,
    precision_percent: float,
    on_block: OnBlock,
) -> Timed:
    """Time one side, or the first against the second.

    Args:
        given: One or two sides, each of one or more HEFs: files, or builds.
        store: Where builds are.
        folder: An empty one to work in.
        device: What runs them.
        batch_size: Frames sent together.
        seconds: When to end.
        precision_percent: When to end before.
        on_block: Told after every block.

    Raises:
        InputError: Something is no HEF or no build, or they cannot be compared.
        DeviceError: The device is missing, busy, or does not take them.
    """
    sides = [[subject(each, store, folder) for each in side] for side in given]
    require_comparable(sides)
    frames, which = frames_for(sides, store, folder)
    first = {each.sha256: each.path for side in reversed(sides) for each in reversed(side)}
    paths = [tuple(first[each.sha256] for each in side) for side in sides]  # one HEF under two names is loaded once
    asked = Asked(
        names=tuple(" + ".join(each.name for each in side) for side in sides),
        frames=which,
        batch_size=batch_size,
        seconds=seconds,
        precision_percent=precision_percent,
        is_separate=len(paths[-1]) > 1,
        is_same=paths[1:] == paths[:1],
    )
    opened = open_device(device, sides[0][0].hef.is_emulated)
    with opened.turns([paths[0], *paths], frames, batch_size) as turns:
        return compare(turns, asked, on_block)
