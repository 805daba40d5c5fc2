"""Say in words what a recording shows about the questions that public documents leave open.

The rule: an answer is read from what was recorded, and where the recording cannot tell, it says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hefjoin.conformance.cases import AT_ONCE
from hefjoin.conformance.recording import FINISHED, Answer, Call, Environment, Observed, Recorded

Cases = Mapping[str, Recorded]

MESSAGE_SHOWN = 160
REFUSALS = {
    "unlike shapes": "join_unlike_shapes",
    "unlike states": "join_unlike_states",
    "equal scopes": "join_equal_scopes",
    "an unknown scope": "join_unknown_scope",
    "a network of two inputs": "join_two_inputs",
}


def answers(environment: Environment, cases: Cases) -> tuple[Answer, ...]:
    """Return the answer to every question, in their order."""
    measured = _speeds(cases) if environment.provider == "dfc" else ""
    found = (
        ("Which input layer survives AUTO_JOIN_INPUTS, and may a normalization name the other?", _survivor(cases)),
        ("What are the members of JoinAction and JoinOutputLayersOrder?", _members(cases)),
        ("What is raised where two networks may not be joined?", _refusals(cases)),
        ("May quantized networks be joined with AUTO_JOIN_INPUTS?", _quantized(cases)),
        ("What are group and network of the joined HEF called?", _hef_names(cases)),
        ("Which options have `hailo join` and `hailo har`?", _commands(cases)),
        ("Which states are there, and what does a HAR hold?", _hars(cases)),
        ("May networks be parsed at once, in processes and in threads?", _parsing(cases)),
        ("How fast is the joined HEF beside two HEFs?", _measured_or_why(environment, cases, measured)),
    )
    return tuple(
        Answer(number=number, question=question, answer=answer, measured=measured if number == len(found) else "")
        for number, (question, answer) in enumerate(found, 1)
    )


def _observed(cases: Cases, name: str) -> Observed:
    return cases[name].observed if name in cases else Observed(name=name, ended=f"{name}: was not run")


def _survivor(cases: Cases) -> str:
    pair = _observed(cases, "pair")
    joined = pair.stage("parsed")
    if joined is None:
        return _why_not(pair)
    inputs = ", ".join(_layers(joined.hn, "input_layer"))
    named = _on_vanished(_observed(cases, "vanished_input"))
    return f"inputs after the join: {inputs}; a script that names both inputs: {named}"


def _on_vanished(case: Observed) -> str:
    for method in ("load_model_script", "optimize_full_precision"):
        call = case.first(method)
        if call is None:
            return _why_not(case)
        if call.raised:
            return f"{method} raises {_exception(call)}"
    stage = case.stage("fp_optimized")
    count = len(_layers(stage.hn, "normalization")) if stage else 0
    return f"is accepted, and leaves {count} normalization layers in the HN"


def _members(cases: Cases) -> str:
    notes = _observed(cases, "surface").notes
    return "; ".join(f"{name}: {_pairs(notes.get(name))}" for name in ("JoinAction", "JoinOutputLayersOrder"))


def _refusals(cases: Cases) -> str:
    return "; ".join(f"{what}: {_joining(_observed(cases, name))}" for what, name in REFUSALS.items())


def _joining(case: Observed) -> str:
    call = case.first("join")
    if call is None:
        return _why_not(case)
    if call.raised:
        return _exception(call)
    stage = case.stage("joined")
    inputs = ", ".join(_layers(stage.hn, "input_layer")) if stage else "unknown"
    return f"is accepted; inputs: {inputs}"


def _quantized(cases: Cases) -> str:
    case = _observed(cases, "join_quantized")
    compiled = case.first("compile")
    return _joining(case) + (f"; then compile {_outcome(compiled)}" if compiled else "")


def _hef_names(cases: Cases) -> str:
    case = _observed(cases, "pair")
    hef = case.hefs.get("compiled.hef")
    if hef is None:
        return _why_not(case)
    if isinstance(hef, str):
        return hef
    return "; ".join(f"group {group.name}, networks {', '.join(group.networks)}" for group in hef.groups)


def _commands(cases: Cases) -> str:
    case = _observed(cases, "commands")
    if not case.notes.get("hailo"):
        return _why_not(case) if case.ended != FINISHED else "no program `hailo` beside the SDK's interpreter"
    return "\n".join(str(case.notes.get(f"hailo {verb} --help", "")).strip() for verb in ("join", "har"))


def _hars(cases: Cases) -> str:
    states = _pairs(_observed(cases, "surface").notes.get("States"))
    pair = _observed(cases, "pair")
    if not pair.stages:
        return f"States: {states}; {_why_not(pair)}"
    lines = [f"States: {states}"]
    for stage in pair.stages:
        suffixes = ", ".join(name.removeprefix(stage.model_name) for name, _ in stage.har.members)
        lines.append(f"{stage.stage}: {suffixes}; metadata keys {', '.join(_keys(stage.har.metadata))}")
    return "; ".join(lines)


def _parsing(cases: Cases) -> str:
    side_by_side = [_observed(cases, name) for name in AT_ONCE]
    alone = {name: _observed(cases, f"single_{name}").stage("parsed") for name in ("left", "right")}
    wanted = [stage.hn for stage in alone.values() if stage]
    if unfinished := [case for case in side_by_side if case.ended != FINISHED]:
        processes = "; ".join(map(_why_not, unfinished))
    elif all([stage.hn for stage in case.stages] == wanted for case in side_by_side):
        processes = "HNs equal to those of parsing alone"
    else:
        processes = "other HNs than those of parsing alone"
    threads = _observed(cases, "parse_in_threads")
    done = sum(note.startswith("parsed in a thread: ") for note in threads.notes)
    in_threads = f"{done} of {len(alone)} parsed" + ("" if threads.ended == FINISHED else f"; {_why_not(threads)}")
    return f"two processes: {processes}; two threads: {in_threads}"


def _measured_or_why(environment: Environment, cases: Cases, measured: str) -> str:
    said = _observed(cases, "pair").device
    return "measured" if measured else f"no device: {said if said not in ('', 'ran') else environment.device}"


def _speeds(cases: Cases) -> str:
    """Return the frames per second of the joined HEF and of its parts; empty where a device gave none."""
    joined, left, right = (_observed(cases, name).fps for name in ("pair", "single_left", "single_right"))
    if not joined or not left or not right:
        return ""
    return (
        f"joined {joined:.1f} FPS; alone {left:.1f} and {right:.1f}, which taking turns on every frame gives at most "
        f"{1 / (1 / left + 1 / right):.1f} (source: device)"
    )


def _outcome(call: Call) -> str:
    return f"raises {_exception(call)}" if call.raised else f"returns {call.returned}"


def _exception(call: Call) -> str:
    assert call.raised is not None
    text = " ".join(call.raised.message.split())
    return f"{call.raised.type}: {text[:MESSAGE_SHOWN]}{'…' if len(text) > MESSAGE_SHOWN else ''}"


def _why_not(case: Observed) -> str:
    """Return what kept a case from coming as far as was asked."""
    if case.ended != FINISHED:
        return case.ended.splitlines()[0]
    refused = [call for call in case.calls if call.raised]
    return f"{case.name}: {refused[-1].method} raises {_exception(refused[-1])}" if refused else f"{case.name}: unclear"


def _layers(hn: Mapping[str, Any], kind: str) -> list[str]:
    return [name for name, layer in hn["layers"].items() if layer["type"] == kind]


def _pairs(members: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in members) if members else "not there"


def _keys(metadata: str) -> list[str]:
    try:
        found = json.loads(metadata)
    except ValueError:
        return ["unreadable"]
    return sorted(found) if isinstance(found, dict) else ["unreadable"]
