"""What a file holds, for `hefjoin inspect`, as one JSON-ready description; `inspect_text` shows it to people."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hefjoin.errors import InputError

if TYPE_CHECKING:
    from hefjoin.formats.har import HarLayer
    from hefjoin.formats.hef import Hef, NetworkGroup


def describe(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return what an ONNX, HAR or HEF file holds.

    Args:
        path: The file; its suffix says which of them it is.
        verify: Also compare the checksum, which a HEF has.

    Raises:
        InputError: The file is missing, of another kind, or damaged; or it has no checksum to compare.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path.name} is none of {', '.join(READERS)}; only these can be inspected")
    if suffix == ".hef":
        found = _hef(path, verify=verify)
    elif verify:
        raise InputError(f"{path.name}: --verify compares the checksum of a HEF; this file has none: leave it out")
    else:
        found = READERS[suffix](path)
    described = {"file": str(path), "size_bytes": path.stat().st_size, **found}
    ready: dict[str, Any] = _json_ready(described)
    return ready


def like_hailortcli(path: Path, *, verify: bool = False) -> str:
    """Return what the vendor's command prints of a HEF, its checksum compared first where `verify` says so.

    Raises:
        InputError: It is no HEF, or a damaged one.
    """
    from hefjoin.formats import hef, hef_listing

    suffix = path.suffix.lower()
    if suffix in READERS and suffix != ".hef":
        raise InputError(f"{path.name}: --like-hailortcli lists a HEF, this is an ONNX or HAR file: leave it out")
    return hef_listing.like_hailortcli(hef.read(path, verify=verify))


def _onnx(path: Path) -> dict[str, Any]:
    from hefjoin.formats import onnx_file

    return {"kind": "ONNX", **asdict(onnx_file.read(path))}


def _har(path: Path) -> dict[str, Any]:
    from hefjoin.formats import har

    found = har.read(path)
    return {
        "kind": "HAR",
        "model_name": found.model_name,
        "state": found.state,
        "hw_arch": found.hw_arch,
        "sdk_version": found.sdk_version,
        "is_emulated": found.is_emulated,
        "scopes": found.scopes,
        "inputs": [_har_tensor(layer) for layer in found.inputs],
        "outputs": [_har_tensor(layer) for layer in found.outputs],
        "layers": found.layer_counts,
        "parameters": found.parameters,
        "members": found.members,
    }


def _har_tensor(layer: HarLayer) -> dict[str, Any]:
    return {"name": layer.name, "shape": layer.shape, "original_names": layer.original_names}


def _hef(path: Path, *, verify: bool = False) -> dict[str, Any]:
    from hefjoin.formats import hef

    found = hef.read(path, verify=verify)
    return {
        "kind": "HEF",
        "is_truncated": found.is_truncated,
        "is_description_cut": found.is_description_cut,
        "expected_bytes": found.expected_bytes,
        "checksum": "holds" if verify else "not compared",
        "container_version": found.container_version,
        "parts": asdict(found.parts),
        "hw_arch": found.hw_arch,
        "hw_arch_number": found.hw_arch_number,
        "sdk_version": found.sdk_version,
        "is_emulated": found.is_emulated,
        "compiled_at": _time(found.timestamp_ms),
        "resources": found.resources,
        "groups": [_group(group, found) for group in found.groups],
    }


def _group(group: NetworkGroup, found: Hef) -> dict[str, Any]:
    return {
        "name": group.name,
        "networks": group.networks,
        "contexts": group.contexts,
        "contexts_source": "forecast" if found.is_emulated else "hef",
        "compiler_fps": group.compiler_fps,
        "compiler_latency_ms": group.compiler_latency_ms,
        "inputs": [asdict(stream) for stream in group.inputs],
        "outputs": [asdict(stream) for stream in group.outputs],
        "host_ops": [
            {**asdict(op), "settings": {setting.label: setting.value for setting in op.settings}}
            for op in group.host_ops
        ],
    }


def _time(timestamp_ms: int | None) -> str | None:
    """Return milliseconds since 1970 as ISO 8601; None for what no calendar has."""
    if timestamp_ms is None:
        return None
    try:
        return f"{datetime.fromtimestamp(timestamp_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return None


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {".onnx": _onnx, ".har": _har, ".hef": _hef}


def _json_ready(value: Any) -> Any:
    """Replace what JSON cannot say: tuples become lists, floats that are no numbers become None."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
