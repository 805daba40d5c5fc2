"""Open the frame sets of a build as the shared input takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hefjoin.calibration import Frames, open_frames
from hefjoin.errors import CalibrationError
from hefjoin.results.sources import FrameSource
from hefjoin.spec import Color

CALIBRATION, EVALUATION = "calibration set", "evaluation set"
"""What messages call them."""


def open_set(source: FrameSource, shape: Sequence[int], color: Color, what: str, skip: int = 0) -> Frames:
    """Open one set.

    Args:
        source: Where it lies, and how many frames are wanted.
        shape: (height, width, channels) of the shared input.
        color: Of the frames.
        what: `CALIBRATION` or `EVALUATION`.
        skip: How many frames to leave out at the start.

    Raises:
        CalibrationError: As `open_frames` does.
    """
    height, width, channels = shape
    return open_frames(
        Path(source.uri),
        height=height,
        width=width,
        channels=channels,
        color=color,
        count=source.count,
        skip=skip,
        what=what,
    )


def open_evaluation(
    source: FrameSource, calibration: FrameSource, taken: int, shape: Sequence[int], color: Color
) -> tuple[Frames, bool]:
    """Open the evaluation set; where it is the calibration set, behind the frames that were taken.

    Returns:
        The frames, and whether calibration did not see them.
    """
    if source.sha256 != calibration.sha256:
        return open_set(source, shape, color, EVALUATION), True
    try:
        return open_set(source, shape, color, EVALUATION, skip=taken), True
    except CalibrationError:  # no frames are left: they serve twice, and it is said
        return open_set(source, shape, color, EVALUATION), False
