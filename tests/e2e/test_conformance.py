"""`hefjoin conformance` as a person with a licence uses it: record twice, compare, send one file."""

from __future__ import annotations

import json

import pytest

from hefjoin.conformance.cases import all_cases
from tests.e2e.conftest import Desk, error_of

LARGEST_BYTES = 5 << 20


@pytest.mark.timeout(600)
def test_two_recordings_of_the_emulator_are_equal(desk: Desk) -> None:
    for name in ("a", "b"):
        done = desk.run("conformance", "--sdk", "emulator", "--out", f"{name}.tar.gz", "--json")
        assert done.returncode == 0, done.stderr
        assert [answer["number"] for answer in json.loads(done.stdout)] == list(range(1, 10))
        assert len(done.stderr.splitlines()) == len(all_cases("emulator")) - 1  # two of them run side by side
        assert (desk.folder / f"{name}.tar.gz").stat().st_size < LARGEST_BYTES
    done = desk.run("conformance", "--compare", "a.tar.gz", "b.tar.gz", "--json")
    assert done.returncode == 0, done.stdout
    comparison = json.loads(done.stdout)
    assert [group["group"] for group in comparison["groups"]] == ["answers", "calls", "names", "HN", "numbers", "logs"]
    assert all(group["is_equal"] for group in comparison["groups"])
    assert desk.run("conformance", "--compare", "a.tar.gz", "b.tar.gz").stdout.count("equal") == 6


def test_what_is_no_archive_and_no_place_for_one_is_said_at_once(desk: Desk) -> None:
    assert "tiny.yaml" in error_of(desk.run("conformance", "--compare", "tiny.yaml", "tiny.yaml"), 2)
    assert "no folder there" in error_of(desk.run("conformance", "--sdk", "emulator", "--out", "no/a.tar.gz"), 2)
