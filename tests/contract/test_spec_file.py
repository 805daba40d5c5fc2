"""A spec where it lies, in a folder and in S3: what it names lies beside it, and what is wrong with it is told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hefjoin.errors import SpecError, StoreError
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.spec_file import MOST_BYTES, one_spec, read_spec
from tests.moto_server import client_of, moto_server
from tests.tiny import pair

Lay = Callable[[str, bytes], str]
"""Lays a file there and returns its address."""


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of moto, to which the environment points for the whole module, with the bucket `nets`."""
    with moto_server() as address, client_of(address) as client:
        client.create_bucket(Bucket="nets")
        yield client


@pytest.fixture(params=["folder", "S3"])
def lay(request: pytest.FixtureRequest, tmp_path: Path, bucket: Any) -> Lay:
    def in_folder(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    def in_s3(name: str, content: bytes) -> str:
        bucket.put_object(Bucket="nets", Key=f"specs/new/{name}", Body=content)
        return f"s3://nets/specs/new/{name}"

    return in_folder if request.param == "folder" else in_s3


def refusal(uri: str) -> str:
    with pytest.raises(SpecError) as caught:
        read_spec(uri)
    assert uri in str(caught.value)
    return str(caught.value)


class TestEverywhere:
    def test_yaml_and_json_read_the_same(self, lay: Lay) -> None:
        as_yaml = lay("pair.yaml", yaml.safe_dump(pair()).encode())
        assert read_spec(as_yaml) == read_spec(lay("pair.json", json.dumps(pair()).encode()))

    def test_what_it_names_lies_beside_it(self, lay: Lay) -> None:
        uri = lay("pair.yaml", yaml.safe_dump(pair()).encode())
        spec = read_spec(uri)
        folder = uri.rpartition("/")[0]
        assert [model.source for model in spec.models] == [f"{folder}/left.onnx", f"{folder}/right.onnx"]
        assert spec.calibration.source == f"{folder}/images.npy"
        assert spec.evaluation.source == ""

    def test_what_says_where_it_lies_stays(self, lay: Lay) -> None:
        raw = copy.deepcopy(pair())
        raw["models"][0]["source"] = "package://rapidocr/det.onnx"
        raw["models"][1]["source"] = "/models/right.har"
        raw["calibration"]["source"] = "s3://bucket/frames/"
        raw["evaluation"] = {"source": ["s3://b/1.png", "s3://b/2.png"]}
        raw["dfc_python"] = "python3.10"
        spec = read_spec(lay("pair.yaml", yaml.safe_dump(raw).encode()))
        assert [model.source for model in spec.models] == ["package://rapidocr/det.onnx", "/models/right.har"]
        assert spec.calibration.source == "s3://bucket/frames/"
        assert spec.evaluation.source == "s3://b/1.png\ns3://b/2.png"
        assert spec.dfc_python == "python3.10"

    def test_every_problem_is_listed(self, lay: Lay) -> None:
        raw = pair(name="Tiny Pair", calibration={"source": "images.npy", "count": 0})
        message = refusal(lay("pair.yaml", yaml.safe_dump(raw).encode()))
        assert "has 2 problems:\n" in message
        assert "\n  name: 'Tiny Pair' does not match" in message
        assert "\n  calibration.count: should be greater than or equal to 1, is 0" in message

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"name: [", "is not YAML"),
            (b"name: 2024-13-45", "is not YAML"),
            (b"[" * 5000, "is not YAML"),
            (b"\xff\xfe\x00", "cannot be read"),
            (b"", "a mapping of fields is wanted"),
            (b" " * (MOST_BYTES + 1), "is no spec, which is a short text"),
        ],
    )
    def test_what_is_no_spec_is_refused_by_its_name(self, lay: Lay, content: bytes, message: str) -> None:
        assert message in refusal(lay("pair.yaml", content))

    def test_aliases_within_aliases_are_not_followed_for_ever(self, lay: Lay) -> None:
        lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
        lines += [
            f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ]
        message = refusal(lay("pair.yaml", "\n".join([*lines, "name: *i"]).encode()))
        assert "perhaps by aliases within aliases" in message
        assert len(message) < 300


