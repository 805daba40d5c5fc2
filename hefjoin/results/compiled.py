"""The HEF: what the compiler answered, and what a machine must offer to run it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref
from hefjoin.spec import HwArch


class ClusterUse(Record):
    """What a mapping takes of one cluster of the chip, or of all; 0–1, of what the cluster has."""

    control: float
    compute: float
    memory: float


class Utilization(Record):
    """What the compiler says one context takes."""

    context: str
    """The compiler's name for it; empty where it names none, as for a single context in DFC 3.28."""
    clusters: dict[str, ClusterUse]
    total: ClusterUse


class Attempt(Record):
    """One try at mapping the joined network."""

    script: str
    """The compile commands it was made with."""
    label: str
    """What was different: `as declared`, `replay of the last mapping`, or the commands of `compile.attempts`."""
    outcome: Literal["compiled", "did not fit", "failed"]
    message: str
    """The compiler's reason; empty where it compiled."""
    need: dict[str, float]
    have: dict[str, float]
    """The limits that were in force."""
    seconds: float
    phases_s: dict[str, float] = Field(default_factory=dict)
    """How long each phase took that the compiler tells of: allocation, partition, compilation."""
    is_reused: bool = False
    """It was made by an earlier build."""
    log: Ref


class HefStream(Record):
    """An input or output of the HEF, as the host sees it."""

    name: str
    model: str
    """The network it belongs to; empty for the shared input."""
    original_name: str
    """In the ONNX file."""
    shape: tuple[int, ...]
    """Without batch: (height, width, channels) or (features,)."""
    dtype: str
    """`UINT8`, `UINT16` or `FLOAT32`."""
    order: str
    scale: float
    zero_point: float
    """real = (stored - zero_point) · scale."""
    scales: tuple[float, ...] = ()
    """One for each feature, where they differ (`output_encoding_vector`); else `scale` is meant."""
    zero_points: tuple[float, ...] = ()
    """As `scales`."""


class Deployment(Record):
    """What a machine must offer before the HEF is sent to its device, and what comes back from it."""

    hw_arch: HwArch
    sdk_version: str
    least_hailort: str
    """The HailoRT published with the compiler; empty where none is known, and for an emulated HEF."""
    group: str
    """The network group to configure."""
    input: HefStream
    outputs: tuple[HefStream, ...]


class Compiled(Record):
    """The HEF."""

    hef: Ref
    contexts: int
    contexts_source: Literal["forecast", "hef"]
    """`forecast` in an emulated HEF; `hef` in a real one, where the compiler's answer was read."""
    script: str
    sdk_version: str
    is_emulated: bool
    warnings: tuple[str, ...]
    deployment: Deployment
    attempts: tuple[Attempt, ...] = ()
    """Every try, in order; the last one made this HEF."""
    utilization: tuple[Utilization, ...] = ()
    """One per context, as the compiler printed it; empty in an emulated build."""
    auto_script: Ref | None = None
    """The compiler's own resolved decisions (`.auto.alls`), which make the next compile of this graph quicker."""
    replayed: bool = False
    """The decisions of an earlier build of the same graph were replayed."""
