"""What a file holds, for `hefjoin inspect`: one JSON-ready description, and its text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hefjoin.errors import InputError


def describe(path: Path) -> dict[str, Any]:
    """Return what an ONNX, HAR or HEF file holds.

    Raises:
        InputError: The file is missing, of another kind, or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path.name} is none of {', '.join(_READERS)}; only these can be inspected")
    return {"file": str(path), "size_bytes": path.stat().st_size, **reader(path)}


def show(found: dict[str, Any]) -> str:
    """Return a description as lines for a person."""
    return "".join(f"{line}\n" for line in _lines(found, 0))


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
        "scopes": list(found.scopes),
        "inputs": [_har_tensor(layer) for layer in found.inputs],
        "outputs": [_har_tensor(layer) for layer in found.outputs],
        "layers": found.layer_counts,
        "parameters": found.parameters,
        "members": list(found.members),
    }


def _har_tensor(layer: Any) -> dict[str, Any]:
    return {
        "name": layer.name,
        "shape": list(layer.output_shapes[0]),
        "original_names": list(layer.original_names),
    }


def _hef(path: Path) -> dict[str, Any]:
    from hefjoin.formats import hef

    found = hef.read(path)
    groups = []
    for group in found.groups:
        described = {key: value for key, value in asdict(group).items() if key not in ("streams", "vstreams")}
        described["contexts_source"] = "forecast" if found.is_emulated else "hef"
        described["inputs"] = [asdict(stream) for stream in group.inputs]
        described["outputs"] = [asdict(stream) for stream in group.outputs]
        groups.append(described)
    header = {key: value for key, value in asdict(found).items() if key != "groups"}
    return {"kind": "HEF", **header, "is_truncated": found.is_truncated, "groups": groups}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {".onnx": _onnx, ".har": _har, ".hef": _hef}


def _lines(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, item in value.items():
        label = name.replace("_", " ")
        if isinstance(item, dict) and item:
            yield f"{indent}{label}: " + ", ".join(f"{key} {count}" for key, count in item.items())
        elif isinstance(item, list | tuple) and item and isinstance(item[0], dict):
            yield f"{indent}{label}:"
            for entry in item:
                yield from _entry(entry, depth + 1)
        elif item not in (None, "", [], ()):
            yield f"{indent}{label}: {_plain(item)}"


def _entry(entry: dict[str, Any], depth: int) -> Iterator[str]:
    nested = any(isinstance(item, list | tuple) and item and isinstance(item[0], dict) for item in entry.values())
    if nested:
        yield from _lines(entry, depth)
    else:
        parts = [
            f"{key.replace('_', ' ')} {_plain(item)}" for key, item in entry.items() if item not in (None, "", [], ())
        ]
        yield "  " * depth + ", ".join(parts).removeprefix("name ")


def _plain(item: Any) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, list | tuple):
        separator = "×" if item and all(isinstance(part, int) for part in item) else ", "
        return separator.join(str(part) for part in item)
    return str(item)
