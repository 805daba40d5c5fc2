"""A machine with HailoRT and a Hailo-8: the strict fake of `hailo_platform`, and HEFs that look like the DFC's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hefjoin.devices import claim
from hefjoin.formats import hef_wire
from hefjoin.formats.hef import Edge, write_emulated
from hefjoin.formats.hef_container import open_container, pack
from hefjoin.formats.hef_messages import Hef
from tests.tiny import SIZE

PACKAGE = "hailo_platform"
FOLDER = Path(__file__).parent / "fakes" / "runtime"


@contextmanager
def installed(folder: Path, **switches: Any) -> Iterator[pytest.MonkeyPatch]:
    """Install HailoRT for this process; `switches` are those of the fake's `chip.Settings`.

    Args:
        folder: Where its log and the locks go.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setenv("HAILORT_LOGGER_PATH", str(folder))
        patch.setattr(claim, "SHARED_FOLDER", folder)
        switch(patch, folder, **switches)
        _forget()
        try:
            yield patch
        finally:
            _forget()


def switch(patch: pytest.MonkeyPatch, folder: Path, **switches: Any) -> None:
    """Set the fake's switches."""
    patch.setenv("FAKE_HAILORT", json.dumps({"lock_folder": str(folder), **switches}))


def write_dfc_hef(path: Path, hw_arch: int = 1, **changes: Any) -> Path:
    """Write a HEF as the DFC would describe it, without microcode; `changes` are arguments of `write_emulated`.

    Unless they say otherwise it takes the images of `tests.tiny` and gives scores in 8 bits and a map in 16.
    """
    arguments: dict[str, Any] = {
        "group": "pair",
        "networks": ["pair"],
        "inputs": [Edge("pair/input_layer1", (SIZE, SIZE, 3))],
        "outputs": [Edge("left/fc1", (4,), 1, 12.0, 0.5), Edge("right/conv9", (5, 6, 2), 2, 31000.0, 0.001)],
        "contexts": 1,
        "sdk_version": "3.33.0-emulator",
        "resources": {},
    }
    path.write_bytes(write_emulated(**{**arguments, **changes}))
    container = open_container(path)
    with path.open("rb") as stream:
        written = hef_wire.decode(Hef, stream, container.header_bytes, container.description_end)
    header = replace(written.header, hw_arch=hw_arch, sdk_version_str="3.33.0")
    path.write_bytes(pack(hef_wire.encode(replace(written, header=header)), {}))
    return path


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
