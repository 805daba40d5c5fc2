"""Whose work a build is and what it is made of: the compiler, and the sources by content."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref

Provider = Literal["dfc", "emulator"]


class Sdk(Record):
    """Who compiles: part of every stage's identity."""

    provider: Provider
    version: str
    """The DFC's version, or the emulator's with a digest of its code."""


class FrameSource(Record):
    """Where frames come from, known by content; taken as the frames lie there."""

    uri: str
    sha256: str
    count: int
    """How many are wanted."""


class Fetched(Record):
    """The sources of a build, by content."""

    models: dict[str, Ref]
    weights: dict[str, dict[str, Ref]] = Field(default_factory=dict)
    """Of models that keep weights in files beside them: those files, by model and by path below its folder."""
    calibration: FrameSource
    evaluation: FrameSource
    """The calibration set again where the spec names none: then the frames behind the calibration frames."""
