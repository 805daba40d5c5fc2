"""The contract of a stage: what its key sees, when finished work is reused, what is left when it fails."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hefjoin.artifacts import Record, Ref, refs
from hefjoin.errors import CompileError, InputError, StoreError
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.contract import Stage, Workplace, perform
from hefjoin.stores import open_store
from hefjoin.stores.sealed import seal
from tests.small_disk import command_on_small_disk

TOOLCHAIN = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)


class Copied(Record):
    copies: tuple[Ref, ...]
    words: dict[str, str]


class Copy(Stage[Copied]):
    """Copies a source once for each suffix."""

    stage: ClassVar[str] = "copy"
    version: ClassVar[int] = 1
    result: ClassVar[type[Copied]] = Copied
    runs: ClassVar[list[Path]] = []
    meddle: ClassVar[Callable[[Path], None]] = lambda work: None

    source: Ref
    suffixes: tuple[str, ...] = ("one",)
    words: dict[str, str] = {"mood": "calm"}

    @property
    def subject(self) -> str:
        return "left"

    def requires(self) -> None:
        if not self.suffixes:
            raise InputError("copy: no suffix")

    def run(self, work: Path, place: Workplace) -> Copied:
        self.runs.append(work)
        original = place.store.get(self.source, work / "original")
        (work / "copy.log").write_text("copying\n")
        (work / "folder").mkdir()
        for suffix in self.suffixes:
            (work / suffix).write_bytes(original.read_bytes() + suffix.encode())
        type(self).meddle(work)
        return Copied(copies=tuple(place.store.put(work / s, "log") for s in self.suffixes), words=self.words)

    def ensures(self, result: Copied) -> None:
        if "bad" in result.words:
            raise CompileError("copy: bad words", log_tail="")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    Copy.runs.clear()
    yield
    Copy.meddle = lambda work: None


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "work", toolchain=TOOLCHAIN)


def put(place: Workplace, tmp_path: Path, content: str) -> Ref:
    (tmp_path / "source").write_text(content)
    return place.store.put(tmp_path / "source", "log")


@pytest.fixture
def source(place: Workplace, tmp_path: Path) -> Ref:
    return put(place, tmp_path, "content")


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} if folder.exists() else set()


def records(place: Workplace) -> list[str]:
    return place.store.list_records("reuse")


def object_path(tmp_path: Path, ref: Ref) -> Path:
    return tmp_path / "store" / "objects" / "sha256" / ref.sha256[:2] / f"{ref.sha256}.{ref.media}"


class TestKey:
    def test_changes_with_each_field_and_with_content_of_sources(self, source: Ref) -> None:
        stages = [
            Copy(source=source),
            Copy(source=source.model_copy(update={"sha256": "0" * 64})),
            Copy(source=source.model_copy(update={"media": "json"})),
            Copy(source=source, suffixes=("two",)),
            Copy(source=source, suffixes=("one", "two")),
            Copy(source=source, words={"mood": "wild"}),
            Copy(source=source, words={"manner": "calm"}),
        ]
        assert len({stage.key for stage in stages}) == len(stages)

    def test_does_not_see_where_a_source_lies(self, source: Ref) -> None:
        moved = source.model_copy(update={"uri": "s3://elsewhere/x"})
        assert Copy(source=moved).key == Copy(source=source).key

    def test_changes_with_the_stage_and_its_version(self, source: Ref) -> None:
        class Newer(Copy):
            version: ClassVar[int] = 2

        class Other(Copy):
            stage: ClassVar[str] = "other"

        assert len({kind(source=source).key for kind in (Copy, Newer, Other)}) == 3

    def test_is_the_same_in_another_process(self, source: Ref) -> None:
        first = Copy(source=source, words={"a": "1", "b": "2"})
        assert Copy.model_validate_json(first.model_dump_json()).key == first.key
        assert Copy(source=source, words={"b": "2", "a": "1"}).key == first.key


class TestReuse:
    def test_the_second_time_nothing_is_done(self, place: Workplace, source: Ref) -> None:
        first, second = (perform(Copy(source=source), place) for _ in range(2))
        assert len(Copy.runs) == 1
        assert second.value == first.value
        assert (first.run.is_reused, second.run.is_reused) == (False, True)
        assert first.run.reason == "built, because it is new"
        assert second.run.reason.startswith("same inputs as on ")
        assert second.run.seconds == first.run.seconds
        assert (second.run.stage, second.run.subject, second.run.key) == ("copy", "left", Copy(source=source).key)

    def test_another_store_object_and_another_place_of_the_source_find_it(
        self, place: Workplace, source: Ref, tmp_path: Path
    ) -> None:
        perform(Copy(source=source), place)
        elsewhere = Workplace(store=open_store(place.store.uri), root=tmp_path / "other", toolchain=TOOLCHAIN)
        assert perform(Copy(source=source.model_copy(update={"uri": "file:///x"})), elsewhere).run.is_reused

    def test_force_builds_again(self, place: Workplace, source: Ref, tmp_path: Path) -> None:
        perform(Copy(source=source), place)
        forced = Workplace(store=place.store, root=tmp_path / "work", toolchain=TOOLCHAIN, force=True)
        assert perform(Copy(source=source), forced).run.reason == "forced"
        assert len(Copy.runs) == 2

    @pytest.mark.parametrize("how", ["damaged", "missing"])
    def test_without_every_artifact_whole_it_is_built_again_and_says_why(
        self, place: Workplace, source: Ref, tmp_path: Path, how: str
    ) -> None:
        stage = Copy(source=source, suffixes=("one", "two"))
        ref = perform(stage, place).value.copies[1]
        path = object_path(tmp_path, ref)
        path.chmod(0o644)
        path.write_bytes(b"x" * ref.size_bytes) if how == "damaged" else path.unlink()
        again = perform(stage, place)
        assert again.run.reason == f"built, because its log {ref.sha256[:12]} is missing or damaged in the store"
        assert place.store.is_intact(ref)
        assert perform(stage, place).run.is_reused

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"{half", "built, because its record is damaged"),
            (b'{"unsealed":1}', "built, because its record is damaged"),
            (seal({}), "built, because its record is from another version of hefjoin"),
            (seal({"result": {"copies": 1}}), "built, because its record is from another version of hefjoin"),
            (
                seal({"result": {"copies": [], "words": {}}}),
                "built, because its record is from another version of hefjoin",
            ),
        ],
    )
    def test_a_record_that_cannot_be_read_is_replaced(
        self, place: Workplace, source: Ref, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        stage = Copy(source=source)
        perform(stage, place)
        (tmp_path / "store" / "reuse" / "copy" / f"{stage.key}.json").write_bytes(content)
        assert perform(stage, place).run.reason == reason
        assert perform(stage, place).run.is_reused


class TestWhatChanged:
    def reason(self, place: Workplace, then: Copy, now: Copy) -> str:
        perform(then, place)
        later = Workplace(store=place.store, root=place.root, toolchain=TOOLCHAIN, earlier_keys={then.title: then.key})
        return perform(now, later).run.reason

    def test_the_field_is_named(self, place: Workplace, source: Ref) -> None:
        now = Copy(source=source, words={"mood": "wild"})
        assert self.reason(place, Copy(source=source), now) == "built, because words.mood changed"

    def test_a_source_is_named_by_its_content(self, place: Workplace, source: Ref, tmp_path: Path) -> None:
        now = Copy(source=put(place, tmp_path, "CONTENT"))
        assert self.reason(place, Copy(source=source), now) == "built, because source.sha256 changed"

    def test_of_many_the_first_three(self, place: Workplace, source: Ref) -> None:
        now = Copy(source=source, suffixes=("a", "b", "c", "d", "e"))
        assert self.reason(place, Copy(source=source), now) == (
            "built, because suffixes[0], suffixes[1], suffixes[2] and 2 more changed"
        )

    @pytest.mark.parametrize("content", [b"{half", seal({})])
    def test_an_earlier_record_that_cannot_be_read_stops_nothing(
        self, place: Workplace, source: Ref, tmp_path: Path, content: bytes
    ) -> None:
        then = Copy(source=source)
        perform(then, place)
        (tmp_path / "store" / "reuse" / "copy" / f"{then.key}.json").write_bytes(content)
        later = Workplace(store=place.store, root=place.root, toolchain=TOOLCHAIN, earlier_keys={then.title: then.key})
        assert perform(Copy(source=source, suffixes=("two",)), later).run.reason == "built, because it is new"

    def test_a_new_version_of_the_stage_is_said(self, place: Workplace, source: Ref) -> None:
        class Newer(Copy):
            version: ClassVar[int] = 2

        assert self.reason(place, Copy(source=source), Newer(source=source)) == (
            "built, because the stage itself changed"
        )


class TestFailure:
    def test_what_is_not_required_is_not_begun(self, place: Workplace, source: Ref) -> None:
        with pytest.raises(InputError):
            perform(Copy(source=source, suffixes=()), place)
        assert Copy.runs == []
        assert not place.root.exists()

    def test_what_is_not_ensured_leaves_no_record(self, place: Workplace, source: Ref) -> None:
        with pytest.raises(CompileError):
            perform(Copy(source=source, words={"bad": "x"}), place)
        assert records(place) == []

    def test_a_failed_run_leaves_its_logs_only_and_no_record(self, place: Workplace, source: Ref) -> None:
        def fail(work: Path) -> None:
            raise CompileError("no", log_tail="")

        Copy.meddle = fail
        with pytest.raises(CompileError):
            perform(Copy(source=source), place)
        assert [Path(name).name for name in files(place.root)] == ["copy.log"]
        assert list(Copy.runs[0].iterdir()) == [Copy.runs[0] / "copy.log"]
        assert records(place) == []
        Copy.meddle = lambda work: None
        assert perform(Copy(source=source), place).run.reason == "built, because it is new"

    def test_a_finished_run_leaves_no_directory(self, place: Workplace, source: Ref) -> None:
        perform(Copy(source=source), place)
        assert list(place.root.iterdir()) == []

    def test_a_broken_promise_leaves_the_logs_too(self, place: Workplace, source: Ref) -> None:
        with pytest.raises(CompileError):
            perform(Copy(source=source, words={"bad": "x"}), place)
        assert [Path(name).name for name in files(place.root)] == ["copy.log"]
        assert records(place) == []

    def test_a_work_folder_that_cannot_be_made_is_a_store_error(self, source: Ref, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        place = Workplace(store=open_store(str(tmp_path / "store")), root=tmp_path / "file", toolchain=TOOLCHAIN)
        with pytest.raises(StoreError, match="HEFJOIN_WORK") as caught:
            perform(Copy(source=source), place)
        assert not caught.value.is_transient
        assert caught.value.reason == "refused"

    def test_a_full_disk_is_a_store_error_and_leaves_nothing(self, tmp_path: Path) -> None:
        folders = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
        script = f"""
