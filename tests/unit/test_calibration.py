"""Calibration sets: what is read from each source, what is refused, and the health that is reported."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from hefjoin.calibration import Frames, Health, open_frames, set_sha256, write_npy
from hefjoin.errors import CalibrationError, StoreError

Array = NDArray[Any]


def opened(source: Path, *, count: int = 100, **changes: Any) -> Frames:
    return open_frames(source, **{"height": 8, "width": 12, "channels": 3, **changes}, count=count)


def content(frames: Frames, size: int = 3) -> Array:
    return np.concatenate(list(frames.batches(size)))


def refusal(source: Path, **changes: Any) -> str:
    with pytest.raises(CalibrationError) as caught:
        content(opened(source, **changes))
    return str(caught.value)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(folder: Path, name: str, pixels: Array, **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name, **options)
    return folder


def health_of(tmp_path: Path, array: Array, **changes: Any) -> Health:
    np.save(tmp_path / "set.npy", array)
    return write_npy(opened(tmp_path / "set.npy", **changes), tmp_path / "out.npy")


class TestImages:
    def test_taken_by_name_without_regard_to_case(self, tmp_path: Path) -> None:
        frames = noise(4, 8, 12, 3)
        for name, frame in zip(["a.png", "B.PNG", "c.bmp", "d.webp"], frames, strict=True):
            save(tmp_path, name, frame, **({"lossless": True} if name == "d.webp" else {}))
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "._a.png").write_bytes(b"no image")
        np.testing.assert_array_equal(content(opened(tmp_path)), frames)

    def test_skip_and_count(self, tmp_path: Path) -> None:
        frames = noise(5, 8, 12, 3)
        for index, frame in enumerate(frames):
            save(tmp_path, f"{index}.png", frame)
        taken = opened(tmp_path, skip=1, count=3)
        assert [len(batch) for batch in taken.batches(2)] == [2, 1]
        np.testing.assert_array_equal(content(taken), frames[1:4])

    def test_bgr_reverses_the_channels(self, tmp_path: Path) -> None:
        frame = noise(8, 12, 3)
        save(tmp_path, "a.png", frame)
        np.testing.assert_array_equal(content(opened(tmp_path, color="bgr"))[0], frame[:, :, ::-1])

    def test_one_channel_is_grey(self, tmp_path: Path) -> None:
        frame = noise(8, 12)
        save(tmp_path, "a.png", frame)
        np.testing.assert_array_equal(content(opened(tmp_path, channels=1))[0, :, :, 0], frame)
        np.testing.assert_array_equal(content(opened(tmp_path))[0], np.stack([frame] * 3, axis=-1))

    def test_the_camera_s_orientation_is_honoured(self, tmp_path: Path) -> None:
        upright = noise(8, 12, 3)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown after a quarter-turn clockwise
        save(tmp_path, "a.png", np.ascontiguousarray(np.rot90(upright)), exif=exif)
        np.testing.assert_array_equal(content(opened(tmp_path))[0], upright)

    def test_larger_images_are_scaled_to_cover_and_cropped_around_the_centre(self, tmp_path: Path) -> None:
        wide = np.zeros((16, 64, 3), np.uint8)
        wide[:, 20:44] = (10, 200, 60)  # the 24 columns that remain when 12x8 is cut from 32x8
        save(tmp_path, "a.png", wide)
        frame = content(opened(tmp_path))[0]
        assert frame.shape == (8, 12, 3)
        np.testing.assert_array_equal(frame[:, 1:-1], np.broadcast_to([10, 200, 60], (8, 10, 3)))

    def test_transparency_and_palettes(self, tmp_path: Path) -> None:
        image = Image.fromarray(noise(8, 12, 3)).quantize(16)
        image.save(tmp_path / "a.png", transparency=bytes([0] * 16))
        np.testing.assert_array_equal(content(opened(tmp_path))[0], np.asarray(image.convert("RGB")))

    def test_all_unreadable_images_are_listed(self, tmp_path: Path) -> None:
        save(tmp_path, "a.png", noise(8, 12, 3))
        (tmp_path / "b.jpg").write_bytes(b"not a picture")
        save(tmp_path, "c.png", noise(40, 40, 3))
        (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:400])
        save(tmp_path, "d.png", np.arange(96, dtype=np.uint16).reshape(8, 12))
        message = refusal(tmp_path)
        assert "3 of 4 images" in message
        assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == ["b.jpg", "c.png", "d.png"]
        assert "8 bits" in message

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        assert "holds no images" in refusal(tmp_path)

    def test_channels_no_image_has(self, tmp_path: Path) -> None:
        assert "1 or 3 channels, wanted 4" in refusal(save(tmp_path, "a.png", noise(8, 12, 3)), channels=4)


class TestArrays:
    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".compressed.npz"])
    def test_frames_come_as_saved(self, tmp_path: Path, dtype: str, suffix: str) -> None:
        array = noise(10, 8, 12, 3).astype(dtype)
        path = tmp_path / f"set{suffix}"
        if suffix == ".npy":
            np.save(path, array)
        else:
            (np.savez_compressed if "compressed" in suffix else np.savez)(path, images=array, other=array)
        frames = opened(path, skip=2, count=7, color="bgr")
        assert (frames.count, frames.dtype) == (7, dtype)
        for _ in range(2):  # can be read again
            np.testing.assert_array_equal(content(frames), array[2:9])

    def test_what_lies_beside_the_frames_is_described_and_read_in_rows(self, tmp_path: Path) -> None:
        masks = noise(6, 4, 5)
        np.savez_compressed(tmp_path / "set.npz", only=noise(6, 8, 12, 3), masks=masks, names=np.array(["a", "bc"]))
        frames = opened(tmp_path / "set.npz", skip=1, count=3)
        assert (frames.skipped, frames.count, frames.available) == (1, 3, 6)
        assert {name: (array.shape, str(array.dtype)) for name, array in frames.beside.items()} == {
            "masks": ((6, 4, 5), "uint8"), "names": ((2,), "<U2"),
        }  # fmt: skip
        assert frames.beside["names"].read is not frames.beside["masks"].read
        batches = list(frames.beside["masks"].read(1, 4, 2))
        assert [len(batch) for batch in batches] == [2, 1]
        np.testing.assert_array_equal(np.concatenate(batches), masks[1:4])

    def test_an_npz_must_say_which_array_holds_the_frames(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "set.npz", a=noise(6, 8, 12, 3), b=noise(6, 8, 12, 3))
        assert "no array `images`" in refusal(tmp_path / "set.npz")
        assert "it has a, b" in refusal(tmp_path / "set.npz")

    def test_nchw_is_recognised(self, tmp_path: Path) -> None:
        np.save(tmp_path / "set.npy", noise(6, 3, 8, 12))
        message = refusal(tmp_path / "set.npy", what="evaluation set")
        assert message.startswith("evaluation set: ")
        assert "shape (6, 3, 8, 12), wanted (frames, 8, 12, 3)" in message
        assert "transpose(0, 2, 3, 1)" in message

    @pytest.mark.parametrize(
        ("array", "part"),
        [
            (noise(6, 8, 10, 3), "shape (6, 8, 10, 3)"),
            (noise(8, 12, 3), "shape (8, 12, 3)"),
            (np.zeros((2, 8, 12, 3)), "holds float64"),
            (np.zeros((2, 8, 12, 3), ">f4"), "holds >f4"),
            (np.asfortranarray(noise(2, 8, 12, 3)), "Fortran"),
            (noise(0, 8, 12, 3), "has 0 frames"),
        ],
    )
    def test_arrays_of_another_kind(self, tmp_path: Path, array: Array, part: str) -> None:
        np.save(tmp_path / "set.npy", array)
        message = refusal(tmp_path / "set.npy")
        assert part in message
        assert "transpose" not in message

    def test_truncated(self, tmp_path: Path) -> None:
        np.save(tmp_path / "set.npy", noise(6, 8, 12, 3))
        data = (tmp_path / "set.npy").read_bytes()
        (tmp_path / "set.npy").write_bytes(data[:-1])
        assert f"truncated: {len(data) - 1:,} of {len(data):,} bytes" in refusal(tmp_path / "set.npy")

    def test_damage_inside_an_npz(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "set.npz", images=noise(6, 8, 12, 3))
        data = bytearray((tmp_path / "set.npz").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "set.npz").write_bytes(data)
        assert "cannot be read: Bad CRC-32" in refusal(tmp_path / "set.npz")

    def test_nothing_left_after_skipping(self, tmp_path: Path) -> None:
        np.save(tmp_path / "set.npy", noise(6, 8, 12, 3))
        assert "has 6 frames; none is left after the first 6" in refusal(tmp_path / "set.npy", skip=6)

    @pytest.mark.parametrize("name", ["none.npy", "none"])
    def test_missing(self, tmp_path: Path, name: str) -> None:
        assert "does not exist" in refusal(tmp_path / name)

    def test_another_type_of_file(self, tmp_path: Path) -> None:
        (tmp_path / "set.zip").write_bytes(b"")
        assert "neither a folder of images nor a .npy or .npz" in refusal(tmp_path / "set.zip")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
    @given(st.data())
    def test_any_bytes_give_frames_or_an_error_of_ours(self, tmp_path: Path, data: st.DataObject) -> None:
        valid = io.BytesIO()
        np.save(valid, noise(1, 8, 12, 3))
        content_bytes = bytearray(valid.getvalue())
        for position in data.draw(st.lists(st.integers(0, 127), max_size=3)):
            content_bytes[position] = data.draw(st.integers(0, 127))
        content_bytes = content_bytes[: data.draw(st.integers(0, len(content_bytes)))]
        (tmp_path / "set.npy").write_bytes(content_bytes)
        with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
            archive.writestr("images.npy", bytes(content_bytes))
        for name in ("set.npy", "set.npz"):
            try:
                assert content(opened(tmp_path / name)).shape[1:] == (8, 12, 3)
            except CalibrationError as error:
                assert name in str(error)  # noqa: PT017


class TestWriting:
    def test_the_file_holds_the_frames_and_nothing_else_is_left(self, tmp_path: Path) -> None:
        array = noise(10, 8, 12, 3)
        np.save(tmp_path / "set.npy", array)
        (tmp_path / "out").mkdir()
        write_npy(opened(tmp_path / "set.npy", count=9), tmp_path / "out" / "frames.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "frames.npy"), array[:9])
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["frames.npy"]

    def test_images_in_bgr(self, tmp_path: Path) -> None:
        frame = noise(8, 12, 3)
        write_npy(opened(save(tmp_path / "in", "a.png", frame), color="bgr"), tmp_path / "out.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[0], frame[:, :, ::-1])

    def test_nothing_is_left_of_a_failure(self, tmp_path: Path) -> None:
        save(tmp_path / "in", "a.png", noise(8, 12, 3))
        (tmp_path / "in" / "b.png").write_bytes(b"no picture")
        with pytest.raises(CalibrationError):
            write_npy(opened(tmp_path / "in"), tmp_path / "out.npy")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        save(tmp_path / "in", "a.png", noise(8, 12, 3))
        with pytest.raises(StoreError, match="cannot be written"):
            write_npy(opened(tmp_path / "in"), tmp_path / "none" / "out.npy")

    def test_memory_does_not_grow_with_the_set(self, tmp_path: Path) -> None:
        with (tmp_path / "set.npy").open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (1024, 224, 224, 3)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + 1024 * 224 * 224 * 3)
        code = (
            "import resource; from pathlib import Path; from hefjoin.calibration import open_frames, write_npy\n"
            "def peak_kib(count):\n"
            "    frames = open_frames(Path('set.npy'), height=224, width=224, channels=3, count=count)\n"
            "    write_npy(frames, Path('out.npy'))\n"
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(-peak_kib(1) + peak_kib(1024))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert 0 <= int(done.stdout) < 32 * 1024  # KiB; the set has 147 MiB
        assert (tmp_path / "out.npy").stat().st_size == (tmp_path / "set.npy").stat().st_size


class TestHealth:
    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_figures(self, tmp_path: Path, dtype: str) -> None:
        array = noise(40, 8, 12, 3).astype(dtype)
        health = health_of(tmp_path, array, count=40)
        assert (health.requested, health.count, health.dtype) == (40, 40, dtype)
        assert (health.min, health.max) == (array.min(), array.max())
        np.testing.assert_allclose(health.mean, array.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(health.std, array.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-9)
        assert (health.duplicates, health.blanks, health.looks_normalised, health.notes) == (0, 0, False, ())

    def test_what_is_wrong_is_counted_and_said(self, tmp_path: Path) -> None:
        array = noise(10, 8, 12, 3)
        array[3] = array[7] = array[0]
        array[5] = 40
        health = health_of(tmp_path, array, count=64)
        assert (health.duplicates, health.blanks) == (2, 1)
        assert health.notes == (
            "64 frames asked for, 10 there: all of them are used",
            "2 of 10 frames are exact copies of an earlier one: 3 = 0, 7 = 0",
            "1 of 10 frames are blank, one value only: 5",
        )

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.1, 2.6), (-1.0, 200.0)])
    def test_normalized_frames_are_recognised(self, tmp_path: Path, low: float, high: float) -> None:
        array = np.linspace(low, high, 2 * 8 * 12 * 3, dtype=np.float32).reshape(2, 8, 12, 3)
        health = health_of(tmp_path, array, count=2)
        assert health.looks_normalised
        assert f"from {low:g} to {high:g}" in health.notes[0]

    def test_frames_that_differ_in_range_from_the_others_are_named(self, tmp_path: Path) -> None:
        array = noise(30, 8, 12, 3).astype(np.float32)
        array[[4, 17]] /= 255
        array[9] = 0  # blank, and on any range
        health = health_of(tmp_path, array, count=30)
        assert not health.looks_normalised
        assert health.notes == (
            "1 of 30 frames are blank, one value only: 9",
            "2 of 30 frames have no value above 1, where 0–255 is expected: 4, 17",
        )
        array[20] -= 300
        assert health_of(tmp_path, array, count=30).notes[1].endswith(" as 0–255 (3 of 30 frames: 4, 17, 20)")
        array[20] += 4000
        assert health_of(tmp_path, array, count=30).notes[-1].endswith("beyond 0–255 (1 of 30 frames: 20)")

    def test_the_first_are_named_and_the_others_counted(self, tmp_path: Path) -> None:
        array = np.full((30, 8, 12, 3), 7, np.uint8)
        notes = health_of(tmp_path, array, count=30).notes
        assert notes[0].endswith(": 1 = 0, 2 = 0, 3 = 0, 4 = 0, 5 = 0, 6 = 0, 7 = 0, 8 = 0, 9 = 0, 10 = 0 and 19 more")
        assert notes[1].endswith(": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more")
        nan = array.astype(np.float32) * np.nan
        with pytest.raises(CalibrationError, match=r"30 of 30 frames hold NaN or infinity: 0, 1, .*9 and 20 more"):
            health_of(tmp_path, nan, count=30)

    def test_the_index_is_that_in_the_source(self, tmp_path: Path) -> None:
        array = noise(20, 8, 12, 3)
        array[13], array[15] = 0, array[11]
        assert health_of(tmp_path, array, count=10, skip=10).notes == (
            "1 of 10 frames are exact copies of an earlier one: 15 = 11",
            "1 of 10 frames are blank, one value only: 13",
        )

    def test_images_are_named_by_their_file_too(self, tmp_path: Path) -> None:
        frames = [noise(8, 12, 3, seed=index % 4) for index in range(6)]
        frames[2][:] = 0
        for name, frame in zip("abcdef", frames, strict=True):
            save(tmp_path / "in", f"{name}.png", frame)
        health = write_npy(opened(tmp_path / "in", count=5, skip=1), tmp_path / "out.npy")
        assert health.notes == (
            "1 of 5 frames are exact copies of an earlier one: 5 (f.png) = 1 (b.png)",
            "1 of 5 frames are blank, one value only: 2 (c.png)",
        )

    def test_values_beyond_255(self, tmp_path: Path) -> None:
        health = health_of(tmp_path, np.linspace(0, 4095, 288, dtype=np.float32).reshape(1, 8, 12, 3), count=1)
        assert not health.looks_normalised
        assert health.notes == ("values run from 0 to 4095, beyond 0–255",)

    def test_frames_that_are_not_finite_are_named(self, tmp_path: Path) -> None:
        array = noise(9, 8, 12, 3).astype(np.float32)
        array[2, 0, 0, 0], array[7, 1, 1, 1] = np.nan, np.inf
        with pytest.raises(CalibrationError, match="2 of 9 frames hold NaN or infinity: 2, 7"):
            health_of(tmp_path, array)
        assert not (tmp_path / "out.npy").exists()

    def test_survives_json(self, tmp_path: Path) -> None:
        health = health_of(tmp_path, noise(2, 8, 12, 3))
        assert Health.model_validate_json(health.model_dump_json()) == health


class TestDigest:
    def test_a_folder_s_digest_is_that_of_its_images_and_their_names(self, tmp_path: Path) -> None:
        save(tmp_path, "a.png", noise(8, 12, 3))
        save(tmp_path, "b.png", noise(8, 12, 3, seed=1))
        digest = set_sha256(tmp_path)
        (tmp_path / "notes.txt").write_text("ignored")
        assert set_sha256(tmp_path) == digest
        (tmp_path / "b.png").rename(tmp_path / "c.png")
        renamed = set_sha256(tmp_path)
        save(tmp_path, "c.png", noise(8, 12, 3, seed=2))
        assert len({digest, renamed, set_sha256(tmp_path)}) == 3

    def test_a_file_s_digest_is_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "set.npy").write_bytes(b"abc")
        assert set_sha256(tmp_path / "set.npy") == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
