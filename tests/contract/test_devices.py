"""The contract on each device, and what only one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_contract import DeviceContract

from hefjoin.devices import Device, open_device
from hefjoin.devices.emulated import EmulatedDevice
from hefjoin.devices.hailort import HailoRtDevice, is_installed
from hefjoin.devices.hailortcli import HailoRtCliDevice
from hefjoin.emulator import ClientRunner
from hefjoin.errors import DeviceError, InputError
from hefjoin.spec import DeviceKind
from tests import runtime
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
        return open_device("auto", is_emulated_hef=True)

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


class TestHailoRtDevice(DeviceContract):
    source = "device"

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Device]:
        with runtime.installed(tmp_path, frame_ms=0.5, queue=8):
            yield open_device("auto", is_emulated_hef=False)

    @pytest.fixture
    def hef(self, tmp_path: Path) -> Path:
        return runtime.write_dfc_hef(tmp_path / "pair.hef")

    @pytest.fixture
    def foreign_hef(self, emulated_hef: Path) -> Path:
        return emulated_hef

    def test_it_is_the_device_of_a_real_hef_where_hailort_is_installed(self, device: Device) -> None:
        assert isinstance(device, HailoRtDevice)


def test_without_hailort_s_package_a_real_hef_goes_to_its_program() -> None:
    assert not is_installed()
    assert isinstance(open_device("auto", is_emulated_hef=False), HailoRtCliDevice)


@pytest.mark.parametrize("is_emulated_hef", [True, False])
@pytest.mark.parametrize(
    ("kind", "wanted"), [("emulated", EmulatedDevice), ("hailort", HailoRtDevice), ("hailortcli", HailoRtCliDevice)]
)
def test_a_device_can_be_asked_for(kind: DeviceKind, wanted: type[Device], is_emulated_hef: bool) -> None:
    assert isinstance(open_device(kind, is_emulated_hef), wanted)
