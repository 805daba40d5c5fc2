"""What in a spec can be mended so that a build runs and, provably, computes the same numbers.

The rule: what a person meant is not guessed. Where two meanings are possible nothing is mended, and the table's advice
stands: sizes that differ, a mean and std of another scale, a normalization done twice, frames of another domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hefjoin.calibration import Health
from hefjoin.formats.onnx_head import Head
from hefjoin.formats.preprocessing import normalization
from hefjoin.joining.intake import Intake
from hefjoin.spec import BuildSpec, ModelSpec


class Mend(NamedTuple):
    """One field of a spec, and what to write there."""

    path: tuple[str | int, ...]
    value: Any
    why: str

    @property
    def field(self) -> str:
        """As messages write it: `models[1].end_nodes`."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")


def unique_names(raw: Mapping[str, Any]) -> list[Mend]:
    """Return new names for models that have another one's; none where the joint script speaks of that name.

    Args:
        raw: The spec as YAML gave it, which may be wrong otherwise.
    """
    models = raw.get("models")
    entries = [each if isinstance(each, Mapping) else {} for each in models] if isinstance(models, Sequence) else []
    names = [str(entry.get("name", "")) for entry in entries]
    taken = {name.lower() for name in names}
    first: dict[str, int] = {}
    mends = []
    for index, name in enumerate(names):
        other = first.setdefault(name.lower(), index)
        if other != index and name and f"{name}/" not in str(raw.get("script", "")):
            number = next(number for number in range(2, len(names) + 2) if f"{name}_{number}".lower() not in taken)
            taken.add(f"{name}_{number}".lower())
            why = f"models[{other}] has the name {name} too, and names are scopes"
            mends.append(Mend(("models", index, "name"), f"{name}_{number}", why))
    return mends


def mends(spec: BuildSpec, intakes: Sequence[Intake], sets: Mapping[str, Health]) -> list[Mend]:
    """Return what can be mended by what was found.

    Args:
        spec: The spec.
        intakes: Of its models, in their order.
        sets: The health of `calibration` and `evaluation`, where they were read.
    """
    found: list[Mend] = []
    for index, (model, intake) in enumerate(zip(spec.models, intakes, strict=True)):
        place = ("models", index)
        found += [Mend((*place, field), value, why) for field, value, why in _of_model(model, intake, intakes)]
    for section, health in sets.items():
        if health.count < health.requested:
            why = f"there are {health.count:,}; the same frames are taken"
            found.append(Mend((section, "count"), health.count, why))
    return found


def _of_model(model: ModelSpec, intake: Intake, intakes: Sequence[Intake]) -> Iterator[tuple[str, Any, str]]:
    """Yield (field, value, why)."""
    if intake.unsupported and intake.end_nodes and not intake.lost and not model.end_nodes:
        operators = ", ".join(dict.fromkeys(operator for operator, _ in intake.unsupported))
        yield "end_nodes", list(intake.end_nodes), f"{operators} has no layer; what is behind runs on the host"
    shapes = [other.shape for other in (intake, *intakes) if other.shape is not None]
    for field, values in (("mean", model.mean), ("std", model.std)):
        if shapes and len(values) == 1 < shapes[0][-1]:
            yield field, values * shapes[0][-1], "one value for all channels, written for each"
    head = intake.head
    if head is None or len(head.inputs) != 1 or model.start_nodes:
        return
    if head.dtype == "UINT8" and head.cast_readers and not (model.mean or model.std):
        yield "start_nodes", list(head.cast_readers), "frames are cast to float32 there; the chip's are float already"
    elif (size := _size_of_the_others(head, intake, intakes)) and not model.input_shape:
        yield "input_shape", size, "the file leaves its size open; all other models have this one"
    elif wanted := _shared_normalization(model, intake, intakes):
        mean, std = wanted
        why = "its own first steps are the others' normalization, which the shared input does for all"
        assert intake.own is not None
        yield "start_nodes", list(intake.own.readers), why
        yield "mean", list(mean), why
        yield "std", list(std), why


def _size_of_the_others(head: Head, intake: Intake, intakes: Sequence[Intake]) -> list[int]:
    """Return the shape that a file of open size is to have; empty where it is not known, or not open."""
    sizes = {other.shape for other in intakes if other is not intake and other.shape is not None}
    if head.image is not None or len(head.shape) != 4 or len(sizes) != 1:
        return []
    height, width, channels = next(iter(sizes))
    wanted = [1, height, width, channels] if head.is_channels_last else [1, channels, height, width]
    fits = all(
        not isinstance(size, int) or size in (0, new) for size, new in zip(head.shape[1:], wanted[1:], strict=True)
    )
    return wanted if fits else []


def _shared_normalization(
    model: ModelSpec, intake: Intake, intakes: Sequence[Intake]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return (mean, std) where a model does in its graph, exactly, what the spec says of all others."""
    others = {(*normalization(other), other.color) for other in intakes if other is not intake}
    if intake.own is None or not intake.own.readers or model.mean or model.std or intake.refusal or len(others) != 1:
        return None
    mean, std, color = next(iter(others))
    is_same = bool(mean) and color == model.color and not any(other.own for other in intakes if other is not intake)
    own = (_spread(intake.own.mean, len(mean)), _spread(intake.own.std, len(mean)))
    return (mean, std) if is_same and _close(own, (mean, std)) else None


def _spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values * count if len(values) == 1 else values


def _close(left: tuple[tuple[float, ...], ...], right: tuple[tuple[float, ...], ...]) -> bool:
    """Return whether numbers are the same in float32."""
    pairs = [pair for one, other in zip(left, right, strict=True) for pair in zip(one, other, strict=False)]
    return all(len(one) == len(other) for one, other in zip(left, right, strict=True)) and all(
        abs(one - other) <= 1e-6 * max(abs(one), abs(other)) for one, other in pairs
    )
