"""The store on a real S3 server: the contract, what the server refuses, and what a kill leaves of an upload."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import StoreError
from hefjoin.stores import Leftover, Store, open_store
from tests.contract.store_contract import StoreContract, name_of, refusal
from tests.e2e.conftest import wait_for
from tests.s3_server import BUCKET, OWNER, READER, S3Server, without_aws
from tests.small_disk import command_on_small_disk

MIB = 1 << 20
PUT = (
    "import sys; from pathlib import Path; from hefjoin.stores import open_store\n"
    "print(open_store(sys.argv[1]).put(Path(sys.argv[2]), 'har').model_dump_json())"
)
RACE = (
    "import sys; from hefjoin.stores import open_store\n"
    "store, writer = open_store(sys.argv[1]), int(sys.argv[2]); store.read_record('claims/one')\n"
    "print('ready', flush=True); input(); print(store.create_record('claims/one', {'writer': writer}))"
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(without_aws(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture
def store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store."""
    use(s3, monkeypatch)
    return new_store()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights" * 1000)
    return path


def use(s3: S3Server, monkeypatch: pytest.MonkeyPatch, identity: tuple[str, str] = OWNER) -> None:
    """Point the environment to a server."""
    for name, value in s3.environment(identity).items():
        monkeypatch.setenv(name, value)


def new_store() -> Store:
    return open_store(f"s3://{BUCKET}/{uuid4().hex}")


