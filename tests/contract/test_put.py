"""Models put to S3 and catalogues listed there, against moto's real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hefjoin.artifacts import file_sha256
from hefjoin.catalogue.listing import specs_in
from hefjoin.catalogue.put import put
from hefjoin.errors import InputError, StoreError
from tests.moto_server import client_of, moto_server
from tests.tiny import write_model


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with moto_server() as address, client_of(address) as client:
        client.create_bucket(Bucket="nets")
        yield client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "a.onnx", seed=1, classes=3)


def test_the_specs_right_below_a_prefix(client: Any) -> None:
    for key in ("specs/b.yaml", "specs/a.json", "specs/.c.yaml", "specs/pair/nms.json", "specs/a.onnx", "specs.yaml"):
        client.put_object(Bucket="nets", Key=key, Body=b"")
    for prefix in ("s3://nets/specs", "s3://nets/specs/"):
        assert specs_in(prefix) == ["s3://nets/specs/a.json", "s3://nets/specs/b.yaml"]
    with pytest.raises(InputError, match=r"s3://nets/none holds no specs"):
        specs_in("s3://nets/none")


def test_an_object_is_the_file_with_its_digest_and_is_not_put_twice(client: Any, model: Path) -> None:
    (first,) = put(model, "s3://nets/models/")
    there = client.get_object(Bucket="nets", Key="models/a.onnx")
    assert (first.uri, first.is_new) == ("s3://nets/models/a.onnx", True)
    assert there["Body"].read() == model.read_bytes()
    assert there["Metadata"]["sha256"] == first.sha256 == file_sha256(model)
    (second,) = put(model, "s3://nets/models/a.onnx")
    assert not second.is_new
    assert client.head_object(Bucket="nets", Key="models/a.onnx")["LastModified"] == there["LastModified"]


def test_what_somebody_else_put_there_is_replaced(client: Any, model: Path) -> None:
    client.put_object(Bucket="nets", Key="other.onnx", Body=b"x" * model.stat().st_size)
    assert put(model, "s3://nets/other.onnx")[0].is_new
    assert client.get_object(Bucket="nets", Key="other.onnx")["Body"].read() == model.read_bytes()


def test_a_bucket_that_is_not_there(client: Any, model: Path) -> None:
    del client
    with pytest.raises(StoreError, match="Create the bucket"):
        put(model, "s3://nowhere/a.onnx")
