"""The contract on each device, and what only one of them has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_contract import DeviceContract

from hefjoin.devices import Device, open_device
from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.emulator import ClientRunner
from hefjoin.errors import DeviceError, InputError
from tests.tiny import images, write_model

REAL_HEFS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hef"


@pytest.fixture(scope="module")
def emulated_hef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hef")
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(str(write_model(folder / "net.onnx", seed=1, classes=4)), "net")
    runner.optimize(images(8).astype(np.float32))
    (folder / "net.emulated.hef").write_bytes(runner.compile())
    return folder / "net.emulated.hef"


@pytest.fixture
def real_hef() -> Path:
    path = REAL_HEFS / "mnist_cnn_head.hef"
    if not path.is_file():
        pytest.skip("no HEF of the vendor's compiler here")
    return path


class TestEmulatedDevice(DeviceContract):
    source = "emulator"

    @pytest.fixture
    def device(self) -> Device:
        device = open_device("auto", is_emulated_hef=True)
        assert device is not None
        return device

    @pytest.fixture
    def hef(self, emulated_hef: Path) -> Path:
        return emulated_hef

    @pytest.fixture
    def foreign_hef(self, real_hef: Path) -> Path:
        return real_hef

    def test_the_refusal_names_compiler_and_chip(self, device: Device, real_hef: Path, frames: Path) -> None:
        with pytest.raises(DeviceError, match=r"compiled by DFC 3\.27\.0 for a HAILO8.*Hailo-8"):
            device.benchmark(real_hef, frames, (1,), 0.1)

    def test_a_file_that_is_no_hef_is_an_input_error(self, device: Device, frames: Path, tmp_path: Path) -> None:
        (tmp_path / "x.hef").write_bytes(b"not a HEF")
        with pytest.raises(InputError, match=r"x\.hef"):
            device.benchmark(tmp_path / "x.hef", frames, (1,), 0.1)

    @pytest.mark.parametrize("threads", [0, 1])
    def test_idle_threads_do_not_spin(self, emulated_hef: Path, threads: int) -> None:
        options = EmulatedDevice(threads).open(emulated_hef).get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.intra_op_num_threads == threads

    def test_it_runs_raw_frames(self, emulated_hef: Path) -> None:
        session: Any = EmulatedDevice().open(emulated_hef)
        (scores,) = session.run(None, {session.get_inputs()[0].name: images(5)})
        assert scores.dtype == np.uint8
        assert scores.shape[0] == 5


def test_for_a_real_hef_this_release_has_no_device() -> None:
    assert open_device("auto", is_emulated_hef=False) is None


@pytest.mark.parametrize("is_emulated_hef", [True, False])
def test_the_emulated_device_can_be_asked_for(is_emulated_hef: bool) -> None:
    assert isinstance(open_device("emulated", is_emulated_hef), EmulatedDevice)
