"""What is known before the join: the shared input with its frames, and the forecast."""

from __future__ import annotations

from typing import Literal

from hefjoin.artifacts import Record, Ref
from hefjoin.calibration import Health
from hefjoin.forecast.fit import Fit


class Frames(Record):
    """Frames ready for the compiler: one .npy, uint8 or float32, (frames, height, width, channels), 0–255."""

    npy: Ref
    health: Health


class Labels(Record):
    """What is true of the evaluation frames: one .npz, an array of shape (frames, …) under the name of each model."""

    npz: Ref
    models: tuple[str, ...]
    """Those that have labels."""


class JoinCheck(Record):
    """The models may share one input; this is it, and these are the frames for it."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str
    agreements: tuple[str, ...]
    """What was compared and found equal, in words."""
    calibration: Frames
    evaluation: Frames
    evaluation_is_held_out: bool
    """False where no frames were left and the calibration frames had to serve twice."""
    labels: Labels | None = None
    """Of the evaluation frames; None where there are none."""


class FpsForecast(Record):
    """Frames per second at batch 1, for as many contexts as are forecast."""

    source: Literal["forecast"] = "forecast"
    fps: float
    low_fps: float
    high_fps: float
    """The range that held for 90 % of the published networks."""


class Forecast(Record):
    """Before compiling: does it fit, how fast may it be."""

    models: dict[str, Fit]
    joined: Fit
    fps: FpsForecast | None
    fps_note: str = ""
    """Why there is no forecast of the speed, where there is none."""
