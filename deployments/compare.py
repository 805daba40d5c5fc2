"""Whether what a server has is what is wanted of it."""

from __future__ import annotations

from typing import Any


def is_so(wanted: Any, found: Any) -> bool:
    """Return whether what was found says what is wanted; it may have more fields, and words in another order.

    >>> is_so({"tags": ["a", "b"]}, {"tags": ["b", "a"], "id": 7}), is_so({"tags": ["a"]}, {"tags": ["b"]})
    (True, False)
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and is_so(wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(wanted) != len(found):
            return False
        return all(is_so(one, other) for one, other in zip(_ordered(wanted), _ordered(found), strict=True))
    return bool(wanted == found)


def _ordered(values: list[Any]) -> list[Any]:
    """Sort words: the server keeps them as sets."""
    return sorted(values) if all(isinstance(value, str) for value in values) else values


def told(changes: list[str]) -> str:
    """Say what was changed."""
    return f"changed ({', '.join(changes)})" if changes else "unchanged"
