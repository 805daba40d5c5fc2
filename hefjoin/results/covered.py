"""What one calibration set is worth to several models: `hefjoin calibration`.

Frames are indices of the calibration frames, from 0; coverage, need and clipping are shares, 0–1, as
`hefjoin.coverage.cover` and `hefjoin.coverage.clip` define them.
"""

from __future__ import annotations

from typing import Literal

from hefjoin.artifacts import Record

PAGE_VERSION: Literal[1] = 1
"""Raised when a field changes its meaning or a new one is required."""


class Stretch(Record):
    """A channel that a frame alone stretches."""

    model: str
    layer: str
    channel: int
    share: float
    """Of the range's width: by so much it would be narrower without the frame."""


class NeededFrame(Record):
    """A frame that a model needs: without it, its coverage falls by at least `Covered.need`."""

    frame: int
    needs: dict[str, float]
    """What each model loses without it."""
    only: str
    """The one model that needs it; empty where several do."""
    stretches: tuple[Stretch, ...]
    """Of the models that need it, what it stretches most."""


class Clipped(Record):
    """A channel with values outside the range that the calibration frames give it."""

    layer: str
    channel: int
    share: float
    """Of its values on the judged frames."""
    low: float
    high: float
    """The range of all calibration frames, zero in it."""
    judged_low: float
    judged_high: float
    """What the judged frames reach."""
    is_beyond_layer: bool
    """Whether a judged frame passes the range of the whole layer too, where an encoding per layer clips."""


class ModelCovered(Record):
    """One model."""

    model: str
    layers: int
    """With ranges of their own."""
    channels: int
    dead: int
    """Channels that are zero on every calibration frame; they do not count."""
    clipped_share: float
    """Mean over the channels of the share of values outside their range, on the judged frames."""
    clipped_channels: int
    """Channels with any."""
    worst: tuple[Clipped, ...]
    """The most clipped, the worst first."""
    frames_alone: int
    """Frames that are enough for this model alone."""


class Curve(Record):
    """Coverage against the number of frames."""

    title: str
    model: str
    """Empty: of all models, the one that has least."""
    count: int
    """Frames in all."""
    frames: tuple[int, ...]
    """Numbers of frames, of long curves some."""
    coverage: tuple[float, ...]
    """By so many of the first frames."""


class Copied(Record):
    """A frame that is like an earlier one."""

    frame: int
    of: int
    kind: Literal["exact", "near"]
    distance: float
    """Root mean square of the difference of 8 × 8 block means, in grey levels."""


class Odd(Record):
    """A frame that looks odd."""

    frame: int
    why: tuple[str, ...]


class Subset(Record):
    """Few frames that are enough for all models."""

    loss: float
    """Of its coverage, what a model may lose."""
    frames: tuple[int, ...]
    """In the order in which they were chosen."""
    coverage: dict[str, float]
    """What each model keeps."""


class Proof(Record):
    """The joined network quantized with the whole set and with the subset, both judged on the evaluation frames."""

    source: str
    """Who quantized."""
    frames: int
    whole_snr_db: dict[str, float]
    """By model: that of its worst output."""
    subset_snr_db: dict[str, float]


class Covered(Record):
    """What a calibration set is worth to several models; of float networks, run on the host."""

    source: Literal["float network"] = "float network"
    frames: int
    names: dict[int, str]
    """Files of the frames that are named here; empty where they have none."""
    judged_on: Literal["evaluation frames", "left-out frames"]
    """Left-out frames: by cross-validation, because no evaluation frames are held out."""
    judged: int
    """How many."""
    models: tuple[ModelCovered, ...]
    need: float
    """From this loss of coverage on, a model needs a frame."""
    needed: tuple[NeededFrame, ...]
    """The most needed first."""
    curves: tuple[Curve, ...]
    subset: Subset
    copies: tuple[Copied, ...]
    odd: tuple[Odd, ...]

    def called(self, frame: int) -> str:
        """Return how a person finds a frame."""
        return f"{frame} ({self.names[frame]})" if frame in self.names else str(frame)


class CalibrationPage(Record):
    """The JSON beside the page of `hefjoin calibration`."""

    schema_version: Literal[1] = PAGE_VERSION
    name: str
    """Of the spec."""
    covered: Covered
    proof: Proof | None
    """None where it was not asked for."""
