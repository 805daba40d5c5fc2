"""Everything hefjoin raises on purpose, and the exit code each one ends a command with.

    HefJoinError
    ├── InputError            wrong spec, model or calibration set: the user can mend it     exit 2
    │   ├── SpecError         carries every wrong field with its path: models[1].mean
    │   ├── JoinError         carries the table of disagreements between the models
    │   └── CalibrationError
    ├── CompileError          the compiler refused; carries the vendor's log                 exit 3
    │   ├── UnsupportedOpError    op, node, model, nearest supported                         exit 2
    │   └── FitError              need, have, largest contributors                           exit 3
    ├── DeviceError           missing, busy, wrong architecture, wrong version               exit 4
    ├── StoreError            not found, digest mismatch, no permission, conflict            exit 5
    └── ToolchainError        SDK absent, untested version, crashed, timed out               exit 6

The one rule: a message says what, where (model and layer), the numbers and the next step, in that order.
Attributes are for machines, the text is for people. An error survives pickling, because it may be raised in another
process than the one that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple


class Problem(NamedTuple):
    """One wrong field of a spec."""

    path: str
    """Where, in the user's own words: `models[1].mean`."""
    message: str


class Disagreement(NamedTuple):
    """One property on which the models of a join differ."""

    what: str
    """The property: `input shape`, `mean`, `color`."""
    values: tuple[tuple[str, str], ...]
    """(model, its value) for every model."""
    remedy: str


class HefJoinError(Exception):
    """Root of the tree; never raised itself."""

    exit_code: ClassVar[int] = 1
    is_transient: ClassVar[bool] = False
    """True where trying again, unchanged, may succeed."""

    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        self.attributes = attributes
        for name, value in attributes.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.attributes)


class InputError(HefJoinError):
    """The spec, a model or the calibration set is wrong; the user can mend it."""

    exit_code = 2


class SpecError(InputError):
    """The spec has wrong fields; all of them are listed."""

    problems: Sequence[Problem]

    def __init__(self, problems: Sequence[Problem], where: str = "the spec", message: str = "") -> None:
        problems = [Problem(*problem) for problem in problems]
        lines = [f"{where} has {len(problems)} problem{'s' if len(problems) != 1 else ''}:"]
        lines += [f"  {path}: {text}" if path else f"  {text}" for path, text in problems]
        super().__init__(message or "\n".join(lines), problems=problems, where=where)


class JoinError(InputError):
    """The models may not share one input; carries the table of what disagrees."""

    disagreements: Sequence[Disagreement]

    def __init__(self, disagreements: Sequence[Disagreement], message: str = "") -> None:
        rows = [Disagreement(what, tuple((m, v) for m, v in values), remedy) for what, values, remedy in disagreements]
        lines = ["the models may not share one input:"]
        for row in rows:
            lines.append(f"  {row.what}: " + ", ".join(f"{model} has {value}" for model, value in row.values))
            lines.append(f"    {row.remedy}")
        super().__init__(message or "\n".join(lines), disagreements=rows)


class CalibrationError(InputError):
    """The calibration or evaluation set is empty, unreadable or has the wrong shape."""


class CompileError(HefJoinError):
    """The compiler refused; `log_tail` holds the last lines it printed."""

    exit_code = 3
    log_tail: str


class UnsupportedOpError(CompileError):
    """The compiler has no layer for an operator; `operators` lists (op, node) pairs of `model`."""

    exit_code = 2
    model: str
    operators: Sequence[tuple[str, str]]
    nearest_supported: Sequence[str]


class FitError(CompileError):
    """The joined network does not fit; `need` and `have` count each resource, `reason` says it in a line."""

    reason: str
    need: Mapping[str, float]
    have: Mapping[str, float]


class DeviceError(HefJoinError):
    """The device is missing, busy, of the wrong architecture or runs the wrong version; `reason` is one of these.

    `missing`, `busy`, `architecture`, `version`, `refused` (the HEF was not made for a device) or `failed`.
    """

    exit_code = 4
    is_transient = True
    reason: str = "failed"


class StoreError(HefJoinError):
    """An artifact is not found, damaged, not permitted or in conflict; `reason` is one word of `hefjoin.stores`."""

    exit_code = 5
    is_transient = True
    reason: str
    uri: str


class ToolchainError(HefJoinError):
    """The SDK is absent, crashed or ran out of time; `log_tail` holds its last lines."""

    exit_code = 6
    log_tail: str


def combined(errors: Sequence[HefJoinError]) -> HefJoinError:
    """Return one error that says all of them, with the exit code of the first that the user cannot mend alone."""
    if len(errors) == 1:
        return errors[0]
    first = next((error for error in errors if error.exit_code != InputError.exit_code), errors[0])
    return type(first)(**first.attributes, message="\n".join(error.message for error in errors))


def _rebuild(cls: type[HefJoinError], message: str, attributes: dict[str, Any]) -> HefJoinError:
    return cls(**attributes, message=message)
