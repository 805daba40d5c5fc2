"""What is known before the join: the shared input with its frames, and the forecast."""

from __future__ import annotations

from typing import Literal

from hefjoin.artifacts import Record, Ref
from hefjoin.calibration import Health
from hefjoin.forecast.changes import Change
from hefjoin.forecast.fit import Fit
from hefjoin.forecast.speed import FpsForecast, LatencyForecast


class Frames(Record):
    """Frames ready for the compiler: one .npy, uint8 or float32, (frames, height, width, channels), 0–255."""

    npy: Ref
    health: Health


class Labels(Record):
    """What is true of the evaluation frames: one .npz, an array of shape (frames, …) under the name of each model."""

    npz: Ref
    models: tuple[str, ...]
    """Those that have labels."""


Verdict = Literal["agrees", "handled", "look", "fails"]
"""`handled`: they differ, and the build does something about it. `look`: the build will run, a person should look.
`fails`: the build would."""


class Comparison(Record):
    """One property of the models, or of the frames, and what follows from it for a join."""

    what: str
    values: tuple[tuple[str, str], ...]
    """(model or set, its value)."""
    verdict: Verdict
    notes: tuple[str, ...] = ()
    """How it is handled, or why it matters."""
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


class JoinCheck(Record):
    """The models may share one input; this is it, and these are the frames for it."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str
    comparisons: tuple[Comparison, ...] = ()
    """What `hefjoin check` shows; empty in manifests of older builds."""
    agreements: tuple[str, ...] = ()
    """What was compared and found equal, in words: of older builds."""
    calibration: Frames
    evaluation: Frames
    evaluation_is_held_out: bool
    """False where no frames were left and the calibration frames had to serve twice."""
    labels: Labels | None = None
    """Of the evaluation frames; None where there are none."""


class Compute(Record):
    """The subclusters that a frame rate takes."""

    source: Literal["forecast"] = "forecast"
    fps: float
    subclusters: dict[str, int]
    """By model."""
    subcluster_limit: int


class Outlook(Record):
    """Of one kind of compile."""

    fit: Fit
    fps: FpsForecast | None
    """At batch 1; None where there is no forecast of the speed."""
    fps_batch8: FpsForecast | None
    latency: LatencyForecast | None


class Forecast(Record):
    """Before compiling: does it fit, how fast may it be."""

    models: dict[str, Fit]
    """Each alone."""
    joined: Fit
    """As the spec compiles it."""
    default: Outlook | None = None
    """A compile whose script says nothing of resources."""
    performance: Outlook | None = None
    """One in performance mode, which takes hours."""
    fps: FpsForecast | None
    """At batch 1."""
    fps_note: str = ""
    """Why there is no forecast of the speed, where there is none."""
    fps_batch8: FpsForecast | None = None
    latency: LatencyForecast | None = None
    compute: Compute | None = None
    """None where there is no rate to take it for, or several contexts share it out anew."""
    changes: tuple[Change, ...] = ()
    """What would make it fit, in order of what is lost; empty where it fits."""


class Compared(Record):
    """A figure that was foretold, and what the compiler answered."""

    what: str
    foretold: float
    answer: float
    unit: Literal["contexts", "share"]
    """A share is of the whole chip, 0–1."""
    source: Literal["hef", "compiler log"]
