"""The error tree is the one drawn at the top of its module, and survives the way to another process."""

from __future__ import annotations

import pickle
import re
from typing import NamedTuple

import pytest

from hefjoin import errors
from hefjoin.errors import Disagreement, HefJoinError, JoinError, Problem, SpecError

LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)\b.*?(?:exit (?P<exit>\d))?$")


class Drawn(NamedTuple):
    parent: str
    exit_code: int


def drawing() -> dict[str, Drawn]:
    """Return what the module's docstring draws; a class without a number ends as its parent does."""
    found: dict[str, Drawn] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if not (match := LINE.match(line)):
            continue
        depth, name = len(match["branch"]), match["name"]
        path = [(d, n) for d, n in path if d < depth]
        parent = path[-1][1] if path else ""
        inherited = found[parent].exit_code if parent else 1
        found[name] = Drawn(parent, int(match["exit"]) if match["exit"] else inherited)
        path.append((depth, name))
    return found


def classes() -> list[type[HefJoinError]]:
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HefJoinError)]


def examples() -> list[HefJoinError]:
    """Return an error of every class, with the attributes it has in use."""
    attributes: dict[str, dict[str, object]] = {
        "CompileError": {"log_tail": "  last line"},
        "UnsupportedOpError": {
            "model": "a",
            "operators": [["NonZero", "/nz"]],
            "nearest_supported": ["/relu"],
            "log_tail": "",
        },
        "FitError": {"need": {"LCUs": 149}, "have": {"LCUs": 96}, "log_tail": "x"},
        "StoreError": {"reason": "full", "uri": "s3://b/k", "is_transient": False},
        "DeviceError": {"is_transient": False},
        "ToolchainError": {"log_tail": "x"},
    }
    made: list[HefJoinError] = [
        SpecError([Problem("models[1].mean", "3 values, input has 1 channel"), Problem("", "no such file")], "a.yaml"),
        JoinError([Disagreement("color", (("a", "rgb"), ("b", "bgr")), "export alike")]),
    ]
    made += [c(f"what {c.__name__}", **attributes.get(c.__name__, {})) for c in classes() if c not in map(type, made)]
    return made


def test_the_tree_is_the_one_that_is_drawn() -> None:
    real = {c.__name__: Drawn(c.__base__.__name__ if c is not HefJoinError else "", c.exit_code) for c in classes()}
    assert real == drawing()


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
class TestRoundTrips:
    def test_by_pickle(self, error: HefJoinError) -> None:
        self.same(pickle.loads(pickle.dumps(error)), error)

    @staticmethod
    def same(found: HefJoinError, error: HefJoinError) -> None:
        assert type(found) is type(error)
        assert (str(found), found.message) == (str(error), error.message)
        assert found.attributes == error.attributes
        assert {name: getattr(found, name) for name in error.attributes} == error.attributes
        assert (found.exit_code, found.is_transient) == (error.exit_code, error.is_transient)


def test_every_class_has_an_example() -> None:
    assert {type(error) for error in examples()} == set(classes())


def test_only_devices_and_stores_are_tried_again_and_an_instance_may_say_otherwise() -> None:
    assert {c.__name__ for c in classes() if c.is_transient} == {"DeviceError", "StoreError"}
    assert errors.StoreError("full", is_transient=False).is_transient is False


def test_a_spec_error_lists_every_problem_and_counts_them() -> None:
    assert str(SpecError([Problem("name", "bad"), Problem("", "worse")], "a.yaml")) == (
        "a.yaml has 2 problems:\n  name: bad\n  worse"
    )
    assert str(SpecError([Problem("name", "bad")])) == "the spec has 1 problem:\n  name: bad"


class TestCombined:
    def test_one_error_stays_itself(self) -> None:
        error = errors.InputError("left: no file")
        assert errors.combined([error]) is error

    def test_several_are_told_in_one(self) -> None:
        left, right = errors.InputError("left: no file"), errors.UnsupportedOpError("right: no LSTM", model="right")
        found = errors.combined([left, right])
        assert str(found) == "left: no file\nright: no LSTM"
        assert found.exit_code == 2

    def test_the_exit_code_is_that_of_what_the_user_cannot_mend(self) -> None:
        found = errors.combined([errors.InputError("left: bad"), errors.ToolchainError("right: hung", log_tail="…")])
        assert isinstance(found, errors.ToolchainError)
        assert (found.exit_code, found.log_tail) == (6, "…")
