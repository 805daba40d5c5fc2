"""The calibration duet as one HTML page with the pictures, and the words that it shares with the terminal.

The rule: what is shown of a set is what a person would act on: which frames to keep, which to mend, which to add.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hefjoin.report import maps, plots, words
from hefjoin.report.template import page_environment
from hefjoin.results.covered import Covered, NeededFrame, Proof, Stretch

Array = np.ndarray[Any, np.dtype[Any]]

WIDEST = 128
"""Pixels of a picture, either way."""
MOST_NEEDED, MOST_COPIES, MOST_ODD, MOST_CHOSEN = 7, 12, 14, 21
"""Pictures of a kind: frames that one model needs, pairs, odd frames, frames of the subset."""
NAMED = 3
"""Frames that an advice names."""
MOST_MODELS = 3
"""Of which it is said what a frame that several need gives them."""


class Picture(NamedTuple):
    """A frame with what is said of it."""

    name: str
    address: str
    lines: tuple[str, ...]


def render_duet(name: str, covered: Covered, frames: Path, color: str, proof: Proof | None = None) -> str:
    """Return the page; equal input gives equal text.

    Args:
        name: Of the spec.
        covered: What was found.
        frames: The calibration frames, a .npy of (frames, height, width, channels), 0–255.
        color: Their channel order, `rgb` or `bgr`.
        proof: The subset against the whole set, quantized; None where it was not asked for.
    """
    colors = {each.model: plots.COLORS[index % len(plots.COLORS)] for index, each in enumerate(covered.models)}
    album = _Album(covered, np.load(frames, mmap_mode="r"), color)
    environment = page_environment()
    environment.filters |= {
        "percent": words.percent,
        "plural": words.plural,
        "layer": words.layer_text,
        "db": words.db_text,
        "significant": words.significant,
        "share": share_text,
    }
    return environment.get_template("duet.html.j2").render(
        name=name,
        covered=covered,
        colors=colors,
        sentence=sentence(covered),
        advice=list(advice(covered)),
        curve=plots.plot_coverage(covered.curves, colors, covered.subset.loss, covered.source),
        needed=[(model, only_by(covered, model), album.needed(only_by(covered, model))) for model in colors],
        shared=album.needed(only_by(covered, "")),
        shared_count=len(only_by(covered, "")),
        copies=album.copies(),
        odd=album.odd(),
        chosen=album.chosen(),
        proof=proof,
    )


def sentence(covered: Covered) -> str:
    """Return what was found, in one sentence."""
    count = len(covered.models)
    models = "both models" if count == 2 else f"all {count} models"
    only, copies, odd = sum(bool(each.only) for each in covered.needed), len(covered.copies), len(covered.odd)
    parts = [
        f"{len(covered.subset.frames):,} of {words.plural(covered.frames, 'frame')} give {models} at least "
        f"{words.percent(1 - covered.subset.loss)} of the ranges that the whole set gives"
    ]
    if only:
        parts.append(f"{words.plural(only, 'frame')} {_is(only)} needed by one model only")
    parts.append(
        "no frame is a copy" if not copies else f"{words.plural(copies, 'frame')} {_is(copies)} like an earlier one"
    )
    parts.append("none looks odd" if not odd else f"{odd:,} look{'s' if odd == 1 else ''} odd")
    return "; ".join(parts)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def advice(covered: Covered) -> Iterator[str]:
    """Yield what to do about the set, the most useful first; nothing where nothing is to be done."""
    odd, needed = [each.frame for each in covered.odd], {each.frame for each in covered.needed}
    if stretching := [covered.called(frame) for frame in odd if frame in needed]:
        first = ", ".join(stretching[:NAMED]) + (f" and {len(stretching) - NAMED} more" if stretching[NAMED:] else "")
        yield (
            f"Take out what looks odd and stretches ranges, unless the device will see such: {first}. "
            "The subset keeps it otherwise."
        )
    elif odd:
        yield "Look at the odd frames; they stretch no range by themselves."
    if len(covered.copies) * 10 >= covered.frames:
        yield "Replace the copies by other scenes: a copy stretches no range."
    worst = max(covered.models, key=lambda each: each.clipped_share)
    late = len(covered.subset.frames) > 0.8 * covered.frames
    if late and covered.frames > 1:
        yield (
            f"Take more frames: ranges still grow with the last ones, so further scenes would stretch them further; "
            f"{worst.model} clips most ({share_text(worst.clipped_share)} of its values)."
        )
    elif len(covered.subset.frames) * 2 <= covered.frames:
        yield "A smaller set gives the same ranges: hefjoin calibration --write-subset FILE writes it."


def only_by(covered: Covered, model: str) -> list[NeededFrame]:
    """Return the frames that one model alone needs; of the empty name, those that several need."""
    return [each for each in covered.needed if each.only == model]


def share_text(share: float) -> str:
    """Return a small share, readable down to the millionth.

    >>> share_text(0.25), share_text(0.00042), share_text(0)
    ('25.0\\u202f%', '0.042\\u202f%', '0\\u202f%')
    """
    return words.percent(share) if share >= 0.01 or not share else f"{words.significant(100 * share, 2)}{words.THIN}%"


def stretch_text(stretch: Stretch) -> str:
    """Return which channel a frame stretches, and by what share of its width."""
    return f"{words.layer_text(stretch.layer)}[{stretch.channel}] {stretch.share:.0%}".replace("%", f"{words.THIN}%")


class _Album:
    """Makes pictures of frames."""

    def __init__(self, covered: Covered, frames: Array, color: str) -> None:
        self._covered, self._frames = covered, frames
        self._order = slice(None, None, -1) if color == "bgr" else slice(None)

    def picture(self, frame: int, lines: Sequence[str] = ()) -> Picture:
        """Return one frame."""
        pixels = self._frames[frame][..., self._order]
        return Picture(self._covered.called(frame), maps.photograph(pixels, WIDEST), tuple(lines))

    def needed(self, found: Sequence[NeededFrame]) -> list[Picture]:
        """Return frames that models need, with what they stretch."""
        return [self.picture(each.frame, tuple(_needs(each))) for each in found[:MOST_NEEDED]]

    def copies(self) -> list[tuple[Picture, Picture, str]]:
        """Return pairs: the earlier frame, the copy, what they have in common."""
        return [
            (self.picture(each.of), self.picture(each.frame),
             "the same, bit for bit" if each.kind == "exact" else f"alike, {each.distance:.1f} grey levels apart")
            for each in self._covered.copies[:MOST_COPIES]
        ]  # fmt: skip

    def odd(self) -> list[Picture]:
        """Return frames that look odd."""
        return [self.picture(each.frame, each.why) for each in self._covered.odd[:MOST_ODD]]

    def chosen(self) -> list[Picture]:
        """Return the first frames of the subset."""
        return [self.picture(frame) for frame in self._covered.subset.frames[:MOST_CHOSEN]]


def _needs(found: NeededFrame) -> Iterator[str]:
    """Yield what the models lose without a frame; of those that need it, what it stretches most."""
    order = sorted(found.needs, key=lambda model: -found.needs[model])
    shown = [found.only] if found.only else order[:MOST_MODELS]
    for model in shown:
        yield _lost(model, found.needs[model])
        stretches = [each for each in found.stretches if each.model == model]
        yield from map(stretch_text, stretches[: None if found.only else 1])
    if left := [model for model in order if model not in shown]:
        yield _lost(left[0] if len(left) == 1 else f"{len(left)} others, at most", found.needs[left[0]])


def _lost(whose: str, need: float) -> str:
    return f"{whose} {'−' if need else ''}{share_text(need)}"
