"""The HEF reader on files of the vendor's compiler, against the vendor's own listings."""

from __future__ import annotations

from pathlib import Path

import pytest

from hefjoin.errors import InputError
from hefjoin.formats import hef
from hefjoin.formats.hef_listing import like_hailortcli
from tests.hef_protobuf import DATA, LISTINGS

REAL = [
    "arcface_dilakshan_v3.hef",
    "h10h_face_landmarks_lite.hef",
    "mnist_cnn_head.hef",
    "rpicam_yolov5n_seg_h8.hef",
    "soramimi_model_3x640x640.hef",
    "takumi_yolov8n.hef",
    "zero_dce_400x600.hef",
]
needs_real_files = pytest.mark.skipif(not LISTINGS.exists(), reason="real HEFs are not beside the repository")
pytestmark = needs_real_files


@pytest.mark.parametrize("name", REAL)
def test_lists_a_real_file_as_the_vendor_does(name: str) -> None:
    blocks = dict(block.split("\n", 1) for block in LISTINGS.read_text().split("######## ")[1:])
    expected = blocks[name].removesuffix("exit=0\n")
    assert like_hailortcli(hef.read(DATA / name)).splitlines() == expected.splitlines()


def test_every_listing_of_the_vendor_is_tested() -> None:
    assert [block.split("\n", 1)[0] for block in LISTINGS.read_text().split("######## ")[1:]] == REAL


@pytest.mark.parametrize(
    ("name", "container", "arch", "sdk", "contexts", "fps", "latency_ms"),
    [
        ("mnist_cnn_head.hef", 0, ("HAILO8", 1), "3.27.0", 1, 141093.47, 0.06014),
        ("rpicam_yolov5n_seg_h8.hef", 1, ("HAILO8", 1), "3.29.0", 1, 184.4437, 47.2147),
        ("soramimi_model_3x640x640.hef", 1, ("HAILO8L", 3), "3.29.0", 1, 767.7794, 10.42898),
        ("takumi_yolov8n.hef", 2, ("HAILO8", 1), "3.31.0", 1, 973.1721, 9.97747),
        ("h10h_face_landmarks_lite.hef", 3, ("HAILO15H", 103), "5.4.0", 2, 5341.167, 0.54097),
    ],
)
def test_reads_header_and_the_compilers_estimates(
    name: str, container: int, arch: tuple[str, int], sdk: str, contexts: int, fps: float, latency_ms: float
) -> None:
    found = hef.read(DATA / name)
    (group,) = found.groups
    assert (found.container_version, (found.hw_arch, found.hw_arch_number), found.sdk_version) == (
        container,
        arch,
        sdk,
    )
    assert group.contexts == contexts
    assert group.compiler_fps == pytest.approx(fps, rel=1e-4)
    assert group.compiler_latency_ms == pytest.approx(latency_ms, rel=1e-4)
    assert not found.is_emulated
    assert not found.is_truncated
    assert 1.7e12 < (found.timestamp_ms or 0) < 1.8e12


def test_a_padded_16_bit_output_has_both_shapes_and_its_quantization() -> None:
    (group,) = hef.read(DATA / "rpicam_yolov5n_seg_h8.hef").groups
    hardware = next(stream for stream in group.streams if stream.name == "yolov5n_seg/conv48")
    virtual = next(stream for stream in group.outputs if stream.name == "yolov5n_seg/conv48")
    assert (hardware.shape, virtual.shape, virtual.dtype) == ((80, 80, 352), (80, 80, 351), "UINT16")
    assert (virtual.zero_point, virtual.scale) == (25797.0, pytest.approx(9.538221e-4))
    assert virtual.original_names == ("Conv_209",)


@pytest.mark.parametrize("name", REAL)
def test_checksums_of_real_files_hold_until_one_byte_changes(name: str, tmp_path: Path) -> None:
    hef.read(DATA / name, verify=True)
    content = bytearray((DATA / name).read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / name
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="its header says"):
        hef.read(damaged, verify=True)


def test_a_file_truncated_behind_its_description_is_listed_and_says_so(tmp_path: Path) -> None:
    whole = DATA / "arcface_dilakshan_v3.hef"
    cut = tmp_path / "cut.hef"
    cut.write_bytes(whole.read_bytes()[:1_000_000])
    found = hef.read(cut)
    assert found.is_truncated
    assert (found.actual_bytes, found.expected_bytes) == (1_000_000, whole.stat().st_size)
    assert found.groups == hef.read(whole).groups
    with pytest.raises(InputError, match="truncated, 1,000,000 of 2,663,880 bytes"):
        hef.read(cut, verify=True)


def test_a_file_truncated_inside_its_description_is_listed_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = DATA / "rpicam_yolov5n_seg_h8.hef"
    cut = tmp_path / "cut.hef"
    cut.write_bytes(whole.read_bytes()[:1_000_000])
    found = hef.read(cut)
    assert found.is_truncated
    assert found.is_description_cut
    assert not hef.read(whole).is_description_cut
    assert found.groups[0].outputs == hef.read(whole).groups[0].outputs
    cut.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(InputError, match="before the first network group, 100 of 3,964,230 bytes"):
        hef.read(cut)


@pytest.mark.parametrize("name", REAL)
def test_the_parts_make_up_the_whole(name: str) -> None:
    found = hef.read(DATA / name)
    assert found.parts.total_bytes == found.actual_bytes == (DATA / name).stat().st_size
