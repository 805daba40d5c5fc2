"""What a manifest says of its surroundings: the machine, the versions, the build before."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from hefjoin.devices.emulated import cpu_name
from hefjoin.manifest import Machine, Published
from hefjoin.stores import Store

PACKAGES = ("hefjoin", "numpy", "onnx", "onnxruntime", "prefect", "pydantic")


def machine() -> Machine:
    """Return this machine."""
    return Machine(
        host=platform.node(), platform=platform.platform(), cpu=cpu_name(), cores=len(os.sched_getaffinity(0))
    )


def versions() -> dict[str, str]:
    """Return the versions of what touched the artifacts."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def earlier_keys(store: Store, before: Published | None) -> dict[str, str]:
    """Return the key of each stage of an earlier build, by the stage's title."""
    if before is None or not store.has(before.manifest):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = store.get(before.manifest, Path(folder) / "manifest.json")
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return {f"{run['stage']} {run['subject']}".rstrip(): run["key"] for run in stages}
