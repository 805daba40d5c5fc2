"""Records that carry a digest of themselves, so that a change of a single bit in one is found.

The one rule: a sealed record is its JSON with the SHA-256 of that JSON as its last member, `record_sha256`. It is whole
where sealing what was read gives the same bytes again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hefjoin.artifacts import to_json

SEAL = "record_sha256"


def seal(record: dict[str, Any]) -> bytes:
    """Return a record, which has no member `record_sha256` of its own, as sealed JSON.

    >>> seal({"build": 1})[:38]
    b'{"build":1,"record_sha256":"d5cd30cc56'
    """
    return to_json({**record, SEAL: hashlib.sha256(to_json(record).encode()).hexdigest()}).encode()


def unseal(body: bytes) -> dict[str, Any]:
    """Return the record in sealed JSON.

    Raises:
        ValueError: saying what is wrong with it, to follow the record's name: "is not a JSON object, …".
    """
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object: it is damaged, or something else wrote it")
    if SEAL not in record:
        raise ValueError(f"has no {SEAL}: an older hefjoin wrote it, or something else did")
    found = record.pop(SEAL)
    try:
        is_whole = seal(record) == body
    except (ValueError, RecursionError):  # as for a number that became infinite
        is_whole = False
    if not is_whole:
        raise ValueError(f"is damaged: its content is not what its {SEAL} {found} says")
    return record
