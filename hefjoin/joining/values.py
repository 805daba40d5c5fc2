"""The values that each network's first layer sees of frames of 0–255: where most wrong preprocessing shows.

The rule: nothing here fails a build, because what a network was trained on stands in no file; a person is told to look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hefjoin.formats.preprocessing import normalization
from hefjoin.joining.intake import Intake
from hefjoin.results.checked import Comparison

FULL = 255.0
NARROW = 0.25
"""A range narrower than this was normalized twice, or by values of another scale: 0–1 is the narrowest in use."""
WIDE = 2 * FULL
"""A range wider than this comes of a std that was meant for frames of 0–1."""


class Seen(NamedTuple):
    """The least and the largest value of any channel."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Between them."""
        return self.high - self.low

    @property
    def is_raw(self) -> bool:
        """Whether these are the frames themselves."""
        return (self.low, self.high) == (0.0, FULL)


def seen(intake: Intake) -> Seen:
    """Return what the first layer behind all normalization sees, that of the spec and that of the graph itself."""
    ends = np.array([[0.0], [FULL]])
    mean, std = normalization(intake)
    if mean and len(mean) == len(std):
        ends = (ends - np.array(mean)) / np.array(std)
    if intake.own and (ends.shape[1] == 1 or len(intake.own.mean) in (1, ends.shape[1])):
        ends = (ends - np.array(intake.own.mean)) / np.array(intake.own.std)
    return Seen(float(ends.min()), float(ends.max()))


def range_row(intakes: Sequence[Intake]) -> Comparison:
    """Return the row of what the first layers see."""
    notes, remedies = [], []
    for intake in intakes:
        for note, remedy in _doubts(intake):
            notes.append(f"{intake.name} {note}")
            remedies.append(f"{intake.name}: {remedy}")
    if not notes and len({seen(intake).is_raw for intake in intakes}) > 1:
        raw = ", ".join(intake.name for intake in intakes if seen(intake).is_raw)
        notes.append(f"not normalized: {raw}; the others are")
        remedies.append(f"set mean and std, unless trained on 0–255: {raw}")
    return Comparison(
        what="values at the first layer",
        values=tuple((intake.name, _shown(intake)) for intake in intakes),
        verdict="look" if notes else "agrees",
        notes=tuple(notes),
        remedy="\n".join(remedies),
    )


def _shown(intake: Intake) -> str:
    found = seen(intake)
    by_itself = f", {' and '.join(intake.own.nodes[:4])} in its graph" if intake.own else ""
    return f"{found.low:.3g} … {found.high:.3g}{by_itself}"


def _doubts(intake: Intake) -> Iterator[tuple[str, str]]:
    """Yield (what is odd, what to do)."""
    found = seen(intake)
    mean, std = normalization(intake)
    if found.width < NARROW and intake.own and mean:
        yield (
            f"normalizes in its own graph ({' and '.join(intake.own.nodes[:4])}), and the spec does it before",
            "leave out its mean and std, or set start_nodes behind these nodes",
        )
    elif found.width < NARROW:
        yield "sees almost nothing of 0–255", "check its mean and std"
    elif found.width > WIDE and mean and max(map(abs, mean)) <= 1 >= max(std):
        wanted = ", ".join(f"{field}: {[round(FULL * value, 4) for value in values]}" for field, values in (
            ("mean", mean), ("std", std)))  # fmt: skip
        yield "has mean and std of frames of 0–1, frames are 0–255", f"write {wanted}"
    elif found.width > WIDE:
        yield "sees values far beyond 0–255", "check its mean and std"
    elif intake.own and mean:
        yield (
            f"is normalized by the spec and again in its own graph ({' and '.join(intake.own.nodes[:4])})",
            "check that both are meant",
        )