import json, pickle, sys
sys.path[:0] = {folders}
from test_stages import *
Copy.meddle = lambda work: (work / "big").write_bytes(bytes(1 << 20)) and None
place = Workplace(store=open_store("store"), root=Path("disk").absolute(), toolchain=TOOLCHAIN)
try:
    perform(Copy(source=put(place, Path("."), "content")), place)
except StoreError as error:
    print(json.dumps([pickle.dumps(error).hex(), sorted(files(place.root)), records(place)]))
"""
        command = command_on_small_disk([sys.executable, "-c", script], tmp_path / "disk", "256k")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        error, left, kept = json.loads(done.stdout)
        found = pickle.loads(bytes.fromhex(error))
        assert isinstance(found, StoreError)
        assert (found.reason, found.is_transient) == ("full", False)
        assert "No space left on device" in str(found)
        assert [Path(name).name for name in left] == ["copy.log"]
        assert kept == []


def test_of_two_at_once_one_builds_and_the_other_waits_for_it(
    place: Workplace, source: Ref, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hefjoin.stages")
    waited = threading.Event()

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it" in record.getMessage():
                waited.set()

    handler = Seen()
    logging.getLogger("hefjoin.stages").addHandler(handler)
    Copy.meddle = lambda work: waited.wait(30) and None
    try:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: perform(Copy(source=source), place), range(2))
    finally:
        logging.getLogger("hefjoin.stages").removeHandler(handler)
    assert waited.is_set()
    assert first.value == second.value
    assert sorted(outcome.run.is_reused for outcome in (first, second)) == [False, True]
    assert len(Copy.runs) == 1
    assert place.store.list_records("claims") == place.store.list_records("beats") == []


def test_a_stage_that_fails_is_tried_by_the_one_who_waits(place: Workplace, source: Ref) -> None:
    with pytest.raises(CompileError):
        perform(Copy(source=source, words={"bad": "word"}), place)
    assert place.store.list_records("claims") == place.store.list_records("beats") == []


def test_a_result_may_hold_refs_anywhere(source: Ref) -> None:
    class Nested(Record):
        deep: dict[str, tuple[Copied, ...]]
        other: Any

    copied = Copied(copies=(source, source), words={})
    assert list(refs(Nested(deep={"a": (copied,)}, other=[source]))) == [source] * 3


class Named(Record):
    by_name: dict[str, int]


class Naming(Stage[Named]):
    stage: ClassVar[str] = "naming"
    version: ClassVar[int] = 1
    result: ClassVar[type[Named]] = Named

    def run(self, work: Path, place: Workplace) -> Named:
        return Named(by_name={"z": 1, "a": 2, "m": 3})

    def ensures(self, result: Named) -> None:
        pass


def test_what_is_reused_is_in_the_order_in_which_it_was_made(place: Workplace) -> None:
    made, reused = perform(Naming(), place), perform(Naming(), place)
    assert reused.run.is_reused
    assert list(reused.value.by_name) == list(made.value.by_name) == ["z", "a", "m"]
