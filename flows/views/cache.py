"""What is kept on this machine, and what may go, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hefjoin.housekeeping import Removable, Usage

NAMES = {
    "sources": "sources from S3",
    "digests": "digests of local files",
    "work": "folders of stages",
    "checkpoints": "interrupted calibrations",
    "prefect": "embedded Prefect servers",
}


def usage(found: Usage) -> str:
    """Return what is kept, a line for each kind and each source."""
    lines = [
        f"{NAMES[each.kind]:<26}{_size(each.size_bytes):>11}  {_files(each.files):>12}  {each.path}"
        for each in found.folders
    ]
    lines.append(f"{'limit for sources':<26}{_size(found.limit_bytes):>11}  HEFJOIN_CACHE_GB")
    if found.builds_with_sources:
        lines.append(f"{found.builds_with_sources} sources are held by running builds")
    if found.sources:
        lines += ["", "by source, last use:"]
        lines += [
            f"  {_size(each.size_bytes):>11}  {_files(each.objects):>12}  {each.last_use}  {each.uri}"
            for each in found.sources
        ]
    return "\n".join(lines)


def removals(chosen: Sequence[Removable]) -> str:
    """Return what would go, a line for each, and the sum."""
    if not chosen:
        return "nothing to remove"
    lines = [
        f"{NAMES[each.kind]:<26}{_size(each.size_bytes):>11}  {_files(each.files):>12}  {each.what}" for each in chosen
    ]
    return "\n".join([*lines, f"{'in all':<26}{_size(sum(each.size_bytes for each in chosen)):>11}"])


def removals_json(chosen: Sequence[Removable]) -> str:
    """Return what would go as JSON."""
    return json.dumps(
        [{"kind": each.kind, "path": each.what, "files": each.files, "size_bytes": each.size_bytes} for each in chosen],
        indent=2,
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count != 1 else ''}"
