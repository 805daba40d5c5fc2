"""What is compared of one model: what the spec says of its input, and what its file or its network does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hefjoin.errors import Problem
from hefjoin.formats.onnx_head import Head, OwnNormalization
from hefjoin.formats.preprocessing import COLORS, split
from hefjoin.results.networks import Network
from hefjoin.spec import Color, counted

PARSED = "hailo_model"
"""The state of a network that was parsed, and no more."""


@dataclass(frozen=True)
class Intake:
    """One model on its way into a join."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Color
    is_har: bool = False
    head: Head | None = None
    """None of a HAR, and where there is no readable file."""
    shape: tuple[int, ...] | None = None
    """Of its input, without batch; None where it is not known."""
    hw_arch: str = ""
    sdk_version: str = ""
    state: str = PARSED
    scopes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """Their names in the file."""
    refusal: str = ""
    """Why it cannot take part, in the words of what refused it."""
    unsupported: tuple[tuple[str, str], ...] = ()
    """(operator, node) for which the compiler has no layer."""
    end_nodes: tuple[str, ...] = ()
    """Where to end instead."""
    lost: int = 0
    """Nodes with weights that would be cut off with them: where there are some, that is no mere post-processing."""

    @property
    def own(self) -> OwnNormalization | None:
        """What its graph normalizes by itself."""
        return self.head.normalization if self.head else None


def of_network(name: str, network: Network, mean: Sequence[float], std: Sequence[float], color: Color) -> Intake:
    """Return the intake of a parsed network."""
    return Intake(
        name=name,
        mean=tuple(mean),
        std=tuple(std),
        color=color,
        is_har=network.head is None,
        head=network.head,
        shape=network.inputs[0].shape if len(network.inputs) == 1 else None,
        hw_arch=network.hw_arch,
        sdk_version=network.sdk_version,
        state=network.state,
        scopes=network.scopes,
        outputs=tuple(tensor.original_name for tensor in network.outputs),
    )


def spec_problems(intakes: Sequence[Intake]) -> list[Problem]:
    """Return what the spec says of an input and its network does not bear out."""
    return [problem for index, intake in enumerate(intakes) for problem in _of_one(f"models[{index}]", intake, intakes)]


def _of_one(where: str, intake: Intake, intakes: Sequence[Intake]) -> Iterator[Problem]:
    if intake.shape is None:
        return
    channels = intake.shape[-1]
    has = f"{channels} channel{'s' if channels != 1 else ''}"
    for field, values in (("mean", intake.mean), ("std", intake.std)):
        if values and len(values) != channels:
            yield Problem(f"{where}.{field}", f"{counted(values)}, input has {has}")
    if len(intake.shape) != 3:
        yield Problem(where, f"its input {intake.shape} is not an image")
    elif channels != COLORS and intake.color != split(intakes).color:
        yield Problem(f"{where}.color", f"{intake.color} has {COLORS} channels, input has {has}")
