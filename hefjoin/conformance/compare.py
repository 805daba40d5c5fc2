"""Say in what two recordings differ, in six groups: answers, calls, names, HN, numbers, logs.

The rule: times, versions and places are not compared, nor what only one kind of SDK can have (the module an exception
lives in); all else is, and equal means that nothing was left to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from hefjoin.artifacts import Record
from hefjoin.conformance.numbers import NOT_THERE, Pair, Ratio, compare_numbers
from hefjoin.conformance.recording import Call, Observed, Recorded, Recording, Stage
from hefjoin.formats.hef import Hef
from hefjoin.sdk import log as sdk_log

Group = Literal["answers", "calls", "names", "HN", "numbers", "logs"]

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_TABLE = re.compile(r"^\[info\] \|")
"""A row of the table of utilization."""
_PATH = re.compile(r"(?:<\w+>)?(?:/[\w.<>-]+)+")


class Difference(Record):
    """One difference, wherever it occurs."""

    what: str
    first: str
    second: str
    places: tuple[str, ...]
    """Case, and stage, call or output in it."""


class GroupVerdict(Record):
    """What was compared under one heading."""

    group: Group
    is_equal: bool
    differences: tuple[Difference, ...]


class Comparison(Record):
    """Two recordings, side by side."""

    first: str
    second: str
    is_equal: bool
    groups: tuple[GroupVerdict, ...]
    snr_db: dict[str, Ratio]
    """Of every array that both have, by `<case>/<context>.<index>`: the second against the first."""


def compare(first: Recording, second: Recording) -> Comparison:
    """Return in what two recordings differ."""
    # Cases that one of them lacks are said once, among the calls.
    both = [(first.cases[name], second.cases[name]) for name in first.cases if name in second.cases]
    numbers, snr_db = compare_numbers(first, second, both)
    found: dict[Group, Iterable[Pair]] = {
        "answers": _answers(first, second),
        "calls": [
            *_only(first.cases, second.cases, "the case", "cases"),
            *_each(_calls, both),
            *_signatures(first, second),
        ],
        "names": _each(_names, both),
        "HN": _each(_hn, both),
        "numbers": numbers,
        "logs": _each(_logs, both),
    }
    groups = tuple(_verdict(group, list(pairs)) for group, pairs in found.items())
    titles = (f"{each.environment.provider} {each.environment.sdk_version}" for each in (first, second))
    return Comparison(
        first=next(titles),
        second=next(titles),
        is_equal=all(group.is_equal for group in groups),
        groups=groups,
        snr_db=snr_db,
    )


def message_shape(text: str) -> str:
    """Return a message or a line of a log without what varies: paths, quoted names, numbers.

    >>> message_shape("Saved HAR to: /tmp/a/b.har (completion time: 00:00:01.23)")
    'Saved HAR to: … (completion time: #)'
    """
    return " ".join(_NUMBER.sub("#", _QUOTED.sub("…", _PATH.sub("…", text))).split())


def _verdict(group: Group, pairs: list[Pair]) -> GroupVerdict:
    """Gather what differs in the same way at several places."""
    places: dict[tuple[str, str, str], dict[str, None]] = {}
    for where, what, first, second in pairs:
        places.setdefault((what, first, second), {})[where] = None
    differences = tuple(
        Difference(what=what, first=first, second=second, places=tuple(where))
        for (what, first, second), where in places.items()
    )
    return GroupVerdict(group=group, is_equal=not differences, differences=differences)


def _each(one: Callable[[Recorded, Recorded], Iterable[Pair]], both: list[tuple[Recorded, Recorded]]) -> Iterator[Pair]:
    for first, second in both:
        name = first.observed.name
        for where, what, left, right in one(first, second):
            yield f"{name}/{where}" if where else name, what, left, right


def _only(first: Iterable[str], second: Iterable[str], what: str, where: str = "") -> Iterator[Pair]:
    """Yield what only one of two has."""
    left, right = list(first), list(second)
    yield from ((where, f"{what} {name}", "there", NOT_THERE) for name in left if name not in set(right))
    yield from ((where, f"{what} {name}", NOT_THERE, "there") for name in right if name not in set(left))


def _if_unlike(where: str, what: str, first: Any, second: Any) -> Iterator[Pair]:
    if first != second:
        yield where, what, str(first), str(second)


def _answers(first: Recording, second: Recording) -> Iterator[Pair]:
    left, right = ({answer.number: answer for answer in each.answers} for each in (first, second))
    for number in sorted(left.keys() & right.keys()):
        yield from _if_unlike(f"question {number}", left[number].question, left[number].answer, right[number].answer)
    yield from _only(map(str, left), map(str, right), "question")


def _calls(first: Recorded, second: Recorded) -> Iterator[Pair]:
    yield from _if_unlike("", "the case ended", *(message_shape(each.observed.ended) for each in (first, second)))
    left, right = _by_place(first.observed), _by_place(second.observed)
    yield from _only(left, right, "the call")
    for place in [place for place in left if place in right]:
        mine, other = left[place], right[place]
        yield from _if_unlike(place, "what came of it", _outcome(mine), _outcome(other))
        yield from _if_unlike(place, "arguments", mine.arguments, other.arguments)
        yield from _if_unlike(place, "state before", mine.state_before, other.state_before)
        yield from _if_unlike(place, "state after", mine.state_after, other.state_after)


def _by_place(case: Observed) -> dict[str, Call]:
    """Return the calls by runner, method and how often it was called before: threads may interleave."""
    count: Counter[str] = Counter()
    found = {}
    for call in case.calls:
        place = f"{call.on}.{call.method}"
        count[place] += 1
        found[f"{place} #{count[place]}"] = call
    return found


def _outcome(call: Call) -> str:
    if call.raised:
        return f"raised {call.raised.type}: {message_shape(call.raised.message)}"
    return f"returned {call.returned}"


def _signatures(first: Recording, second: Recording) -> Iterator[Pair]:
    """Compare the parameters of every method that the cases call."""
    notes = [
        _mapping(each.cases["surface"].observed.notes.get("signatures")) if "surface" in each.cases else {}
        for each in (first, second)
    ]
    called = {call.method for each in (first, second) for case in each.cases.values() for call in case.observed.calls}
    for method in sorted(called - {"ClientRunner"} | {"__init__"}):
        left, right = (str(found.get(method, NOT_THERE)) for found in notes)
        yield from _if_unlike("surface", f"the signature of {method}", left, right)


def _stages(first: Recorded, second: Recorded) -> Iterator[tuple[str, Stage, Stage]]:
    for stage in first.observed.stages:
        other = second.observed.stage(stage.stage)
        if other is not None:
            yield stage.stage, first.observed.stage(stage.stage) or stage, other


def _names(first: Recorded, second: Recorded) -> Iterator[Pair]:
    for where, left, right in _stages(first, second):
        yield from _if_unlike(where, "name of the model", left.model_name, right.model_name)
        yield from _if_unlike(where, "hw_arch", left.hw_arch, right.hw_arch)
        for what, names in _NAMES_IN_HN.items():
            yield from _if_unlike(where, what, names(left.hn), names(right.hn))
        yield from _only(_own_names(_types(left.hn)), _own_names(_types(right.hn)), "the layer", where)
        yield from _only(_suffixes(left), _suffixes(right), "in the HAR, the member", where)
    for name in sorted(first.observed.hars.keys() & second.observed.hars.keys()):
        yield from _if_unlike(name, "reading it", first.observed.hars[name], second.observed.hars[name])
    for name in sorted(first.observed.hefs.keys() & second.observed.hefs.keys()):
        mine, other = (_hef_names(each.observed.hefs[name]) for each in (first, second))
        for what in dict.fromkeys([*mine, *other]):
            yield from _if_unlike(name, what, mine.get(what, NOT_THERE), other.get(what, NOT_THERE))


def _suffixes(stage: Stage) -> list[str]:
    return [name.removeprefix(stage.model_name) for name, _ in stage.har.members]


_NAMES_IN_HN: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "input layers": lambda hn: sorted(name for name, kind in _types(hn).items() if kind == "input_layer"),
    "output layers": lambda hn: sorted(name for name, kind in _types(hn).items() if kind == "output_layer"),
    "order of the outputs": lambda hn: _strings(_mapping(hn.get("net_params")).get("output_layers_order")),
    "scopes": lambda hn: _strings(_mapping(hn.get("net_params")).get("net_scopes")),
}


def _hef_names(hef: Hef | str) -> dict[str, str]:
    """Return what a HEF calls its parts; why it cannot be read, where it cannot."""
    if isinstance(hef, str):
        return {"readable": message_shape(hef)}
    found = {"readable": "yes"}
    for index, group in enumerate(hef.groups):
        found[f"group {index}"] = f"{group.name}, {group.contexts} contexts, networks {', '.join(group.networks)}"
        for stream in group.vstreams:
            text = f"{stream.order} {stream.dtype} {'x'.join(map(str, stream.shape))}"
            found[f"{stream.direction} {stream.name} of group {index}"] = text
    return found


def _hn(first: Recorded, second: Recorded) -> Iterator[Pair]:
    for where, left, right in _stages(first, second):
        yield from _only(left.hn, right.hn, "at the top, the key", where)
        yield from _only(
            _mapping(left.hn.get("net_params")), _mapping(right.hn.get("net_params")), "in net_params, the key", where
        )
        layers, others = (_mapping(stage.hn.get("layers")) for stage in (left, right))
        for name in [name for name in layers if name in others]:
            mine, other = _mapping(layers[name]), _mapping(others[name])
            kind = mine.get("type")
            yield from _only(mine, other, f"in layers of type {kind}, the key", where)
            yield from _only(
                _mapping(mine.get("params")), _mapping(other.get("params")), f"in params of {kind}, the key", where
            )
            for key in ("type", "input_shapes", "output_shapes"):
                yield from _if_unlike(f"{where}/{name}", key, mine.get(key), other.get(key))
            for key in ("input", "output"):
                sides = (_own_names(_strings(layer.get(key))) for layer in (mine, other))
                yield from _if_unlike(f"{where}/{name}", f"{key} of {_own_name(name)}", next(sides), next(sides))


def _logs(first: Recorded, second: Recorded) -> Iterator[Pair]:
    left, right = _line_shapes(first), _line_shapes(second)
    for shape, line in {**right, **left}.items():
        if shape in left and shape in right:
            continue
        note = "a line that hefjoin reads" if is_read(line) else "a line that hefjoin does not read"
        sides = ("there" if shape in each else NOT_THERE for each in (left, right))
        yield "", f"{note}: {shape}", next(sides), next(sides)
    yield from _only(first.files, second.files, "the log file")


def _line_shapes(recorded: Recorded) -> dict[str, str]:
    """Return every shape of a line with a line of that shape; the networks' own names are left out of a shape."""
    names = {stage.model_name for stage in recorded.observed.stages}
    names |= {call.on for call in recorded.observed.calls}
    network = re.compile("|".join(rf"\b{re.escape(name)}(?![a-zA-Z])" for name in names if name) or r"(?!)")
    return {message_shape(network.sub("…", line)): line for line in recorded.log}


def is_read(line: str) -> bool:
    """Return whether `hefjoin.sdk.log` concludes anything from a line."""
    unlikely_level = 99
    return bool(
        sdk_log.progress(line)
        or sdk_log.warnings([line])
        or sdk_log.phase_seconds([line])
        or sdk_log.effective_level([line], unlikely_level) != unlikely_level
        or _TABLE.match(line)
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, an empty one where something else stands in its place."""
    return value if isinstance(value, dict) else {}


def _own_name(layer: str) -> str:
    """Return the name of a layer inside its scope: what networks of all names share."""
    return layer.rpartition("/")[2]


def _own_names(layers: Iterable[str]) -> list[str]:
    return [_own_name(name) for name in layers]


def _strings(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _types(hn: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(_mapping(layer).get("type")) for name, layer in _mapping(hn.get("layers")).items()}
