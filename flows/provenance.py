"""What a manifest says of its surroundings: the machine, the versions, the build before."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from hefjoin.artifacts import Record
from hefjoin.devices.emulated import cpu_name
from hefjoin.manifest import Machine, Manifest, Published
from hefjoin.stages.publish import latest
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


class Before(Record):
    """The latest build of a name, before this one."""

    published: Published
    manifest: Manifest

    @property
    def keys(self) -> dict[str, str]:
        """The key of each stage, by the stage's title."""
        return {f"{run.stage} {run.subject}".rstrip(): run.key for run in self.manifest.stages}


def latest_build(store: Store, provider: str, name: str) -> Before | None:
    """Return the latest build of a name, or None where there is none or it cannot be read any more."""
    published = latest(store, provider, name)
    if published is None or not (store.has(published.manifest) and store.is_intact(published.report)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = store.get(published.manifest, Path(folder) / "manifest.json")
        try:
            return Before(published=published, manifest=Manifest.model_validate_json(path.read_bytes()))
        except ValidationError:  # written by another version of hefjoin
            return None