class TestTheContract(StoreContract):
    @pytest.fixture
    def store(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
        use(s3, monkeypatch)
        self.client = s3.client()
        yield new_store()
        self.client.close()

    def stored(self, store: Store) -> set[str]:
        prefix = f"{prefix_of(store)}/"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", [])}

    def bytes_of(self, store: Store, name: str) -> bytes:
        body: bytes = self.client.get_object(**target(store, name))["Body"].read()
        return body

    def overwrite(self, store: Store, name: str, body: bytes) -> None:
        self.client.put_object(**target(store, name), Body=body)

    def remove(self, store: Store, name: str) -> None:
        self.client.delete_object(**target(store, name))

    def leave(self, store: Store, body: bytes) -> str:
        name = f"objects/sha256/aa/{'a' * 64}.har"
        upload_id = self.client.create_multipart_upload(**target(store, name))["UploadId"]
        self.client.upload_part(**target(store, name), UploadId=upload_id, PartNumber=1, Body=body)
        return name


class TestRefusals:
    def every_write(self, store: Store, model: Path) -> list[Callable[[], object]]:
        return [lambda: store.put(model, "onnx"), lambda: store.create_record("a", {})]

    def every_read(self, store: Store, copy: Path) -> list[Callable[[], object]]:
        ref = Ref(uri="", sha256="0" * 64, size_bytes=1, media="onnx")
        return [
            lambda: store.get(ref, copy),
            lambda: store.has(ref),
            lambda: store.read_record("a"),
            lambda: store.list_records("a"),
            lambda: list(store.objects()),
            lambda: store.leftovers(),
        ]

    def require(self, calls: list[Callable[[], object]], reason: str, says: str) -> None:
        for call in calls:
            error = refusal(call)
            assert (error.attributes["reason"], error.is_transient) == (reason, reason == "unavailable")
            assert says in error.message

    @pytest.mark.parametrize("identity", [(OWNER[0], "wrong"), ("nobody", OWNER[1])], ids=["secret", "key"])
    def test_wrong_credentials(
        self, s3: S3Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: tuple[str, str]
    ) -> None:
        use(s3, monkeypatch, identity)
        calls = [*self.every_write(new_store(), model), *self.every_read(new_store(), tmp_path / "copy")]
        self.require(calls, "credentials", "AWS_SECRET_ACCESS_KEY")

    def test_a_missing_bucket(self, store: Store, model: Path, tmp_path: Path) -> None:
        nowhere = open_store("s3://nowhere/prefix")
        calls = [*self.every_write(nowhere, model), *self.every_read(nowhere, tmp_path / "copy")]
        self.require(calls, "bucket", "Create the bucket")

    def test_a_key_that_may_only_read(
        self, s3: S3Server, store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = store.put(model, "onnx")
        store.create_record("names/one", {"build": "b1"})
        use(s3, monkeypatch, READER)
        reader = open_store(store.uri)
        (tmp_path / "other").write_text("other")
        (stored,) = reader.objects()
        writes: list[Callable[[], object]] = [
            lambda: reader.put(tmp_path / "other", "onnx"),
            lambda: reader.create_record("names/two", {}),
            lambda: reader.replace_record("names/one", {}),
            lambda: reader.remove_record("names/one"),
            lambda: reader.remove_object(stored),
        ]
        self.require(writes, "permission", "s3:PutObject")
        assert reader.put(model, "onnx") == ref
        assert reader.get(ref, tmp_path / "copy").read_bytes() == model.read_bytes()
        assert reader.list_records("names") == ["names/one"]
        assert reader.read_record("names/one") == {"build": "b1"}

    def test_a_clock_that_is_off(self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The time with which requests are signed is the one thing imitated."""
        late = datetime.now(UTC) + timedelta(hours=1)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: late.replace(tzinfo=None))
        self.require(self.every_write(store, model), "clock", "clock")

    def test_a_server_that_is_down(
        self, s3: S3Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(s3, monkeypatch)
        down = S3Server(tmp_path / "down")
        monkeypatch.setenv("AWS_ENDPOINT_URL", down.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        calls = [*self.every_write(new_store(), model), *self.every_read(new_store(), tmp_path / "copy")]
        self.require(calls, "unavailable", down.endpoint)

    def test_a_server_whose_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        disk = tmp_path / "s3" / "data"
        prefix = command_on_small_disk(["true"], disk, "96m")
        command = [*prefix[:-1], prefix[-1].removesuffix("true") + '"$@"', "sh"]
        source = tmp_path / "large"
        source.write_bytes(os.urandom(MIB) * 160)
        with S3Server(tmp_path / "s3", settings=["-volume.minFreeSpace=1"], run_as=command) as server:
            use(server, monkeypatch)
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            store = new_store()
            error = refusal(lambda: store.put(source, "har"))
            assert error.attributes["reason"] == "unavailable"  # it says InternalError and no more
            assert "free space" in error.message
            assert list(store.objects()) == []


def test_of_eight_processes_that_race_for_a_record_one_wins(store: Store) -> None:
    pipe = subprocess.PIPE
    commands = [[sys.executable, "-c", RACE, store.uri, str(writer)] for writer in range(8)]
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for command in commands]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(8) as pool:
        won = [answer == "True\n" for answer, _ in pool.map(lambda process: process.communicate("\n"), processes)]
    assert won.count(True) == 1
    assert store.read_record("claims/one") == {"writer": won.index(True)}


class TestKills:
    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        """A file whose upload takes seconds."""
        path = tmp_path / "large"
        with path.open("wb") as stream:
            for _ in range(48):
                stream.write(os.urandom(8 * MIB))
        return path

    def test_of_the_client_in_mid_upload(self, store: Store, large: Path, tmp_path: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", PUT, store.uri, str(large)], stdout=subprocess.PIPE)
        wait_for("part", lambda: parts_of(store))
        process.kill()
        process.communicate()
        assert list(store.objects()) == []
        (leftover,) = store.leftovers()
        assert 0 < leftover.size_bytes < large.stat().st_size
        assert 0 <= leftover.age_s < 60
        store.remove_leftover(leftover)
        assert store.leftovers() == []
        ref = store.put(large, "har")
        assert name_of(store, ref) == leftover.name
        assert store.is_intact(ref)
        assert store.leftovers() == []

    def test_of_the_server_in_mid_upload(
        self, large: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with S3Server(tmp_path / "s3") as server, ThreadPoolExecutor(1) as pool:
            use(server, monkeypatch)
            store = new_store()
            before = store.put(model, "onnx")
            assert store.create_record("names/one", {"build": "b1"})
            putting = pool.submit(store.put, large, "har")
            wait_for("part", lambda: parts_of(store))
            server.kill()
            server.launch()
            error = putting.exception()
            server.wait()
            assert error is None or (isinstance(error, StoreError) and error.attributes["reason"] == "unavailable")
            assert store.read_record("names/one") == {"build": "b1"}
            assert store.is_intact(before)
            ref = store.put(large, "har")
            assert store.is_intact(ref)
            for leftover in store.leftovers():
                store.remove_leftover(leftover)
            assert store.leftovers() == []


def parts_of(store: Store) -> list[Leftover]:
    """Return the uploads of which the server has a part."""
    return [leftover for leftover in store.leftovers() if leftover.size_bytes]


def prefix_of(store: Store) -> str:
    return store.uri.removeprefix(f"s3://{BUCKET}/")


def target(store: Store, name: str) -> dict[str, Any]:
    return {"Bucket": BUCKET, "Key": f"{prefix_of(store)}/{name}"}
