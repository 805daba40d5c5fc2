"""Folders that this user may not write: said with the reason and what to do, nothing half-written."""

from __future__ import annotations

import os

import pytest

from tests.e2e.conftest import Desk, error_of

POWERLESS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
"""Root without the right to write everywhere."""


@pytest.mark.parametrize(("where", "says"), [("artifacts", "right to write there"), ("work", "HEFJOIN_WORK")])
def test_a_folder_that_may_not_be_written(desk: Desk, where: str, says: str) -> None:
    (desk.folder / where).mkdir(mode=0o555)
    done = desk.run(command=[*POWERLESS, *desk.command("build", "tiny.yaml", "--sdk", "emulator")])
    message = error_of(done, 5)
    assert "Permission denied" in message
    assert says in message
    assert list((desk.folder / where).iterdir()) == []
    assert desk.records("names") == desk.records("claims") == desk.records("beats") == desk.records("pins") == []
    desk.require_nothing_half_written()
    assert not (desk.folder / "out").exists()
