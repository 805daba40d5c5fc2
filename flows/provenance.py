"""What a manifest says of its surroundings: the machine and the versions."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from hefjoin.artifacts import file_sha256
from hefjoin.devices.emulated import cpu_name
from hefjoin.manifest import Machine

PACKAGES = ("hefjoin", "numpy", "onnx", "onnxruntime", "pillow", "prefect", "protobuf", "pydantic")
ROOT = Path(__file__).resolve().parents[1]


def machine() -> Machine:
    """Return this machine."""
    return Machine(
        host=platform.node(), platform=platform.platform(), cpu=cpu_name(), cores=len(os.sched_getaffinity(0))
    )


def versions() -> dict[str, str]:
    """Return the versions of what touched the artifacts."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@cache
def code_sha256() -> str:
    """Return a digest of all files of hefjoin itself, by their names and content."""
    digest = hashlib.sha256()
    paths = (path for folder in ("flows", "hefjoin", "tasks") for path in (ROOT / folder).rglob("*") if path.is_file())
    for path in sorted(path for path in paths if "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(ROOT)}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()
