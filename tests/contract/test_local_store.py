"""The contract on a folder, and what only a file system can do to a store."""

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
from store_contract import StoreContract, refusal

from hefjoin.artifacts import Ref
from hefjoin.errors import HefJoinError
from hefjoin.stores import Leftover, Store, open_store


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path / "a store"))

    def stored(self, store: Store) -> set[str]:
        root = folder_of(store)
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def bytes_of(self, store: Store, name: str) -> bytes:
        return (folder_of(store) / name).read_bytes()

    def overwrite(self, store: Store, name: str, body: bytes) -> None:
        path = folder_of(store) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(body)

    def remove(self, store: Store, name: str) -> None:
        (folder_of(store) / name).unlink()

    def leave(self, store: Store, body: bytes) -> str:
        name = f".partial/.partial-{len(body)}"
        self.overwrite(store, name, body)
        return name

    def test_the_age_of_a_leftover_counts_from_when_it_was_written(self, store: Store) -> None:
        old, new = (self.leave(store, body) for body in (b"old", b"newer"))
        now = time.time()
        os.utime(folder_of(store) / old, (now - 7200, now - 7200))
        first, second = store.leftovers()
        assert (first.name, second.name) == (old, new)
        assert 7200 <= first.age_s < 7260
        assert second.age_s < 60

    def test_a_leftover_that_lies_elsewhere_is_not_removed(self, store: Store) -> None:
        store.create_record("names/one", {})
        store.remove_leftover(Leftover(".partial/../names/one.json", size_bytes=2, age_s=0))
        assert store.read_record("names/one") == {}

    def test_objects_are_read_only_linked_not_copied_and_not_written_twice(
        self, store: Store, model: Path, tmp_path: Path
    ) -> None:
        ref = store.put(model, "onnx")
        assert object_of(store, ref).stat().st_mode & 0o222 == 0
        assert store.get(ref, tmp_path / "copy").samefile(object_of(store, ref))
        assert not model.samefile(object_of(store, ref))
        before = object_of(store, ref).stat().st_ino
        assert store.put(model, "onnx") == ref
        assert object_of(store, ref).stat().st_ino == before

    def test_from_another_file_system_an_artifact_is_copied(self, tmp_path: Path) -> None:
        outcomes, _ = on_own_disk(
            tmp_path,
            "size=1m",
            "Path('model').write_text('weights')",
            "store.get(store.put(Path('model'), 'onnx'), Path('copy'))",
        )
        assert outcomes == [None]
        assert (tmp_path / "copy").read_text() == "weights"

    def test_a_file_system_without_hard_links_is_refused(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The system call is the one thing imitated: such a file system (FAT) is not to be had everywhere."""

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", no_links)
        error = refusal(lambda: store.create_record("a", {}))
        assert (error.attributes["reason"], error.is_transient) == ("unsupported", False)
        assert "hard links" in error.message
        assert self.stored(store) == set()

    def test_a_moved_store_still_finds_its_artifacts(self, store: Store, model: Path, tmp_path: Path) -> None:
        ref = store.put(model, "onnx")
        moved = folder_of(store).rename(tmp_path / "moved")
        assert open_store(str(moved)).get(ref, tmp_path / "copy").read_bytes() == model.read_bytes()

    def test_opening_and_reading_write_nothing(self, store: Store) -> None:
        assert store.read_record("names/one") is None
        assert store.list_records("names") == []
        assert not folder_of(store).exists()

    def test_a_store_below_a_file_is_refused(self, model: Path) -> None:
        store = open_store(f"{model}/store")
        ref = Ref(uri="", sha256="0" * 64, size_bytes=1, media="onnx")
        calls: list[Callable[[], object]] = [
            lambda: store.put(model, "onnx"),
            lambda: store.create_record("a", {}),
            lambda: store.read_record("a"),
            lambda: store.list_records("a"),
            lambda: store.has(ref),
        ]
        for call in calls:
            error = refusal(call)
            assert (error.attributes["reason"], error.is_transient) == ("path", False)
            assert str(model) in error.message

    def test_processes_that_put_the_same_bytes_at_once_agree(self, store: Store, model: Path) -> None:
        code = "import sys; from pathlib import Path; from hefjoin.stores import open_store\n"
        code += "store = open_store(sys.argv[1]); input()\n"
        code += "print(store.put(Path(sys.argv[2]), 'onnx').model_dump_json())"
        command = [sys.executable, "-c", code, store.uri, str(model)]
        pipe = subprocess.PIPE
        processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda process: process.communicate("\n")[0], processes))
        refs = {Ref.model_validate_json(answer) for answer in answers}
        assert refs == {store.put(model, "onnx")}
        assert len(self.stored(store)) == 1

    def test_a_full_disk_is_named_and_keeps_no_part(self, tmp_path: Path) -> None:
        outcomes, left = on_own_disk(
            tmp_path,
            "size=1m",
            "Path('big').write_bytes(bytes(2 << 20))",
            "store.put(Path('big'), 'har')",
            "store.create_record('names/big', {'x': 'x' * (2 << 20)})",
        )
        for error in outcomes:
            assert error is not None
            assert (error.attributes["reason"], error.is_transient) == ("full", False)
            assert "No space left" in error.message
        assert "2,097,152 bytes" in str(outcomes[0])
        assert left == []

    def test_a_read_only_disk_is_named(self, tmp_path: Path) -> None:
        outcomes, left = on_own_disk(
            tmp_path,
            "ro",
            "Path('small').touch()",
            "store.put(Path('small'), 'har')",
            "store.create_record('a', {})",
        )
        for error in outcomes:
            assert error is not None
            assert (error.attributes["reason"], error.is_transient) == ("permission", False)
            assert "disk" in error.message
        assert left == []


def folder_of(store: Store) -> Path:
    return Path(unquote(store.uri.removeprefix("file://")))


def object_of(store: Store, ref: Ref) -> Path:
    return folder_of(store) / "objects" / "sha256" / ref.sha256[:2] / f"{ref.sha256}.{ref.media}"


def on_own_disk(tmp_path: Path, options: str, prepare: str, *calls: str) -> tuple[list[HefJoinError | None], list[str]]:
    """Run calls on a store on a tmpfs that only its process sees: return each call's error and the files left."""
    tries = "".join(
        f"try: {call}\nexcept StoreError as e: errors.append(pickle.dumps(e).hex())\nelse: errors.append(None)\n"
        for call in calls
    )
    script = (
        "import json, pickle; from pathlib import Path; from hefjoin.stores import open_store\n"
        f"from hefjoin.errors import StoreError\n{prepare}\nstore, errors = open_store('disk/store'), []\n{tries}"
        "left = [str(path) for path in Path('disk').rglob('*') if path.is_file()]\n"
        "print(json.dumps([errors, left]))"
    )
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(script)
    mount = f'mount -t tmpfs -o {options} none disk || exit 77; exec "{sys.executable}" script.py'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no `unshare` here to mount a small disk with")
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip(f"this user may not mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    outcomes, left = json.loads(done.stdout)
    return [outcome and pickle.loads(bytes.fromhex(outcome)) for outcome in outcomes], left
