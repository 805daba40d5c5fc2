"""What a recording holds, as records: read from an archive of anybody's, they are checked like any foreign input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hefjoin.artifacts import Record
from hefjoin.formats.hef import Hef

Arrays = dict[str, npt.NDArray[np.float32]]

FINISHED = "finished"


class Raised(Record):
    """What a call raised."""

    type: str
    module: str
    message: str


class Call(Record):
    """One call to the SDK."""

    on: str
    """The runner, by the name that the case gives it."""
    method: str
    arguments: str
    state_before: str
    """Member of `States`; empty where the runner has none, or before there is one."""
    state_after: str = ""
    returned: str = ""
    """Type, and the types and shapes of what it holds."""
    raised: Raised | None = None
    seconds: float = 0.0


class HarListing(Record):
    """What lies in a HAR."""

    members: tuple[tuple[str, int], ...]
    """(name, bytes) in their order."""
    metadata: str
    """The text of its `.metadata.json`."""


class Stage(Record):
    """A network at one point of its way."""

    stage: str
    """`parsed`, `joined`, `fp_optimized`, `quantized` or `compiled`."""
    model_name: str
    hw_arch: str
    hn: dict[str, Any]
    har: HarListing


class Observed(Record):
    """What one case showed."""

    name: str
    ended: str
    """`finished`, or how the process ended instead."""
    calls: tuple[Call, ...] = ()
    stages: tuple[Stage, ...] = ()
    notes: dict[str, Any] = Field(default_factory=dict)
    hefs: dict[str, Hef | str] = Field(default_factory=dict)
    """File name to what `hefjoin.formats.hef` reads of it, or why it cannot."""
    hars: dict[str, str] = Field(default_factory=dict)
    """File name to `read`, or why `hefjoin.formats.har` cannot."""
    device: str = ""
    """`ran`, or why the device gave nothing; empty where it was not asked."""
    fps: float | None = None
    """Frames per second on a device; None where none measured."""

    def stage(self, name: str) -> Stage | None:
        """Return the network at a point of its way, where the case came that far."""
        return next((stage for stage in self.stages if stage.stage == name), None)

    def first(self, method: str) -> Call | None:
        """Return the first call of a method."""
        return next((call for call in self.calls if call.method == method), None)


class Environment(Record):
    """Where a recording was made; nothing in it is private."""

    provider: str
    sdk_version: str
    hefjoin: str
    device: str
    """What ran the HEFs, or why nothing did."""
    networks: dict[str, str]
    """SHA-256 of every network and its frames: equal ones make numbers comparable."""


class Answer(Record):
    """What a recording says to one open question."""

    number: int
    question: str
    answer: str
    measured: str = ""
    """Figures, which no two recordings share."""


class Recorded(NamedTuple):
    """A case with its arrays and its logs."""

    observed: Observed
    numbers: Arrays
    """`<context>.<index>` to float32, frames first."""
    log: tuple[str, ...]
    files: dict[str, str]
    """Log files that the SDK left in its directory, by name."""


class Recording(NamedTuple):
    """All that one archive holds."""

    environment: Environment
    cases: dict[str, Recorded]
    answers: tuple[Answer, ...]
