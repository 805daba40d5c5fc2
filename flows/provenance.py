"""What a manifest says of its surroundings: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from hefjoin.devices.emulated import cpu_name
from hefjoin.manifest import Machine

PACKAGES = ("hefjoin", "numpy", "onnx", "onnxruntime", "prefect", "pydantic")


def machine() -> Machine:
    """Return this machine."""
    return Machine(
        host=platform.node(), platform=platform.platform(), cpu=cpu_name(), cores=len(os.sched_getaffinity(0))
    )


def versions() -> dict[str, str]:
    """Return the versions of what touched the artifacts."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
