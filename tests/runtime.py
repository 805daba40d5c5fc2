"""A machine with HailoRT and a Hailo-8: the strict fake of `hailo_platform`, and HEFs that look like the DFC's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hefjoin.devices import claim
from hefjoin.formats.hef import Edge
from tests.hefs import hef
from tests.tiny import SIZE

PACKAGE = "hailo_platform"
FOLDER = Path(__file__).parent / "fakes" / "runtime"
INPUTS = (Edge("pair/input_layer1", (SIZE, SIZE, 3)),)
OUTPUTS = (Edge("left/fc1", (4,), 1, 12.0, 0.5), Edge("right/conv9", (5, 6, 2), 2, 31000.0, 0.001))


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


def write_dfc_hef(
    path: Path, hw_arch: int = 1, inputs: Sequence[Edge] = INPUTS, outputs: Sequence[Edge] = OUTPUTS
) -> Path:
    """Write a HEF as DFC 3.33 would describe it; see `tests.hefs`.

    Unless told otherwise it takes the images of `tests.tiny` and gives scores in 8 bits and a map in 16.
    """
    path.write_bytes(hef(inputs, outputs, hw_arch=hw_arch))
    return path


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
