"""The guard: what it keeps from a device, what it lets through, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.version import Version

from hefjoin.compatibility import Release, table
from hefjoin.devices.guard import DEVICE, Host, admit, chosen, driver_version, notes, refuse_mismatch
from hefjoin.errors import DeviceError, InputError
from hefjoin.formats.hef import Edge, write_emulated
from tests.hefs import write_hef

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hef"
FITTING = {"device_id": "0000:01:00.0", "architecture": "HAILO8", "hailort": "4.23.0", "driver": "4.23.0"}


def host(**changes: str) -> Host:
    return Host.model_validate({**FITTING, "firmware": "4.23.0", **changes})


def refusal(path: Path, device: Host) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        refuse_mismatch(admit(path), device)
    assert not caught.value.is_transient
    return caught.value


class TestAdmit:
    @pytest.mark.parametrize("hw_arch", [1, 2, 3])
    def test_the_three_numbers_of_the_hailo_8_line_go_through(self, hw_arch: int, tmp_path: Path) -> None:
        assert admit(write_hef(tmp_path / "a.hef", hw_arch=hw_arch)).groups[0].name == "pair"

    @pytest.mark.parametrize(
        ("hw_arch", "name"), [(0, "HAILO8"), (103, "HAILO15H"), (100, "HAILO8_A0"), (99, "UNKNOWN")]
    )
    def test_others_are_named_with_what_is_taken(self, hw_arch: int, name: str, tmp_path: Path) -> None:
        with pytest.raises(
            DeviceError, match=rf"a\.hef.*(?s:.*)for a {name} \(hw_arch {hw_arch}, DFC 3\.31\.0\)"
        ) as caught:
            admit(write_hef(tmp_path / "a.hef", hw_arch=hw_arch))
        assert caught.value.reason == "architecture"
        assert "1, 2 and 3" in str(caught.value)
        assert "hw_arch hailo8 or hailo8l" in str(caught.value)

    def test_one_of_the_emulator_is_refused_as_such(self, tmp_path: Path) -> None:
        path = tmp_path / "net.emulated.hef"
        streams = {"inputs": [Edge("net/in", (8, 8, 3))], "outputs": [Edge("net/out", (4,))]}
        path.write_bytes(
            write_emulated(
                group="net", networks=["net"], **streams, contexts=1, sdk_version="3.33.0-emulator", resources={}
            )
        )
        with pytest.raises(DeviceError, match=r"net\.emulated\.hef.*emulator.*no microcode.*DFC") as caught:
            admit(path)
        assert (caught.value.reason, caught.value.is_transient) == ("refused", False)

    def test_all_that_is_wrong_is_said_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="2 network groups \\(pair, pair\\)") as caught:
            admit(write_hef(tmp_path / "a.hef", hw_arch=103, groups=2))
        assert "HAILO15H" in str(caught.value)
        assert caught.value.reason == "refused"

    def test_truncated_damaged_and_no_hef_at_all(self, tmp_path: Path) -> None:
        whole = write_hef(tmp_path / "a.hef").read_bytes()
        damaged = bytearray(whole)
        damaged[-1] ^= 1
        for content, said in ((whole[:-1], "truncated"), (bytes(damaged), "XXH3-64"), (b"#!/bin/sh", "plain text")):
            (tmp_path / "b.hef").write_bytes(content)
            with pytest.raises(InputError, match=said):
                admit(tmp_path / "b.hef")

    @pytest.mark.parametrize("name", ["rpicam_yolov5n_seg_h8", "soramimi_model_3x640x640", "takumi_yolov8n"])
    def test_real_ones_go_through(self, name: str) -> None:
        if not (DATA / f"{name}.hef").is_file():
            pytest.skip("no HEF of the vendor's compiler here")
        refuse_mismatch(admit(DATA / f"{name}.hef"), host())

    def test_a_real_one_of_another_line_is_refused(self) -> None:
        if not (DATA / "arcface_dilakshan_v3.hef").is_file():
            pytest.skip("no HEF of the vendor's compiler here")
        with pytest.raises(DeviceError, match=r"HAILO15H \(hw_arch 103, DFC 5\.1\.0\)"):
            admit(DATA / "arcface_dilakshan_v3.hef")


class TestMismatch:
    def test_what_fits_goes_through(self, tmp_path: Path) -> None:
        refuse_mismatch(admit(write_hef(tmp_path / "a.hef")), host())

    @pytest.mark.parametrize("unknown", [{}, {"hailort": "unknown", "driver": "unknown"}])
    def test_what_is_unknown_is_no_mismatch(self, unknown: Mapping[str, str], tmp_path: Path) -> None:
        device = Host(device_id="0000:01:00.0", **unknown)
        hef = admit(write_hef(tmp_path / "a.hef", sdk_version="3.99.0"))
        refuse_mismatch(hef, device)
        assert notes(hef, device) == ()

    @pytest.mark.parametrize("hw_arch", [1, 2])
    def test_a_hef_of_the_whole_chip_does_not_go_to_a_part_of_it(self, hw_arch: int, tmp_path: Path) -> None:
        error = refusal(write_hef(tmp_path / "a.hef", hw_arch=hw_arch), host(architecture="HAILO8L"))
        assert error.reason == "architecture"
        assert f"HAILO8 (hw_arch {hw_arch}), the device is a HAILO8L" in str(error)
        assert "compile with hw_arch hailo8l" in str(error)

    def test_a_hef_of_a_part_goes_to_both_with_a_note_on_the_whole(self, tmp_path: Path) -> None:
        hef = admit(write_hef(tmp_path / "a.hef", hw_arch=3))
        refuse_mismatch(hef, host())
        refuse_mismatch(hef, host(architecture="HAILO8L"))
        assert ["hw_arch hailo8 " in note for note in notes(hef, host())] == [True]
        assert notes(hef, host(architecture="HAILO8L")) == ()

    @pytest.mark.parametrize("architecture", ["HAILO15H", "HAILO10H", "HAILO8_A0"])
    def test_a_device_of_another_line(self, architecture: str, tmp_path: Path) -> None:
        error = refusal(write_hef(tmp_path / "a.hef"), host(architecture=architecture))
        assert error.reason == "architecture"
        assert f"is a {architecture}: run it on a HAILO8 or HAILO8L" in str(error)

    @pytest.mark.parametrize("release", [each for each in table().releases if each.hailort], ids=lambda each: each.dfc)
    def test_the_library_may_not_be_older_than_the_one_published_with_the_compiler(
        self, release: Release, tmp_path: Path
    ) -> None:
        path = write_hef(tmp_path / "a.hef", sdk_version=f"{release.dfc}.0")
        minor = Version(release.hailort).minor
        older, equal = f"4.{minor - 1}.0", f"4.{minor}.0"
        refuse_mismatch(admit(path), host(hailort=equal, driver=equal))
        error = refusal(path, host(hailort=older, driver=older))
        assert error.reason == "version"
        assert f"DFC {release.dfc}.0" in str(error)
        assert f"install HailoRT {release.hailort}" in str(error)

    def test_another_line_of_hailort_is_not_called_older_or_newer(self, tmp_path: Path) -> None:
        error = refusal(write_hef(tmp_path / "a.hef"), host(hailort="5.1.0", driver="5.1.0"))
        assert "HailoRT 5.1.0 does not serve a Hailo-8" in str(error)
        assert "install HailoRT 4.21" in str(error)
        assert "older" not in str(error)

    def test_a_driver_of_another_version(self, tmp_path: Path) -> None:
        error = refusal(write_hef(tmp_path / "a.hef"), host(driver="4.23.1"))
        assert error.reason == "version"
        assert "driver 4.23.1, HailoRT 4.23.0" in str(error)
        assert "install the driver of HailoRT 4.23.0" in str(error)

    def test_all_mismatches_are_said_at_once_with_the_device(self, tmp_path: Path) -> None:
        device = host(architecture="HAILO8L", hailort="4.20.0", driver="4.19.0")
        said = str(refusal(write_hef(tmp_path / "a.hef"), device)).splitlines()
        assert "pair" in said[0]
        assert "0000:01:00.0" in said[0]
        assert len(said) == 4


class TestNotes:
    @pytest.mark.parametrize(("firmware", "count"), [("4.23.1", 0), ("4.22.0", 1), ("", 0)])
    def test_firmware_of_another_minor_version(self, firmware: str, count: int, tmp_path: Path) -> None:
        found = notes(admit(write_hef(tmp_path / "a.hef")), host(firmware=firmware))
        assert len(found) == count
        assert all(f"firmware {firmware}, HailoRT 4.23.0" in note for note in found)

    def test_a_library_outside_the_tested_ones_of_the_line(self, tmp_path: Path) -> None:
        hef = admit(write_hef(tmp_path / "a.hef", sdk_version="3.29.0"))
        (note,) = notes(hef, host(hailort="4.19.0", driver="4.19.0", firmware="4.19.0"))
        assert "4.19.0 is untested" in note


class TestHost:
    def test_the_driver_says_its_version_where_it_is_loaded(self, tmp_path: Path) -> None:
        assert driver_version(tmp_path) == ""
        (tmp_path / "sys/module/hailo_pci").mkdir(parents=True)
        (tmp_path / "sys/module/hailo_pci/version").write_text("4.23.0\n")
        assert driver_version(tmp_path) == "4.23.0"

    def test_only_known_versions_are_reported(self) -> None:
        assert Host(device_id="a", hailort="4.23.0").versions == {"HailoRT": "4.23.0"}

    def test_the_first_device_unless_one_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(DEVICE, raising=False)
        assert chosen(["a", "b"]) == "a"
        monkeypatch.setenv(DEVICE, "b")
        assert chosen(["a", "b"]) == "b"

    @pytest.mark.parametrize(("wanted", "listed", "said"), [("", [], "no Hailo device"), ("c", ["a", "b"], "a and b")])
    def test_a_device_that_is_not_there(
        self, wanted: str, listed: list[str], said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DEVICE, wanted)
        with pytest.raises(DeviceError, match=said) as caught:
            chosen(listed)
        assert (caught.value.reason, caught.value.is_transient) == ("missing", False)
