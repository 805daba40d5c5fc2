"""What is left in the store of an error that another machine met: enough to raise it again, and to exit as it would."""

from __future__ import annotations

from typing import Any

import pytest

from hefjoin.errors import (
    DeviceError,
    FitError,
    HefJoinError,
    InputError,
    Problem,
    SpecError,
    StoreError,
    ToolchainError,
)
from hefjoin.stages.handover import Refused


@pytest.mark.parametrize(
    "error",
    [
        DeviceError("busy", reason="busy"),
        StoreError("gone", reason="missing", uri="s3://b/k"),
        InputError("another version"),
        FitError("too large", reason="LCUs", need={"LCUs": 2.0}, have={"LCUs": 1.0}),
        ToolchainError("crashed", log_tail="last line"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_raised_again_as_what_it_was_and_for_good(error: HefJoinError) -> None:
    record = Refused.model_validate_json(Refused.of(error).model_dump_json())
    again = record.error()
    assert type(again) is type(error)
    assert again.message == f"{record.host}: {error.message}"
    assert not again.is_transient
    plain = {name: value for name, value in error.attributes.items() if isinstance(value, str)}
    assert {name: getattr(again, name) for name in plain} == plain


@pytest.mark.parametrize(
    "record",
    [Refused.of(SpecError([Problem("a", "b")])), Refused(kind="system", message="x", attributes={}, host="h")],
    ids=["of plain values not", "of no error of ours"],
)
def test_what_cannot_be_made_again_is_an_error_of_the_device(record: Refused) -> None:
    found: Any = record.error()
    assert type(found) is DeviceError
    assert record.message in found.message
