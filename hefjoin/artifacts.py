"""What passes between stages: references to immutable bytes, never the bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

CHUNK_BYTES = 1 << 20


class Record(BaseModel):
    """A small frozen JSON record; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ref(Record):
    """An immutable artifact: where it lies and what it must hash to."""

    uri: str
    sha256: Sha256
    size_bytes: int = Field(ge=0)
    media: str
    """What it is, as a file suffix without the dot: `onnx`, `har`, `hef`, `json`, `html`, `log`."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, reading it in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value: Any) -> str:
    """Return `value` as JSON without spaces, its keys in their own order: what is read back is what was written."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces, to take a digest of: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def by_content(value: Any) -> Any:
    """Return JSON in which everything that has a digest is known by it and not by where it lies."""
    if isinstance(value, dict):
        kept = {name: by_content(item) for name, item in value.items()}
        if "sha256" in kept:
            kept.pop("uri", None)
        return kept
    return [by_content(item) for item in value] if isinstance(value, list) else value


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return the plain values of nested JSON by their path: `model.mean[0]`."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in leaves(item, f"{path}.{name}".lstrip(".")).items()}
    if isinstance(value, list):
        return {k: v for index, item in enumerate(value) for k, v in leaves(item, f"{path}[{index}]").items()}
    return {path: value}


def refs(value: object) -> Iterator[Ref]:
    """Yield every artifact that a record names."""
    return (ref for _, ref in named_refs(value))


def named_refs(value: object, path: str = "") -> Iterator[tuple[str, Ref]]:
    """Yield every artifact that a record names, with its path in the record: `compiled.attempts[0].log`."""
    if isinstance(value, Ref):
        yield path, value
    elif isinstance(value, Record):
        for name in type(value).model_fields:
            yield from named_refs(getattr(value, name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from named_refs(item, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from named_refs(item, f"{path}[{index}]")
