"""The contract on the device through `hailortcli`, run against a stand-in of that program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from device_contract import DeviceContract

from hefjoin.devices import Device, open_device
from hefjoin.devices.guard import DEVICE
from hefjoin.devices.hailortcli_program import PROGRAM
from hefjoin.formats.hef import Edge, write_emulated
from tests.hefs import write_hef
from tests.tiny import SIZE

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "hailortcli"


class TestHailoRtCliDevice(DeviceContract):
    source = "device"
    runs_several_as_one = False

    @pytest.fixture(autouse=True)
    def hailortcli(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(DEVICE, raising=False)
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        monkeypatch.setenv(PROGRAM, str(FAKE))
        switches = {"group": "pair", "frame_bytes": SIZE * SIZE * 3, "fps": [990.0, 1010.0, 1000.0]}
        monkeypatch.setenv("FAKE_HAILORTCLI", json.dumps(switches))

    @pytest.fixture
    def device(self) -> Device:
        return open_device("hailortcli", is_emulated_hef=False)

    @pytest.fixture
    def hef(self, tmp_path: Path) -> Path:
        return write_hef(tmp_path / "pair.hef")

    @pytest.fixture
    def foreign_hef(self, tmp_path: Path) -> Path:
        streams = {"inputs": [Edge("pair/in", (SIZE, SIZE, 3))], "outputs": [Edge("pair/out", (4,))]}
        content = write_emulated(
            group="pair", networks=["pair"], **streams, contexts=1, sdk_version="3.33.0-emulator", resources={}
        )
        (tmp_path / "pair.emulated.hef").write_bytes(content)
        return tmp_path / "pair.emulated.hef"

    def test_it_hands_no_outputs_back(self, device: Device, hef: Path, frames: Path) -> None:
        assert len(np.load(frames)) > 0
        assert device.outputs(hef, frames) is None
