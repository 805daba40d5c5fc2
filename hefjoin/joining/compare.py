"""The table of agreements and disagreements between the models of a join."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hefjoin.formats.onnx_head import LEAST_OPSET
from hefjoin.formats.preprocessing import normalization, split
from hefjoin.joining.intake import Intake, spec_problems
from hefjoin.joining.values import range_row
from hefjoin.results.checked import Comparison, Verdict

UNKNOWN = "not known"
SHAPE = "input shape (height, width, channels)"
NORMALIZATION = "mean and std"


class Equal(NamedTuple):
    """What must be the same in all models."""

    what: str
    show: Callable[[Intake], str]
    remedy: str


EQUAL = (
    Equal(
        SHAPE,
        lambda intake: " × ".join(map(str, intake.shape)) if intake.shape else UNKNOWN,
        "export the models for one size, or set input_shape where a model leaves it open",
    ),
    Equal("chip", lambda intake: intake.hw_arch or UNKNOWN, "parse the HARs again for one hw_arch"),
    Equal("SDK version", lambda intake: intake.sdk_version or UNKNOWN, "parse the HARs again with one SDK"),
    Equal("state", lambda intake: intake.state, "join parsed networks, then quantize them as one"),
)

GREY = (
    "a grey and a color network have no input in common: export the grey one for the others' channels, its first "
    "kernel repeated over them and divided by their number"
)
MUST_AGREE = tuple(each.what for each in EQUAL)


def compare(intakes: Sequence[Intake]) -> tuple[Comparison, ...]:
    """Return one row for each property; none is left out because another one fails."""
    return (
        _files(intakes),
        _operators(intakes),
        _opsets(intakes),
        _dtypes(intakes),
        _layouts(intakes),
        _batches(intakes),
        *(_equal(intakes, what) for what in EQUAL),
        _scopes(intakes),
        _outputs(intakes),
        _colors(intakes),
        _normalizations(intakes),
        range_row(intakes),
    )


def _row(
    what: str,
    intakes: Sequence[Intake],
    show: Callable[[Intake], str],
    verdict: Verdict,
    note: str = "",
    remedy: str = "",
) -> Comparison:
    """Return a row; models that something is not known of do not agree in it."""
    values = tuple((intake.name, show(intake)) for intake in intakes)
    notes = [note] if note else []
    if unknown := [name for name, value in values if value == UNKNOWN]:
        notes.append(f"not known of {', '.join(unknown)}, as long as that is refused")
        verdict = "look" if verdict == "agrees" else verdict
    return Comparison(what=what, values=values, verdict=verdict, notes=tuple(notes), remedy=remedy)


def _files(intakes: Sequence[Intake]) -> Comparison:
    def show(intake: Intake) -> str:
        kind = "HAR" if intake.is_har else "ONNX"
        return f"{kind}, refused" if intake.refusal else kind

    refusals = [_said(intake) for intake in intakes if intake.refusal and not intake.unsupported]
    return _row("file", intakes, show, "fails" if refusals else "agrees", remedy="\n".join(refusals))


def _said(intake: Intake) -> str:
    """Return a refusal that names its model, once."""
    return intake.refusal if intake.name in intake.refusal else f"{intake.name}: {intake.refusal}"


def _operators(intakes: Sequence[Intake]) -> Comparison:
    def show(intake: Intake) -> str:
        if intake.unsupported:
            return ", ".join(f"{operator} ({node})" for operator, node in intake.unsupported[:5]) + " unsupported"
        return "all have a layer" if not intake.refusal else UNKNOWN

    remedies = [f"{intake.name}: {_cut(intake)}" for intake in intakes if intake.unsupported]
    note = "what is cut off runs on the host" if remedies else ""
    return _row("operators", intakes, show, "fails" if remedies else "agrees", note, "\n".join(remedies))


def _cut(intake: Intake) -> str:
    """Return where to cut, and whether that leaves the network whole."""
    if not intake.end_nodes:
        return "export it without them"
    behind = f", which cuts off {intake.lost} nodes with weights; better export it without them" if intake.lost else ""
    return f"end_nodes: [{', '.join(intake.end_nodes)}]{behind}"


def _opsets(intakes: Sequence[Intake]) -> Comparison:
    opsets = [intake.head.opset for intake in intakes if intake.head]
    refused = [intake for intake in intakes if intake.head and intake.refusal and "opset" in intake.refusal.lower()]
    notes = []
    if len(set(opsets)) > 1:
        notes.append(f"joined at opset {max(*opsets, LEAST_OPSET)}")
    if opsets and min(opsets) < LEAST_OPSET:
        notes.append(f"what is below {LEAST_OPSET} is converted")
    verdict: Verdict = "fails" if refused else "handled" if notes else "agrees"
    remedy = "export the model with an older opset" if refused else ""
    return _row("opset", intakes, lambda intake: str(intake.head.opset) if intake.head else "–", verdict,
                "; ".join(notes), remedy)  # fmt: skip


def _dtypes(intakes: Sequence[Intake]) -> Comparison:
    odd = [intake for intake in intakes if intake.head and intake.head.inputs and intake.head.dtype != "FLOAT"]
    verdict: Verdict = "agrees" if not odd else "fails" if any(intake.refusal for intake in odd) else "handled"
    note = {"handled": "it starts behind that input", "fails": "a network starts from float frames"}.get(verdict, "")
    remedy = "export with a FLOAT input, or set start_nodes behind its Cast" if verdict == "fails" else ""
    return _row("type of the input", intakes, lambda intake: intake.head.dtype if intake.head else "–", verdict,
                note, remedy)  # fmt: skip


def _layouts(intakes: Sequence[Intake]) -> Comparison:
    is_last = any(intake.head and intake.head.is_channels_last for intake in intakes)

    def show(intake: Intake) -> str:
        return "–" if intake.head is None else "NHWC" if intake.head.is_channels_last else "NCHW"

    note = "frames are NHWC for all; where a file wants them so, it is turned to NCHW when it is parsed"
    return _row(
        "layout of the file's input", intakes, show, "handled" if is_last else "agrees", note if is_last else ""
    )


def _batches(intakes: Sequence[Intake]) -> Comparison:
    def show(intake: Intake) -> str:
        if intake.head is None or not intake.head.shape:
            return "–"
        first = intake.head.shape[0]
        return str(first) if isinstance(first, int) else f"open ({first})"

    odd = [intake for intake in intakes if show(intake) not in ("1", "–")]
    stuck = [intake for intake in odd if intake.refusal and "frames at once" in intake.refusal]
    verdict: Verdict = "fails" if stuck else "handled" if odd else "agrees"
    note = "it is left open: frames are computed one by one, and batches belong to the device" if odd else ""
    return _row("batch", intakes, show, verdict, "" if stuck else note,
                "export the model with a batch of 1" if stuck else "")  # fmt: skip


def _equal(intakes: Sequence[Intake], equal: Equal) -> Comparison:
    known = {value for intake in intakes if (value := equal.show(intake)) != UNKNOWN}
    remedies = [equal.remedy] if len(known) > 1 else []
    if equal.what == SHAPE:
        if len({intake.shape[:2] for intake in intakes if intake.shape and len(intake.shape) == 3}) == 1 and remedies:
            remedies = [GREY]
        remedies += [
            f"{problem.path}: {problem.message}" for problem in spec_problems(intakes) if problem.path.endswith("]")
        ]
    return _row(equal.what, intakes, equal.show, "fails" if remedies else "agrees", "", "\n".join(remedies))


def _scopes(intakes: Sequence[Intake]) -> Comparison:
    renamed = [intake.name for intake in intakes if intake.scopes and intake.scopes != (intake.name,)]
    note = "the scope in a HAR becomes its model's name" if renamed else ""
    return _row("scope", intakes, lambda intake: ", ".join(intake.scopes) or intake.name,
                "handled" if renamed else "agrees", note)  # fmt: skip


def _outputs(intakes: Sequence[Intake]) -> Comparison:
    names = [name for intake in intakes for name in set(intake.outputs)]
    clashes = len(set(names)) < len(names)
    note = "names that several have are told apart by their scopes" if clashes else ""
    return _row("outputs", intakes, lambda intake: ", ".join(intake.outputs) or UNKNOWN,
                "handled" if clashes else "agrees", note)  # fmt: skip


def _colors(intakes: Sequence[Intake]) -> Comparison:
    problems = _problems(intakes, "color")
    color, _, own = split(intakes)
    is_apart = any(part is not None and part.reverses_channels for part in own)
    verdict: Verdict = "fails" if problems else "handled" if is_apart else "agrees"
    note = f"frames are {color}; what wants another order reverses it in its own graph" if is_apart else ""
    return _row("color", intakes, lambda intake: intake.color, verdict, note, problems)


def _normalizations(intakes: Sequence[Intake]) -> Comparison:
    problems = _problems(intakes, "mean", "std")
    _, shared, own = split(intakes)
    is_apart = any(part is not None and part.mean for part in own)
    verdict: Verdict = "fails" if problems else "handled" if is_apart else "agrees"
    note = ""
    if is_apart:
        note = "each that has its own gets it as a convolution in front of its graph"
    elif shared.mean:
        note = "one normalization on the shared input"
    return _row(NORMALIZATION, intakes, lambda intake: _normalization_text(*normalization(intake)), verdict, note,
                problems)  # fmt: skip


def _problems(intakes: Sequence[Intake], *fields: str) -> str:
    """Return the spec's problems with some fields of the models."""
    found = [problem for problem in spec_problems(intakes) if problem.path.rpartition(".")[2] in fields]
    return "\n".join(f"{path}: {text}" for path, text in found)


def _normalization_text(mean: Sequence[float], std: Sequence[float]) -> str:
    return f"mean {_short(mean)}, std {_short(std)}" if mean else "none"


def _short(values: Sequence[float]) -> str:
    """Return numbers, those that are all alike once.

    >>> _short([127.5, 127.5, 127.5]), _short([1.0, 2.0])
    ('127.5', '[1, 2]')
    """
    shown = [f"{value:g}" for value in values]
    return f"[{', '.join(shown)}]" if len(set(shown)) > 1 else shown[0]
