"""What every store promises. A test class that inherits `StoreContract` runs all of it on one implementation."""

import hashlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import InputError, StoreError
from hefjoin.stores import Store, Stored, open_store

MIB = 1 << 20

MALFORMED_KEYS = [
    "", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", ".hidden", "-option", "a b", "größe", "a\\b", "a\n",
    "objects", "objects/sha256/aa", "a/" + "x" * 201,
]  # fmt: skip

BIG_FILE = """
import sys
from pathlib import Path
from hefjoin.stores import open_store

def peak_mib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

store, big, small, out = open_store(sys.argv[1]), *map(Path, sys.argv[2:])
store.get(store.put(small, "log"), out)
before = peak_mib()
ref = store.put(big, "har")
store.get(ref, out)
print(peak_mib() - before, ref.sha256)
"""


class StoreContract:
    """Override `store` and the hooks after it, which go behind the store's back."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError

    def stored(self, store: Store) -> set[str]:
        """Return the names of all files below the store, temporary ones too."""
        raise NotImplementedError

    def bytes_of(self, store: Store, name: str) -> bytes:
        raise NotImplementedError

    def overwrite(self, store: Store, name: str, body: bytes) -> None:
        """Write a file that is there, or a new one."""
        raise NotImplementedError

    def remove(self, store: Store, name: str) -> None:
        raise NotImplementedError

    def leave(self, store: Store, body: bytes) -> str:
        """Leave what a killed upload does that came as far as `body`, and return its name."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """Return another store object on the same URI."""
        return open_store(store.uri)

    def damage(self, store: Store, name: str) -> None:
        """Flip one bit in the middle of a file."""
        body = bytearray(self.bytes_of(store, name))
        body[len(body) // 2] ^= 1
        self.overwrite(store, name, bytes(body))

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"weights" * 1000)
        return path

    # Artifacts

    def test_what_is_put_can_be_got_back(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        got = store.get(ref, tmp_path / "new" / "folder" / "copy.onnx")
        assert got == tmp_path / "new" / "folder" / "copy.onnx"
        assert got.read_bytes() == model.read_bytes()
        assert [path.name for path in got.parent.iterdir()] == ["copy.onnx"]

    def test_a_ref_says_what_it_refers_to(self, store: Store, model: Path) -> None:
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert store.put(model, "emulated.hef") == Ref(
            uri=f"{store.uri}/objects/sha256/{digest[:2]}/{digest}.emulated.hef",
            sha256=digest,
            size_bytes=7000,
            media="emulated.hef",
        )
        assert f"objects/sha256/{digest[:2]}/{digest}.emulated.hef" in self.stored(store)

    def test_equal_bytes_have_equal_refs_and_are_stored_once(self, store: Store, model: Path, tmp_path: Path) -> None:
        twin = tmp_path / "twin"
        twin.write_bytes(model.read_bytes())
        first = store.put(model, "onnx")
        before = self.stored(store)
        assert store.put(model, "onnx") == first
        assert store.put(twin, "onnx") == first
        assert self.stored(store) == before

    def test_an_empty_file_is_an_artifact(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        ref = store.put(tmp_path / "empty", "log")
        assert store.has(ref)
        assert store.get(ref, tmp_path / "copy").read_bytes() == b""

    def test_another_store_object_on_the_same_uri_sees_the_artifact(
        self, store: Store, model: Path, tmp_path: Path
    ) -> None:
        ref = store.put(model, "onnx")
        assert self.reopen(store).get(ref, tmp_path / "copy").read_bytes() == model.read_bytes()

    def test_get_replaces_an_old_file_and_may_be_repeated(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        destination = tmp_path / "out" / "copy"
        destination.parent.mkdir()
        destination.write_text("old")
        for _ in range(2):
            store.get(ref, destination)
        assert destination.read_bytes() == model.read_bytes()
        assert [path.name for path in destination.parent.iterdir()] == ["copy"]

    def test_a_damaged_object_is_refused_and_mended_by_the_next_put(
        self, store: Store, model: Path, tmp_path: Path
    ) -> None:
        ref = store.put(model, "onnx")
        assert store.is_intact(ref)
        self.damage(store, name_of(store, ref))
        assert store.has(ref)
        assert not store.is_intact(ref)
        error = refusal(lambda: store.get(ref, tmp_path / "out" / "copy"))
        assert (error.attributes["reason"], error.is_transient) == ("damaged", False)
        found_sha256 = error.attributes["found_sha256"]
        assert found_sha256 != ref.sha256
        for part in (ref.uri, ref.sha256, found_sha256, "--force"):
            assert part in error.message
        assert list((tmp_path / "out").iterdir()) == []

        assert store.put(model, "onnx") == ref
        assert store.get(ref, tmp_path / "out" / "copy").read_bytes() == model.read_bytes()

    def test_a_missing_object_is_named(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        self.remove(store, name_of(store, ref))
        error = refusal(lambda: store.get(ref, tmp_path / "copy"))
        assert (error.attributes["reason"], error.is_transient) == ("missing", False)
        assert ref.uri in error.message
        assert not (tmp_path / "copy").exists()

    def test_has_knows_digest_size_and_media(self, store: Store, model: Path) -> None:
        ref = store.put(model, "onnx")
        assert store.has(ref)
        assert not store.has(ref.model_copy(update={"sha256": "0" * 64}))
        assert not store.has(ref.model_copy(update={"size_bytes": 6999}))
        assert not store.has(ref.model_copy(update={"media": "har"}))
        self.remove(store, name_of(store, ref))
        assert not store.has(ref)
        assert not store.is_intact(ref)

    def test_a_malformed_media_is_refused(self, store: Store, model: Path, tmp_path: Path) -> None:
        for media in ("", "../har", "har/x", "HAR", ".har", "har\n"):
            with pytest.raises(InputError, match="media"):
                store.put(model, media)
            ref = Ref(uri="x", sha256="0" * 64, size_bytes=1, media=media)
            with pytest.raises(StoreError, match="media"):
                store.get(ref, tmp_path / "copy")
        assert self.stored(store) == set()

    def test_failures_leave_nothing_behind(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        before = self.stored(store)
        for source in (tmp_path / "gone.onnx", tmp_path):
            error = refusal(lambda source=source: store.put(source, "onnx"))  # type: ignore[misc]
            assert str(source) in error.message
            assert not error.is_transient
        error = refusal(lambda: store.get(ref, model / "below-a-file" / "copy"))
        assert (error.attributes["reason"], error.is_transient) == ("path", False)
        assert self.stored(store) == before
        assert [path.name for path in tmp_path.rglob("*.partial*") if path.is_file()] == []

    def test_a_source_that_is_written_to_meanwhile_is_refused(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "growing"
        source.write_bytes(bytes(4 * MIB))
        before = self.stored(store)

        def grow(_: Ref) -> None:
            with source.open("ab") as stream:
                stream.write(b"x")

        error = refusal(lambda: store.put(source, "log", announce=grow))
        assert (error.attributes["reason"], error.is_transient) == ("changed", False)
        assert {name for name in self.stored(store) - before if not name.startswith(".probe")} == set()

    def test_a_large_file_takes_little_memory(self, store: Store, tmp_path: Path) -> None:
        """128 MiB go in and out of a process that grows by less than 96 MiB, whoever of reader and server is slower."""
        big, small = tmp_path / "big", tmp_path / "small"
        with big.open("wb") as stream:
            for index in range(128):
                stream.write(index.to_bytes(1) * MIB)
        small.write_text("to warm up")
        arguments = [store.uri, str(big), str(small), str(tmp_path / "out")]
        answer = subprocess.run(
            [sys.executable, "-c", BIG_FILE, *arguments], capture_output=True, text=True, check=True
        ).stdout.split()
        assert (tmp_path / "out").stat().st_size == 128 * MIB
        assert store.has(Ref(uri="", sha256=answer[1], size_bytes=128 * MIB, media="har"))
        assert float(answer[0]) < 96

    def test_a_ref_is_announced_before_the_store_is_looked_at(self, store: Store, model: Path) -> None:
        seen: list[tuple[Ref, set[str]]] = []
        ref = store.put(model, "onnx", announce=lambda ref: seen.append((ref, self.stored(store))))
        assert seen == [(ref, set())]
        assert store.put(model, "onnx", announce=lambda ref: seen.append((ref, set()))) == ref
        assert len(seen) == 2

    def test_what_the_announcement_raises_ends_the_put(self, store: Store, model: Path) -> None:
        def refuse(ref: Ref) -> None:
            raise RuntimeError(ref.sha256)

        with pytest.raises(RuntimeError, match=r"[0-9a-f]{64}"):
            store.put(model, "onnx", announce=refuse)
        assert self.stored(store) == set()

    def test_all_objects_are_listed_and_nothing_else(self, store: Store, model: Path, tmp_path: Path) -> None:
        assert list(store.objects()) == []
        (tmp_path / "empty").touch()
        refs = [store.put(model, "onnx"), store.put(model, "emulated.hef"), store.put(tmp_path / "empty", "log")]
        store.create_record("names/one", {})
        self.leave(store, b"cut")
        for name in (
            "objects/sha256/aa/note.txt",
            f"objects/sha256/bb/{'a' * 64}.har",
            f"objects/md5/aa/{'a' * 64}.har",
        ):
            self.overwrite(store, name, b"something else")
        assert set(store.objects()) == {stored_as(store, ref) for ref in refs}

    def test_a_removed_object_is_gone_and_may_be_put_again(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref, other = store.put(model, "onnx"), store.put(model, "har")
        for _ in range(2):
            store.remove_object(stored_as(store, ref))
        assert not store.has(ref)
        assert store.get(other, tmp_path / "other").read_bytes() == model.read_bytes()
        assert store.put(model, "onnx") == ref
        assert store.get(ref, tmp_path / "copy").read_bytes() == model.read_bytes()

    def test_a_removed_object_lives_on_where_it_was_brought_to(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        copy = store.get(ref, tmp_path / "copy")
        store.remove_object(stored_as(store, ref))
        assert copy.read_bytes() == model.read_bytes()

    def test_nothing_but_an_object_can_be_removed_as_one(self, store: Store) -> None:
        store.create_record("names/one", {})
        with pytest.raises(StoreError, match="media"):
            store.remove_object(Stored("names/one.json", sha256="0" * 64, media="x/../../names/one.json", size_bytes=1))
        store.remove_object(Stored("names/one.json", sha256="0" * 64, media="json", size_bytes=1))
        assert store.read_record("names/one") == {}

    def test_what_killed_uploads_left_is_listed_and_removed(self, store: Store, model: Path) -> None:
        assert store.leftovers() == []
        ref = store.put(model, "onnx")
        names = {self.leave(store, b"x" * 100), self.leave(store, b"x" * 200)}
        first, second = leftovers = store.leftovers()
        assert {leftover.name for leftover in leftovers} == names
        assert sorted(leftover.size_bytes for leftover in leftovers) == [100, 200]
        assert all(leftover.age_s >= 0 for leftover in leftovers)
        for _ in range(2):
            store.remove_leftover(first)
        assert [left.size_bytes for left in store.leftovers()] == [second.size_bytes]
        store.remove_leftover(second)
        assert store.leftovers() == []
        assert store.is_intact(ref)

    # Records

    def test_a_record_is_created_once(self, store: Store) -> None:
        record = {"unicode": "Grüße 🙂", "nested": {"numbers": [1, 2.5, None]}}
        assert store.read_record("names/emulator/pair/000001") is None
        assert store.create_record("names/emulator/pair/000001", record) is True
        assert store.create_record("names/emulator/pair/000001", {"other": 1}) is False
        assert store.read_record("names/emulator/pair/000001") == record
        assert "names/emulator/pair/000001.json" in self.stored(store)

    def test_a_removed_record_is_gone_and_may_be_created_again(self, store: Store) -> None:
        for key in ("claims/one", "claims/two"):
            store.create_record(key, {"owner": 1})
        for _ in range(2):
            store.remove_record("claims/one")
        store.remove_record("never/was")
        assert store.read_record("claims/one") is None
        assert store.list_records("claims") == ["claims/two"]
        assert store.create_record("claims/one", {"owner": 2})
        assert store.read_record("claims/one") == {"owner": 2}

    def test_a_damaged_record_is_named_and_may_be_replaced(self, store: Store) -> None:
        store.create_record("names/one", {"build": "b1", "snr_db": 31.5})
        body = self.bytes_of(store, "names/one.json")
        unsealed = b'{"build":"b1","snr_db":31.5}'
        for content, says in {
            body.replace(b"31.5", b"31.4"): "is damaged",
            body[:-1] + b"\n}": "is damaged",
            unsealed: "older hefjoin",
            b'{"cut': "not a JSON object",
            b"[1]": "not a JSON object",
            b"": "not a JSON object",
        }.items():
            self.overwrite(store, "names/one.json", content)
            error = refusal(lambda: store.read_record("names/one"))
            assert (error.attributes["reason"], error.is_transient) == ("damaged", False)
            assert f"{store.uri}/names/one.json" in error.message
            assert says in error.message
        assert store.list_records("names") == ["names/one"]
        assert store.create_record("names/one", {}) is False
        store.replace_record("names/one", {"build": "b2"})
        assert store.read_record("names/one") == {"build": "b2"}

    def test_of_eight_that_race_for_a_record_one_wins(self, store: Store) -> None:
        at_once = threading.Barrier(8)

        def create(writer: int) -> bool:
            at_once.wait()
            return store.create_record("reuse/parse/race", {"writer": writer, "padding": "x" * 10_000})

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert won.count(True) == 1
        record = store.read_record("reuse/parse/race")
        assert record is not None
        assert record["writer"] == won.index(True)

    def test_a_replaced_record_is_never_seen_in_part(self, store: Store) -> None:
        versions = [{"version": version, "padding": "x" * 50_000} for version in range(20)]
        store.replace_record("reuse/parse/one", versions[0])
        seen = []

        def write() -> None:
            for version in versions:
                store.replace_record("reuse/parse/one", version)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                seen.append(store.read_record("reuse/parse/one"))
        writing.result()
        assert all(record in versions for record in seen)
        assert store.read_record("reuse/parse/one") == versions[-1]
        assert store.list_records("reuse") == ["reuse/parse/one"]

    def test_records_are_listed_in_order_by_whole_segments(self, store: Store, model: Path) -> None:
        keys = [f"names/emulator/pair/{number:06}" for number in (2, 10, 1, 9)]
        for key in [*keys, "names/emulator/pair-b/000001", "names/dfc/pair/000001"]:
            assert store.create_record(key, {})
        store.put(model, "json")
        assert store.list_records("names/emulator/pair") == sorted(keys)
        assert store.list_records("names") == [
            "names/dfc/pair/000001",
            "names/emulator/pair-b/000001",
            *sorted(keys),
        ]
        assert store.list_records("names/emulator/pai") == []
        assert store.list_records("reuse") == []

    def test_a_malformed_key_is_refused(self, store: Store) -> None:
        for key in MALFORMED_KEYS:
            for call in (
                lambda key=key: store.create_record(key, {}),
                lambda key=key: store.replace_record(key, {}),
                lambda key=key: store.read_record(key),
                lambda key=key: store.list_records(key),
                lambda key=key: store.remove_record(key),
            ):
                with pytest.raises(InputError, match="record key"):
                    call()
        assert self.stored(store) == set()


def name_of(store: Store, ref: Ref) -> str:
    return ref.uri.removeprefix(f"{store.uri}/")


def stored_as(store: Store, ref: Ref) -> Stored:
    return Stored(name_of(store, ref), ref.sha256, ref.media, ref.size_bytes)


def refusal(call: Callable[[], object]) -> StoreError:
    """Return the StoreError that a call raises, after a round trip through pickle, as between processes."""
    with pytest.raises(StoreError) as caught:
        call()
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, StoreError)
    return error
