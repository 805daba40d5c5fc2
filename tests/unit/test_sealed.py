"""Records that carry a digest of themselves."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.stores.sealed import SEAL, seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
RECORD = {"build": "b1", "snr_db": 31.5, "unicode": "ü\n", "large": 1e300, "empty": {}}


@given(st.dictionaries(st.text().filter(lambda name: name != SEAL), VALUES, max_size=5))
def test_what_was_sealed_is_read_back_in_its_own_order(record: dict[str, Any]) -> None:
    assert list(unseal(seal(record)).items()) == list(record.items())


def test_a_sealed_record_is_plain_json_whose_last_member_is_the_digest_of_the_rest() -> None:
    members = json.loads(seal(RECORD))
    assert list(members) == [*RECORD, "record_sha256"]
    rest = b'{"build":"b1","snr_db":31.5,"unicode":"\\u00fc\\n","large":1e+300,"empty":{}}'
    assert members["record_sha256"] == hashlib.sha256(rest).hexdigest()


def test_every_flipped_bit_is_found() -> None:
    body = seal(RECORD)
    for bit in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"^(is|has) "):
            unseal(bytes(flipped))


@given(st.binary())
def test_any_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) "):
        unseal(body)


def test_a_deeply_nested_body_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        unseal(b"[" * 100_000)
