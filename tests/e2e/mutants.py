"""Parameter sets with one thing wrong each, drawn from a JSON Schema."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jsonschema

Path = tuple[str | int, ...]


class Mutant(NamedTuple):
    """A parameter set, and what is wrong with it."""

    parameters: dict[str, Any]
    field: str
    """The name that a refusal must have in it."""
    what: str


def mutants(schema: dict[str, Any], good: dict[str, Any], rng: random.Random) -> Iterator[Mutant]:
    """Yield mutants of a good parameter set that the schema forbids, each once, for as long as there are more.

    What a mutation made is asked of jsonschema, so that one that happens to be valid is not among them.
    """
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(good), list(validator.iter_errors(good))
    places, seen = list(_places(schema, good, schema, ())), set[str]()
    while True:
        path, part = rng.choice(places)
        kind, change = rng.choice(_changes(part, rng) if path else _changes_of_fields(part, rng))
        parameters = copy.deepcopy(good)
        field = change(parameters, path)
        what = f"{kind} at {'.'.join(map(str, path)) or 'top'}"
        if what not in seen and not validator.is_valid(parameters):
            seen.add(what)
            yield Mutant(parameters, field, what)


def _places(
    root: dict[str, Any], value: Any, part: dict[str, Any], path: Path
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every place that the schema knows, given or not, with what the schema says of it."""
    part = _resolved(root, part)
    if path:
        yield path, part
    if "properties" in part:
        yield path, part
        given = value if isinstance(value, dict) else {}
        for name, each in part["properties"].items():
            yield from _places(root, given.get(name), each, (*path, name))
    elif "items" in part and isinstance(value, list):
        for index, each in enumerate(value):
            yield from _places(root, each, part["items"], (*path, index))


def _resolved(root: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and take of an optional part what it is when it is there."""
    for link in ("$ref", "allOf", "anyOf"):
        if link == "$ref" and link in part:
            found: Any = root
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            return _resolved(root, {**found, **{k: v for k, v in part.items() if k != "$ref"}})
        if link in part and (options := [each for each in part[link] if each.get("type") != "null"]):
            return _resolved(root, {**part, **options[0], link: []})
    return part


Change = Callable[[dict[str, Any], Path], str]


def _changes(part: dict[str, Any], rng: random.Random) -> list[tuple[str, Change]]:
    """Return the mutations that make sense where the schema says this."""
    wrong = {
        "a wrong type": rng.choice(["words", 7.5, True, None, [], {"a": 1}, [[1]]]),
        **({"too small": part["minimum"] - 1} if "minimum" in part else {}),
        **({"too small": part["exclusiveMinimum"]} if "exclusiveMinimum" in part else {}),
        **({"too large": part["maximum"] + 1} if "maximum" in part else {}),
        **({"no such word": "no such word"} if "enum" in part else {}),
        **({"a bad name": "no/such name!"} if "pattern" in part else {}),
        **({"too short": [] if part.get("type") == "array" else ""} if {"minItems", "minLength"} & set(part) else {}),
    }
    return [*((kind, _put(value)) for kind, value in wrong.items()), *_changes_of_fields(part, rng)]


def _changes_of_fields(part: dict[str, Any], rng: random.Random) -> list[tuple[str, Change]]:
    if "properties" not in part:
        return []
    unknown = f"unknown_{rng.randrange(1000)}"
    return [
        (f"the unknown field {unknown}", _add(unknown)),
        *((f"without {name}", _drop(name)) for name in part.get("required", [])),
    ]


def _put(value: Any) -> Change:
    def change(parameters: dict[str, Any], path: Path) -> str:
        holder = _at(parameters, path[:-1])
        holder[path[-1]] = value
        return next(str(step) for step in reversed(path) if isinstance(step, str))

    return change


def _add(name: str) -> Change:
    def change(parameters: dict[str, Any], path: Path) -> str:
        _at(parameters, path)[name] = 1
        return name

    return change


def _drop(name: str) -> Change:
    def change(parameters: dict[str, Any], path: Path) -> str:
        _at(parameters, path).pop(name, None)
        return name

    return change


def _at(value: Any, path: Path) -> Any:
    """Return what lies at a path; objects that are not there are made."""
    for step in path:
        if isinstance(value, dict) and not isinstance(value.get(step), dict | list):
            value[step] = {}
        value = value[step]
    return value
