"""Two builds side by side."""

from __future__ import annotations

from hefjoin.artifacts import Record
from hefjoin.builds.changes import Change, changes
from hefjoin.builds.figures import Figure, figures
from hefjoin.manifest import Manifest

SHOWN_LAYERS = 5
LEAST_DB = 0.05
"""Less is not seen in a figure with one digit behind the point."""


class FigurePair(Record):
    """A figure of both builds."""

    name: str
    earlier: Figure | None
    later: Figure | None
    """None where that build has no such figure."""

    @property
    def difference(self) -> float | None:
        """Later less earlier; None where one is missing, or where they come from different sources."""
        if self.earlier is None or self.later is None or self.earlier.source != self.later.source:
            return None
        if self.earlier.value is None or self.later.value is None:
            return None
        return self.later.value - self.earlier.value

    @property
    def is_equal(self) -> bool:
        """Value and source are the same."""
        return self.earlier == self.later


class NoiseChange(Record):
    """How a layer's accumulated noise changed."""

    layer: str
    earlier_db: float
    later_db: float


class Diff(Record):
    """In what two builds differ."""

    earlier: str
    later: str
    changes: tuple[Change, ...]
    stages: tuple[str, ...]
    """Those that had other inputs, or that one of them does not have."""
    figures: tuple[FigurePair, ...]
    """All, equal ones too."""
    noise: tuple[NoiseChange, ...]
    """The layers whose noise changed most, the most first."""

    @property
    def is_empty(self) -> bool:
        """Nothing differs that decides anything, and no figure does."""
        return not (self.changes or self.stages or self.noise) and all(pair.is_equal for pair in self.figures)


def diff(earlier: Manifest, later: Manifest) -> Diff:
    """Return in what two builds differ."""
    then, now = figures(earlier), figures(later)
    keys_then, keys_now = earlier.stage_keys, later.stage_keys
    return Diff(
        earlier=earlier.build_id,
        later=later.build_id,
        changes=changes(earlier, later),
        stages=tuple(
            title for title in dict.fromkeys((*keys_then, *keys_now)) if keys_then.get(title) != keys_now.get(title)
        ),
        figures=tuple(
            FigurePair(name=name, earlier=then.get(name), later=now.get(name)) for name in dict.fromkeys((*then, *now))
        ),
        noise=_noise(earlier, later),
    )


def _noise(earlier: Manifest, later: Manifest) -> tuple[NoiseChange, ...]:
    then = {each.layer: each.snr_db for each in earlier.quantized.layer_noise}
    both = [
        NoiseChange(layer=each.layer, earlier_db=then[each.layer], later_db=each.snr_db)
        for each in later.quantized.layer_noise
        if each.layer in then and abs(each.snr_db - then[each.layer]) >= LEAST_DB
    ]
    return tuple(sorted(both, key=lambda each: -abs(each.later_db - each.earlier_db))[:SHOWN_LAYERS])
