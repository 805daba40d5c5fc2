"""Sources in S3 and their cache, against moto's real HTTP server: what is asked, what is downloaded, what stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.artifacts import file_sha256
from hefjoin.calibration import set_sha256
from hefjoin.errors import InputError, Problem, SpecError, StoreError
from hefjoin.results.sources import Fetched
from hefjoin.sources import cache as cache_module
from hefjoin.sources import held
from hefjoin.sources.bucket import Server, Version
from hefjoin.sources.cache import Cache, limit_bytes
from hefjoin.sources.find import Found, find
from hefjoin.spec import BuildSpec, validate_spec
from hefjoin.stages.fetch import fetch, release
from hefjoin.stages.preflight import preflight
from hefjoin.stores.local import LocalStore
from tests.moto_server import client_of, moto_server
from tests.tiny import CLASSES, classifier, pair, write_pair


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of moto, to which the environment points for the whole module."""
    with moto_server() as address, client_of(address) as client:
        yield client


@pytest.fixture(scope="module")
def server(client: Any) -> Server:
    return Server("s3://bkt")


@pytest.fixture
def bucket(client: Any) -> Iterator[Any]:
    """An empty bucket `bkt`."""
    client.create_bucket(Bucket="bkt")
    yield client
    for entry in client.list_objects_v2(Bucket="bkt").get("Contents", []):
        client.delete_object(Bucket="bkt", Key=entry["Key"])
    client.delete_bucket(Bucket="bkt")


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of all that is downloaded."""
    seen: list[str] = []
    real = Server.download

    def download(self: Server, version: Version, path: Path) -> str:
        seen.append(version.uri)
        return real(self, version, path)

    monkeypatch.setattr(Server, "download", download)
    return seen


def put(bucket: Any, **objects: bytes) -> None:
    for key, body in objects.items():
        bucket.put_object(Bucket="bkt", Key=key, Body=body)


def put_images(bucket: Any, count: int = 3) -> None:
    put(bucket, **{f"set/{index}.png": f"image {index}".encode() for index in range(count)})


def found(server: Server, source: str) -> Found:
    problems: list[Problem] = []
    each = find("calibration.source", source, server, problems)
    assert each, problems
    return each


def wrong(server: Server, source: str) -> list[str]:
    problems: list[Problem] = []
    assert find("calibration.source", source, server, problems) is None
    return [f"{problem.path}: {problem.message}" for problem in problems]


def taken(cache: Cache, server: Server, source: str) -> Path:
    each = found(server, source)
    folder = cache.own_folder()
    cache.take(each.files, folder, server, each.source)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestFind:
    def test_a_prefix_is_its_images_and_no_two_names_meet(self, bucket: Any, server: Server, tmp_path: Path) -> None:
        keys = ("a/b.png", "a__b.png", "c.JPG", ".hidden.png", ".cache/x.png", "list.csv", "sub/")
        put(bucket, **{f"set/{key}": key.encode() for key in keys}, **{"set2.png": b"x"})
        folder = taken(Cache(tmp_path), server, "s3://bkt/set/")
        assert names(folder) == ["a/b.png", "a__b.png", "c.JPG"]
        assert all((folder / name).read_text() == name for name in names(folder))

    def test_the_digest_is_that_of_the_same_folder(self, bucket: Any, server: Server, tmp_path: Path) -> None:
        local = tmp_path / "local"
        for name in ("b.png", "A.png", "day/c.png"):
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            (local / name).write_bytes(name.encode())
            put(bucket, **{f"some/where/{name}": name.encode()})
        put(bucket, **{"some/where/notes.txt": b"A.png is of May"})
        (local / "notes.txt").touch()
        listed = "\n".join(f"s3://bkt/some/where/{name}" for name in ("day/c.png", "A.png", "b.png"))
        cache = Cache(tmp_path / "cache")
        for source in ("s3://bkt/some/where/", listed):
            assert set_sha256(taken(cache, server, source)) == set_sha256(local)

    def test_what_a_prefix_lacks_is_told(self, bucket: Any, server: Server) -> None:
        put_images(bucket)
        put(bucket, **{"texts/a.csv": b"", "both/x.png": b"", "both/x.png/y.png": b"", "odd/a//b.png": b""})
        (slash,) = wrong(server, "s3://bkt/set")
        assert "3 objects lie below s3://bkt/set/" in slash
        assert "with the slash" in slash
        assert "holds nothing" in wrong(server, "s3://bkt/nothing/")[0]
        assert "holds 1 objects, but no image" in wrong(server, "s3://bkt/texts/")[0]
        assert "others lie below it" in wrong(server, "s3://bkt/both/")[0]
        assert "makes no name of a file" in wrong(server, "s3://bkt/odd/")[0]
        assert "s3://bkt/gone.npy does not exist" in wrong(server, "s3://bkt/gone.npy")[0]
        assert "Create the bucket" in wrong(server, "s3://nowhere/set/")[0]

    def test_all_bad_lines_of_a_list_are_told(self, bucket: Any, server: Server, tmp_path: Path) -> None:
        put_images(bucket)
        lines = ["s3://bkt/set/0.png", "s3://bkt/set/9.png", "set/1.png", "s3://bkt/x.csv", "s3://bkt/set/0.png"]
        assert wrong(server, "\n".join(lines)) == [
            "calibration.source[2]: 'set/1.png' is no s3://bucket/key; a bare key stands only in a list that lies in "
            "S3 itself",
            "calibration.source[3]: s3://bkt/x.csv is no image (.bmp, .jpeg, .jpg, .png, .webp)",
            "calibration.source[4]: s3://bkt/set/0.png stands there twice",
            "calibration.source[1]: s3://bkt/set/9.png does not exist",
        ]
        path = tmp_path / "keys.txt"
        path.write_text("\n".join(lines))
        assert len(wrong(server, str(path))) == 4
        assert "keys.txt line 2: s3://bkt/set/9.png does not exist" in wrong(server, str(path))[-1]
        path.write_text("\n\n")
        assert "lists nothing" in wrong(server, str(path))[0]
        path.write_bytes(b"\xff\xfe\x00")
        assert "cannot be read" in wrong(server, str(path))[0]

    def test_a_list_in_s3_may_hold_keys_of_its_bucket(self, bucket: Any, server: Server) -> None:
        put_images(bucket)
        put(bucket, **{"lists/some.txt": b"set/2.png\r\n\ns3://bkt/set/0.png\n"})
        assert sorted(found(server, "s3://bkt/lists/some.txt").files) == ["0.png", "2.png"]
        assert "does not exist" in wrong(server, "s3://bkt/lists/other.txt")[0]

    def test_a_list_of_one_is_a_set(self, bucket: Any, server: Server) -> None:
        put_images(bucket)
        raw = pair(calibration={"source": ["s3://bkt/set/0.png"], "count": 1})
        each = found(server, validate_spec(raw).calibration.source)
        assert (list(each.files), each.is_folder) == (["0.png"], True)


class TestCache:
    def test_each_object_is_downloaded_once_and_then_only_what_changed(
        self, bucket: Any, server: Server, tmp_path: Path, downloads: list[str]
    ) -> None:
        put_images(bucket, 20)
        cache = Cache(tmp_path)
        first = taken(cache, server, "s3://bkt/set/")
        assert len(downloads) == 20
        downloads.clear()
        second = taken(cache, server, "s3://bkt/set/")
        assert downloads == []
        put(bucket, **{"set/7.png": b"other"})
        third = taken(cache, server, "s3://bkt/set/")
        assert downloads == ["s3://bkt/set/7.png"]
        assert (third / "7.png").read_bytes() == b"other"
        assert (first / "7.png").read_bytes() == (second / "7.png").read_bytes() == b"image 7"

    def test_progress_is_told_by_the_percent_and_lines_know_their_task(
        self, bucket: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_images(bucket, 1)
        each = found(server, "s3://bkt/set/")
        (version,) = each.files.values()
        task = ContextVar("task", default="none")
        task.set("fetch")
        seen: list[str] = []
        real = Server.download

        def download(self: Server, version: Version, path: Path) -> str:
            seen.append(task.get())
            return real(self, version, path)

        monkeypatch.setattr(Server, "download", download)
        told: list[tuple[int, int]] = []
        cache = Cache(tmp_path)
        files = {f"{index}.png": version for index in range(250)}
        cache.take(files, cache.own_folder(), server, each.source, lambda done, total: told.append((done, total)))
        assert len(told) == 100
        assert told[-1] == (250, 250)
        assert set(seen) == {"fetch"}

    def test_a_listing_and_a_head_name_one_version(self, bucket: Any, server: Server) -> None:
        put_images(bucket)
        listed = found(server, "s3://bkt/set/").files
        assert found(server, "\n".join(f"s3://bkt/set/{index}.png" for index in range(3))).files == listed

    def test_equal_bytes_lie_once(self, bucket: Any, server: Server, tmp_path: Path) -> None:
        put(bucket, **{"set/a.png": b"same", "set/b.png": b"same"})
        cache = Cache(tmp_path)
        folder = taken(cache, server, "s3://bkt/set/")
        (only,) = cache.objects()
        assert only.sha256 == hashlib.sha256(b"same").hexdigest()
        assert names(folder) == ["a.png", "b.png"]

    def test_a_damaged_file_is_downloaded_again(
        self, bucket: Any, server: Server, tmp_path: Path, downloads: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        put_images(bucket)
        cache = Cache(tmp_path)
        release(fetched_from(taken(cache, server, "s3://bkt/set/")))
        broken = next(each.path for each in cache.objects() if each.path.read_bytes() == b"image 1")
        broken.chmod(0o644)
        broken.write_bytes(b"image!1")
        downloads.clear()
        folder = taken(cache, server, "s3://bkt/set/")
        assert downloads == ["s3://bkt/set/1.png"]
        assert (folder / "1.png").read_bytes() == b"image 1"
        assert "s3://bkt/set/1.png was damaged in the cache" in caplog.text
        assert all(file_sha256(each.path) == each.sha256 for each in cache.objects())

    def test_a_damaged_index_costs_a_download(
        self, bucket: Any, server: Server, tmp_path: Path, downloads: list[str]
    ) -> None:
        put_images(bucket, 1)
        cache = Cache(tmp_path)
        taken(cache, server, "s3://bkt/set/")
        for path, _ in cache.entries():
            path.write_bytes(b"{")
        taken(cache, server, "s3://bkt/set/")
        assert len(downloads) == 2

    def test_the_least_recently_used_goes_and_running_builds_keep_theirs(
        self, bucket: Any, server: Server, tmp_path: Path, downloads: list[str]
    ) -> None:
        put(bucket, **{"old/a.png": b"a" * 60, "used/b.png": b"b" * 60, "new/c.png": b"c" * 60})
        cache = Cache(tmp_path, limit=130)
        folders = {name: taken(cache, server, f"s3://bkt/{name}/") for name in ("old", "used")}
        for age, each in enumerate(sorted(cache.objects(), key=lambda each: each.path.read_bytes()), 1):
            os.utime(each.path, (age, age))
        taken(cache, server, "s3://bkt/old/")
        folders["new"] = taken(cache, server, "s3://bkt/new/")
        assert {each.path.read_bytes()[:1] for each in cache.objects()} == {b"a", b"c"}
        assert (folders["used"] / "b.png").read_bytes() == b"b" * 60
        assert len(list(cache.entries())) == 2
        downloads.clear()
        taken(cache, server, "s3://bkt/used/")
        assert downloads == ["s3://bkt/used/b.png"]

    def test_a_set_above_the_limit_works_and_says_so(
        self, bucket: Any, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        put_images(bucket, 5)
        cache = Cache(tmp_path, limit=16)
        folder = taken(cache, server, "s3://bkt/set/")
        assert len(names(folder)) == 5
        assert sum(each.size_bytes for each in cache.objects()) <= 16
        assert "HEFJOIN_CACHE_GB lets the cache keep" in caplog.text

    def test_without_links_files_are_copied(
        self, bucket: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def link(*_: object) -> None:
            raise PermissionError(1, "not permitted")

        put_images(bucket)
        monkeypatch.setattr(cache_module.os, "link", link)
        cache = Cache(tmp_path)
        for _ in range(2):
            assert (taken(cache, server, "s3://bkt/set/") / "2.png").read_bytes() == b"image 2"

    def test_an_object_in_parts_is_whole(
        self, bucket: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hefjoin.sources.bucket.IN_PARTS_BYTES", 1)
        put_images(bucket, 2)
        assert (taken(Cache(tmp_path), server, "s3://bkt/set/") / "1.png").read_bytes() == b"image 1"

    @pytest.mark.parametrize("in_parts_bytes", [1, 1000])
    def test_what_changes_meanwhile_is_refused(
        self, bucket: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_parts_bytes: int
    ) -> None:
        monkeypatch.setattr("hefjoin.sources.bucket.IN_PARTS_BYTES", in_parts_bytes)
        put_images(bucket, 2)
        each = found(server, "s3://bkt/set/")
        put(bucket, **{"set/1.png": b"IMAGE 1"})
        cache = Cache(tmp_path)
        folder = cache.own_folder()
        with pytest.raises(StoreError, match=r"s3://bkt/set/1\.png changed while") as caught:
            cache.take(each.files, folder, server, each.source)
        assert not caught.value.is_transient
        assert "1.png" not in names(folder)

    def test_two_processes_fill_it_at_once(self, bucket: Any, server: Server, tmp_path: Path) -> None:
        put_images(bucket, 40)
        code = (
            "import sys; from pathlib import Path; from hefjoin.sources.bucket import Server\n"
            "from hefjoin.sources.cache import Cache; from hefjoin.sources.find import find\n"
            "from hefjoin.calibration import set_sha256\n"
            "server = Server('s3://bkt'); cache = Cache(Path(sys.argv[1]), limit=int(sys.argv[2]))\n"
            "each = find('calibration.source', 's3://bkt/set/', server, []); folder = cache.own_folder()\n"
            "cache.take(each.files, folder, server, each.source); print(set_sha256(folder))"
        )
        for limit in (10**9, 100):
            command = [sys.executable, "-c", code, str(tmp_path), str(limit)]
            both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            digests = {process.communicate()[0].strip() for process in both}
            assert [process.returncode for process in both] == [0, 0]
            assert digests == {set_sha256(taken(Cache(tmp_path), server, "s3://bkt/set/"))}
        assert held.in_use(tmp_path / "in-use")
        assert all(file_sha256(each.path) == each.sha256 for each in Cache(tmp_path).objects())


def fetched_from(folder: Path) -> Fetched:
    return Fetched.model_validate(
        {
            "models": {},
            "calibration": {"uri": str(folder), "sha256": "", "count": 1},
            "evaluation": {"uri": str(folder), "sha256": "", "count": 1},
        }
    )


class TestHeld:
    def test_a_killed_owner_is_noticed_and_a_living_one_is_not_disturbed(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; from hefjoin.sources.held import hold\n"
            "folder = hold(Path(sys.argv[1])); (folder / 'x').touch(); print(folder, flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout
            folder = Path(process.stdout.readline().strip())
            held.remove_dead(tmp_path)
            assert (folder / "x").exists()
            assert held.in_use(tmp_path) == [folder]
            process.kill()
        own = held.hold(tmp_path)
        assert not folder.exists()
        assert held.in_use(tmp_path) == [own]
        held.release(own / "x.png")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_not_held_stays(self, tmp_path: Path) -> None:
        held.release(tmp_path)
        assert tmp_path.exists()


class TestFetch:
    @pytest.fixture
    def spec(self, bucket: Any, tmp_path: Path) -> BuildSpec:
        """A pair in S3, its images an .npy there."""
        write_pair(tmp_path)
        for name in ("left.onnx", "right.onnx", "images.npy"):
            bucket.upload_file(str(tmp_path / name), "bkt", f"nets/{name}")
        raw = pair(calibration={"source": "s3://bkt/nets/images.npy", "count": 4})
        for model in raw["models"]:
            model["source"] = f"s3://bkt/nets/{model['source']}"
        return validate_spec(raw)

    def test_all_sources_come_from_s3_once(self, spec: BuildSpec, tmp_path: Path, downloads: list[str]) -> None:
        progress: list[Any] = []
        for _ in range(2):
            got = fetch(spec, LocalStore(tmp_path / "store").put, tmp_path / "cache", progress.append)
            assert got.calibration.sha256 == file_sha256(tmp_path / "images.npy")
            assert np.load(got.calibration.uri).shape[0] == 32
            assert got.models["left"].sha256 == file_sha256(tmp_path / "left.onnx")
            release(got)
        assert sorted(downloads) == [f"s3://bkt/nets/{name}" for name in ("images.npy", "left.onnx", "right.onnx")]
        assert {each.what for each in progress} == {"object"}

    def test_all_problems_are_told_at_once_before_anything_is_downloaded(
        self, spec: BuildSpec, tmp_path: Path, downloads: list[str]
    ) -> None:
        raw = spec.model_dump()
        raw["models"][0]["source"] = "s3://bkt/nets/gone.onnx"
        raw["models"][1]["source"] = str(tmp_path / "gone.onnx")
        raw["calibration"]["source"] = "s3://bkt/nets"
        raw["evaluation"]["source"] = "s3://nowhere/x/"
        wrong_spec = validate_spec(raw)
        for call in (
            lambda: fetch(wrong_spec, LocalStore(tmp_path / "store").put, tmp_path / "cache"),
            lambda: preflight(wrong_spec),
        ):
            with pytest.raises(SpecError) as caught:
                call()
            assert [problem.path for problem in caught.value.problems] == [
                *("models[1].source", "models[0].source", "calibration.source", "evaluation.source"),
            ]
        assert downloads == []
        assert not (tmp_path / "cache").exists()

    def test_weights_come_from_beside_the_model(
        self, spec: BuildSpec, bucket: Any, tmp_path: Path, downloads: list[str]
    ) -> None:
        (tmp_path / "parts").mkdir()
        target: Any = {"save_as_external_data": True, "location": "parts/left.data", "size_threshold": 0}
        onnx.save(classifier(0, CLASSES["left"]), tmp_path / "left.onnx", **target)
        bucket.upload_file(str(tmp_path / "left.onnx"), "bkt", "nets/left.onnx")
        with pytest.raises(SpecError, match=r"models\[0\].source: s3://bkt/nets/parts/left.data does not exist"):
            fetch(spec, LocalStore(tmp_path / "store").put, tmp_path / "cache")
        assert held.in_use(tmp_path / "cache" / "in-use") == []
        bucket.upload_file(str(tmp_path / "parts" / "left.data"), "bkt", "nets/parts/left.data")
        downloads.clear()
        got = fetch(spec, LocalStore(tmp_path / "store").put, tmp_path / "cache")
        assert downloads == ["s3://bkt/nets/parts/left.data"]
        assert got.weights["left"]["parts/left.data"].sha256 == file_sha256(tmp_path / "parts" / "left.data")
        release(got)

    def test_a_server_out_of_reach_is_left_to_the_task(
        self, spec: BuildSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        preflight(spec)
        with pytest.raises(StoreError) as caught:
            fetch(spec, LocalStore(tmp_path / "store").put, tmp_path / "cache")
        assert caught.value.is_transient


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEFJOIN_CACHE_GB", text)
    with pytest.raises(InputError, match="HEFJOIN_CACHE_GB"):
        limit_bytes()


PART = st.sampled_from(["a", "b", "a__b", "ü"])


@given(st.sets(st.lists(PART, min_size=1, max_size=3).map(lambda parts: f"{'/'.join(parts)}.png"), min_size=1))
def test_a_list_has_the_names_below_its_common_folder(keys: set[str]) -> None:
    class Fake:
        def version(self, uri: str) -> Version:
            return Version("b", uri.removeprefix("s3://bkt/"), "", 1, 0)

    problems: list[Problem] = []
    server: Any = Fake()
    each = find("calibration.source", "\n".join(f"s3://bkt/{key}" for key in sorted(keys)), server, problems)
    assert not problems
    assert each
    prefix = each.source.removeprefix("s3://bkt/")
    assert {prefix + name for name in each.files} == keys
    assert len({name.partition("/")[0] for name in each.files}) > 1 or any("/" not in name for name in each.files)