class TestInAFolder:
    def test_paths_are_seen_from_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = copy.deepcopy(pair())
        raw["models"][0]["source"] = "../left.onnx"
        raw["dfc_python"] = "dfc/bin/python"
        raw["models"][1]["script"] = 'nms_postprocess("nms.json", meta_arch=ssd)'
        (tmp_path / "specs").mkdir()
        (tmp_path / "specs" / "pair.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        spec = read_spec("specs/pair.yaml")
        assert spec == read_spec(Path("specs/pair.yaml"))
        assert spec.models[0].source == f"{tmp_path}/specs/../left.onnx"
        assert spec.dfc_python == f"{tmp_path}/specs/dfc/bin/python"
        assert spec.models[1].script == f'nms_postprocess("{tmp_path}/specs/nms.json", meta_arch=ssd)'

    def test_a_missing_file_says_how_to_get_one(self, tmp_path: Path) -> None:
        assert "hefjoin example" in refusal(str(tmp_path / "pair.yaml"))

    def test_a_folder_is_no_spec(self, tmp_path: Path) -> None:
        assert "cannot be read" in refusal(str(tmp_path))

    def test_what_never_ends_is_not_read_to_its_end(self) -> None:
        assert "is no spec" in refusal("/dev/zero")


class TestInS3:
    def test_a_path_may_lead_up_to_the_bucket_and_keeps_its_slash(self, bucket: Any) -> None:
        raw = copy.deepcopy(pair())
        raw["models"][0]["source"] = "../../onnx/./left.onnx"
        raw["models"][1]["source"] = "../../../../right.onnx"
        raw["calibration"]["source"] = "images/"
        bucket.put_object(Bucket="nets", Key="specs/new/up.yaml", Body=yaml.safe_dump(raw).encode())
        spec = read_spec("s3://nets/specs/new/up.yaml")
        assert [model.source for model in spec.models] == ["s3://nets/onnx/left.onnx", "s3://nets/right.onnx"]
        assert spec.calibration.source == "s3://nets/specs/new/images/"

    def test_one_at_the_top_of_a_bucket(self, bucket: Any) -> None:
        bucket.put_object(Bucket="nets", Key="top.yaml", Body=yaml.safe_dump(pair()).encode())
        assert read_spec("s3://nets/top.yaml").models[0].source == "s3://nets/left.onnx"

    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            ("s3://nets/nowhere.yaml", "no such object"),
            ("s3://nets/", "names no key"),
            ("s3://nets", "names no key"),
            ("s3://elsewhere/pair.yaml", "Create the bucket, or correct its name"),
            ("https://nets/pair.yaml", "is neither a path nor s3://bucket/key"),
        ],
    )
    def test_an_address_at_which_nothing_lies(self, bucket: Any, uri: str, message: str) -> None:
        del bucket
        assert message in refusal(uri)

    def test_a_server_out_of_reach_is_no_fault_of_the_spec(self, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        del bucket
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(StoreError) as caught:
            read_spec("s3://nets/pair.yaml")
        assert caught.value.is_transient


class TestOneOfTwo:
    def test_a_spec_is_taken_as_it_is_or_as_json_gave_it(self) -> None:
        spec = validate_spec(pair())
        assert one_spec(spec, "") is spec
        assert one_spec(pair(), "") == spec

    def test_a_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "pair.json").write_text(json.dumps(pair()), encoding="utf-8")
        assert isinstance(one_spec(None, str(tmp_path / "pair.json")), BuildSpec)

    @pytest.mark.parametrize(
        ("spec", "spec_file", "message"),
        [
            (pair(), "pair.yaml", "both spec and spec_file (pair.yaml) are given; leave one of them out"),
            (None, "", "neither spec nor spec_file is given; fill in one of them"),
            ({}, "", "name: is required"),
        ],
    )
    def test_both_none_and_half_of_one_are_refused(self, spec: Any, spec_file: str, message: str) -> None:
        with pytest.raises(SpecError) as caught:
            one_spec(spec, spec_file)
        assert message in str(caught.value)
