"""A build whose models and images lie in S3: the second run downloads nothing and reuses every stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.build import join_and_compile
from hefjoin.manifest import Manifest
from hefjoin.sources import held
from hefjoin.sources.bucket import Server, Version
from hefjoin.spec import validate_spec
from tests.moto_server import client_of, moto_server
from tests.tiny import images, pair, write_pair

pytestmark = pytest.mark.long


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An empty bucket `bkt`, on a server to which the environment points."""
    with moto_server() as address, client_of(address) as client:
        client.create_bucket(Bucket="bkt")
        yield client


def test_a_build_from_s3_is_repeated_from_the_cache_and_from_a_folder(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HEFJOIN_WORK", str(tmp_path / "work"))
    downloads: list[str] = []
    real = Server.download

    def download(self: Server, version: Version, path: Path) -> str:
        downloads.append(version.key)
        return real(self, version, path)

    monkeypatch.setattr(Server, "download", download)
    write_pair(tmp_path)
    for name in ("left.onnx", "right.onnx"):
        bucket.upload_file(str(tmp_path / name), "bkt", f"nets/{name}")
    for index, image in enumerate(images(32)):
        path = tmp_path / "images" / f"{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        bucket.upload_file(str(path), "bkt", f"images/{index % 2}/{index}.png")
    raw = pair(calibration={"source": "s3://bkt/images/", "count": 16})
    for model in raw["models"]:
        model["source"] = f"s3://bkt/nets/{model['source']}"

    def build() -> Manifest:
        return join_and_compile(validate_spec(raw), store=str(tmp_path / "store"), sdk="emulator").manifest

    first = build()
    assert len(downloads) == 34
    assert build().build_id == first.build_id, "nothing changed, so there is no new build"
    assert len(downloads) == 34
    raw["calibration"]["source"] = str(tmp_path / "images")
    third = build()
    assert third.build_id != first.build_id
    assert [run.reason for run in third.stages if not run.is_reused] == []
    assert held.in_use(tmp_path / "cache" / "hefjoin" / "sources" / "in-use") == []
