"""Which specs a catalogue has, which of them use a source, and what may be put where they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hefjoin.artifacts import file_sha256
from hefjoin.catalogue.listing import is_used, listed, specs_in
from hefjoin.catalogue.put import put
from hefjoin.errors import InputError
from hefjoin.spec import BuildSpec, validate_spec
from tests.tiny import classifier, pair, write_model


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    (folder / "pair").mkdir(parents=True)
    for name in ("b.yaml", "a.yml", "c.JSON", ".hidden.yaml", "notes.txt", "pair/nms.json"):
        (folder / name).touch()
    return folder


class TestListing:
    def test_the_specs_right_in_a_folder_in_the_order_of_their_names(self, catalogue: Path) -> None:
        assert [Path(each).name for each in specs_in(str(catalogue))] == ["a.yml", "b.yaml", "c.JSON"]

    def test_one_spec_is_a_catalogue_of_one(self) -> None:
        assert specs_in("s3://nets/specs/a.yaml") == ["s3://nets/specs/a.yaml"]

    def test_a_folder_without_any_and_no_folder(self, catalogue: Path) -> None:
        (catalogue / "empty").mkdir()
        with pytest.raises(InputError, match="holds no specs"):
            specs_in(str(catalogue / "empty"))
        with pytest.raises(InputError, match="is no folder of specs and no spec"):
            specs_in(str(catalogue / "gone"))

    def test_lines_are_specs_and_folders_each_spec_once(self, catalogue: Path) -> None:
        text = f"\n  {catalogue}/b.yaml\n{catalogue}/\n\nother.json\n"
        assert [Path(each).name for each in listed(text)] == ["b.yaml", "a.yml", "c.JSON", "other.json"]

    def test_all_wrong_lines_are_told(self, catalogue: Path) -> None:
        with pytest.raises(InputError) as caught:
            listed(f"{catalogue}/gone\n{catalogue}\n{catalogue}/notes.txt")
        assert [line.rpartition("/")[2].split()[0] for line in caught.value.message.splitlines()] == [
            "gone",
            "notes.txt",
        ]
        with pytest.raises(InputError, match="no specs are named"):
            listed(" \n")


def spec_of(**sources: Any) -> BuildSpec:
    return validate_spec(pair(**sources))


@pytest.mark.parametrize(
    ("calibration", "uri", "uses"),
    [
        ("/set", "/set", True),
        ("/set", "/set/day/1.png", True),
        ("/set", "/settle/1.png", False),
        ("s3://b/set/", "s3://b/set/1.png", True),
        ("s3://b/set/", "s3://b/sets", False),
        ("s3://b/1.png\ns3://b/2.png", "s3://b/2.png", True),
        ("s3://b/1.png\ns3://b/2.png", "s3://b/3.png", False),
        ("s3://b/list.txt", "s3://b/list.txt", True),
        ("/set.npy", "file:///set.npy", True),
        ("/set.npy", "s3://b/set.npy", False),
    ],
)
def test_a_spec_uses_what_it_names_lists_or_has_below_it(calibration: str, uri: str, uses: bool) -> None:
    assert is_used(spec_of(calibration={"source": calibration}), uri) is uses


class TestPut:
    def test_a_model_is_where_it_was_put_and_the_second_time_is_nothing_new(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "a.onnx", seed=1, classes=3)
        target = tmp_path / "models" / "faces.onnx"
        (first,) = put(model, str(target))
        assert (first.uri, first.sha256, first.is_new) == (str(target), file_sha256(model), True)
        assert target.read_bytes() == model.read_bytes()
        before = target.stat().st_mtime_ns
        (second,) = put(model, str(target))
        assert not second.is_new
        assert target.stat().st_mtime_ns == before
        assert sorted(path.name for path in target.parent.iterdir()) == ["faces.onnx"]

    def test_a_folder_takes_it_under_its_own_name(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "a.onnx", seed=1, classes=3)
        (placed,) = put(model, f"{tmp_path}/new/")
        assert placed.uri == f"{tmp_path}/new/a.onnx"

    def test_weights_beside_a_model_go_before_it(self, tmp_path: Path) -> None:
        source, target = tmp_path / "from", tmp_path / "to"
        source.mkdir()
        onnx.save(classifier(1, 3), source / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
        placed = put(source / "a.onnx", str(target / "b.onnx"))
        assert [Path(each.uri).name for each in placed] == ["a.data", "b.onnx"]
        onnx.checker.check_model(str(target / "b.onnx"))
        (source / "a.data").write_bytes(b"")
        with pytest.raises(InputError, match="its external weights cannot be read"):
            put(source / "a.onnx", str(target / "c.onnx"))
        assert not (target / "c.onnx").exists()

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.onnx", b"not a model", "a.onnx"),
            ("a.har", b"not an archive", "a.har"),
            ("a.npy", b"\x93NUMPY\x01\x00", "save it again with numpy"),
            ("a.npz", b"PK\x03\x04", "save it again with numpy"),
            ("a.hef", b"", "is none of .onnx, .har, .npy, .npz"),
        ],
    )
    def test_what_no_build_could_read_is_refused(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            put(tmp_path / name, str(tmp_path / "there" / name))
        assert not (tmp_path / "there").exists()

    def test_frames_are_read_to_their_end(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 3), np.uint8))
        np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
        for name in ("a.npy", "a.npz"):
            assert put(tmp_path / name, f"{tmp_path}/there/")[0].is_new
            whole = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(whole[: len(whole) // 2])
            with pytest.raises(InputError, match="cannot be read"):
                put(tmp_path / name, f"{tmp_path}/there/")
            assert (tmp_path / "there" / name).read_bytes() == whole

    def test_the_end_of_the_name_says_what_it_is(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "a.onnx", seed=1, classes=3)
        with pytest.raises(InputError, match="knows by the end of a name"):
            put(model, str(tmp_path / "a.har"))
        with pytest.raises(InputError, match="neither s3://bucket/key nor a path"):
            put(model, "https://host/a.onnx")
