"""What `gc` removes and what it leaves: builds that are kept, builds that run, work that was cut off."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from hefjoin.artifacts import Record, Ref
from hefjoin.builds.gc import Keep, Waste, remove, waste
from hefjoin.builds.rollback import roll_back
from hefjoin.builds.verify import verify
from hefjoin.manifest import Published
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.stages.contract import Stage, Workplace, perform
from hefjoin.stores import Store, claims, open_store
from hefjoin.stores.claims import claimed
from hefjoin.stores.pins import REMOVING, pin, running
from tests.builds import make_manifest
from tests.kept import FAILED, keep, put

NAME = "resnet-pair"
ONE = Keep(builds=1)


class Made(Record):
    made: Ref


class Make(Stage[Made]):
    """Leaves a text in the store."""

    stage: ClassVar[str] = "make"
    version: ClassVar[int] = 1
    result: ClassVar[type[Any]] = Made
    runs: ClassVar[list[str]] = []
    text: str

    def run(self, work: Path, place: Workplace) -> Made:
        self.runs.append(self.text)
        (work / "made").write_text(self.text)
        return Made(made=place.put(work / "made", "log"))

    def ensures(self, result: Made) -> None:
        assert result.made.size_bytes == len(self.text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    Make.runs.clear()
    return open_store(str(tmp_path / "artifacts"))


@pytest.fixture
def place(store: Store, tmp_path: Path) -> Workplace:
    toolchain = Toolchain(sdk=Sdk(provider="emulator", version="1"), python=sys.executable)
    return Workplace(store=store, root=tmp_path / "work", toolchain=toolchain)


def build(store: Store, folder: Path, build_id: str, **changes: Any) -> Published:
    """Keep a build whose quantized HAR is its own and whose other artifacts are those of all."""
    har = put(store, folder, f"har of {build_id}", "har")
    quantized = make_manifest().quantized.model_copy(
        update={"har": har.model_copy(update={"uri": f"har of {build_id}"})}
    )
    return keep(store, folder, build_id, quantized=quantized, **changes)


def collect(store: Store, kept: Keep = ONE) -> Waste:
    return remove(store, waste(store, kept), kept)


def media(found: Waste) -> list[str]:
    return sorted(each.media for each in found.objects)


def is_whole(store: Store, published: Published) -> bool:
    return not [each for each in verify(store, published).findings if each.kind == "artifact"]


class TestBuilds:
    def test_the_newest_stay_whole_and_of_the_others_all_that_is_their_own_goes(
        self, store: Store, tmp_path: Path
    ) -> None:
        first, second, third = (build(store, tmp_path, build_id) for build_id in ("2025a", "2025b", "2025c"))
        assert is_whole(store, first)
        found = collect(store, Keep(builds=2))
        assert (found.builds, media(found)) == (("2025a",), ["har", "html", "json"])
        assert is_whole(store, second)
        assert is_whole(store, third)
        assert not store.has(first.manifest)
        assert [key[-6:] for key in store.list_records("names")] == ["000002", "000003"]
        assert waste(store, Keep(builds=2)).is_empty

    def test_showing_changes_nothing(self, store: Store, tmp_path: Path) -> None:
        for build_id in ("2025a", "2025b"):
            build(store, tmp_path, build_id)
        shown = waste(store, ONE)
        assert shown == waste(store, ONE)
        assert shown.builds == ("2025a",)

    def test_the_latest_stays_though_builds_that_failed_are_newer(self, store: Store, tmp_path: Path) -> None:
        good = build(store, tmp_path, "2025a")
        for build_id in ("2025b", "2025c"):
            build(store, tmp_path, build_id, gates=(FAILED,))
        assert collect(store).builds == ("2025b",)
        assert is_whole(store, good)

    def test_what_was_rolled_back_to_is_the_latest(self, store: Store, tmp_path: Path) -> None:
        good = build(store, tmp_path, "2025a")
        build(store, tmp_path, "2025b")
        build(store, tmp_path, "2025c")
        roll_back(store, NAME, "emulator", to="2025a")
        assert collect(store).builds == ("2025b",)
        assert is_whole(store, good)

    def test_each_name_has_its_own(self, store: Store, tmp_path: Path) -> None:
        build(store, tmp_path, "2025a")
        build(store, tmp_path, "2025b", sdk=Sdk(provider="dfc", version="3.33.0"))
        assert waste(store, ONE).is_empty

    def test_a_manifest_of_another_version_keeps_what_it_points_to(self, store: Store, tmp_path: Path) -> None:
        har = put(store, tmp_path, "har", "har")
        old = put(store, tmp_path, json.dumps({"schema_version": 1, "deep": [{"har": har.model_dump()}]}), "json")
        record = {"build_id": "2024a", "manifest": old.model_dump(mode="json")}
        store.create_record(f"builds/emulator/{NAME}/2024a", record)
        assert waste(store, ONE).is_empty

    def test_a_lost_manifest_is_told(self, store: Store, tmp_path: Path) -> None:
        published = build(store, tmp_path, "2025a")
        (stored,) = (each for each in store.objects() if each.sha256 == published.manifest.sha256)
        store.remove_object(stored)
        assert waste(store, ONE).lost == ("2025a",)

    def test_as_many_of_the_newest_pages_stay(self, store: Store, tmp_path: Path) -> None:
        pages = {
            f"pages/{kind}/2025112{number}-070000-abcd": put(store, tmp_path, f"{kind} {number}", "html")
            for kind in ("fleet", "rebuild")
            for number in (1, 2, 3)
        }
        for key, ref in pages.items():
            store.create_record(key, {"page": ref.model_dump(mode="json")})
        found = waste(store, Keep(builds=2))
        old = [key for key in pages if "20251121" in key]
        assert list(found.records) == old
        assert {each.sha256 for each in found.objects} == {pages[key].sha256 for key in old}

    def test_what_was_not_shown_is_not_removed(self, store: Store, tmp_path: Path) -> None:
        build(store, tmp_path, "2025a")
        shown = waste(store, ONE)
        build(store, tmp_path, "2025b")
        assert remove(store, shown, ONE).is_empty
        assert len(store.list_records("builds")) == 2


class TestStages:
    def test_what_no_build_has_goes_unless_it_is_young(self, place: Workplace) -> None:
        perform(Make(text="abc"), place)
        assert waste(place.store, Keep(builds=1, days=1)).is_empty
        assert (collect(place.store).stages, list(place.store.objects())) == (1, [])

    def test_it_stays_where_all_it_made_stays(self, place: Workplace, tmp_path: Path) -> None:
        perform(Make(text="har of 2025a"), place)
        har = put(place.store, tmp_path, "har of 2025a", "log")
        build(place.store, tmp_path, "2025a", check=make_manifest().check.model_copy(update={"labels": None}))
        place.store.create_record(f"builds/emulator/{NAME}/2025b", {"build_id": "2025b", "hef": har.model_dump()})
        assert collect(place.store, Keep(builds=2)).stages == 0
        assert perform(Make(text="har of 2025a"), place).run.is_reused

    def test_a_compilers_decisions_stay_as_long_as_their_script_does(self, place: Workplace, tmp_path: Path) -> None:
        for text in ("kept", "lost"):
            ref = put(place.store, tmp_path, text, "alls")
            place.store.create_record(f"auto/{text}", {"auto_script": ref.model_dump(mode="json")})
            if text == "kept":
                script = ref.model_copy(update={"uri": text})
                compiled = make_manifest().compiled.model_copy(update={"auto_script": script})
                build(place.store, tmp_path, "2025a", compiled=compiled)
        assert media(collect(place.store)) == ["alls"]
        assert place.store.list_records("auto") == ["auto/kept"]

    def test_that_of_a_kept_build_stays(self, place: Workplace, tmp_path: Path) -> None:
        run = perform(Make(text="abc"), place).run
        build(place.store, tmp_path, "2025a", stages=(run,))
        assert collect(place.store).stages == 0
        assert store_has_record(place.store, f"reuse/make/{run.key}")


def store_has_record(store: Store, key: str) -> bool:
    return store.read_record(key) is not None


class TestRunning:
    def test_what_a_running_build_made_or_reused_stays(self, place: Workplace) -> None:
        perform(Make(text="reused"), place)
        perform(Make(text="not used"), place)
        with running(place.store, "build tiny") as id_:
            at_work = Workplace(store=place.store, root=place.root, toolchain=place.toolchain, build=id_)
            reused, made = (perform(Make(text=text), at_work).value for text in ("reused", "made"))
            found = collect(place.store)
            assert [owner.what for owner in found.running] == ["build tiny"]
            assert found.stages == 1
            assert place.store.is_intact(reused.made)
            assert place.store.is_intact(made.made)
        assert collect(place.store).stages == 2
        assert {folder.name for folder in (Path(place.store.uri[7:])).iterdir()} <= {
            *("objects", "reuse", "claims", "beats", "pins", ".partial")
        }

    def test_the_pins_and_claims_of_one_that_was_killed_go(self, place: Workplace, tmp_path: Path) -> None:
        ref = put(place.store, tmp_path, "abc", "log")
        with running(place.store, "build tiny") as id_:
            pin(place.store, id_, [ref])
            (key,) = place.store.list_records("claims")
            owner = claims.Owner.model_validate(place.store.read_record(key))
            place.store.replace_record(key, owner.model_copy(update={"started": "1"}).model_dump(mode="json"))
            found = collect(place.store)
        assert found.running == ()
        assert media(found) == ["log"]
        assert place.store.list_records("pins") == place.store.list_records("claims") == []

    def test_a_build_that_pins_while_things_are_removed_waits_and_looks_then(
        self, place: Workplace, tmp_path: Path
    ) -> None:
        perform(Make(text="abc"), place)
        with running(place.store, "build tiny") as id_:
            at_work = Workplace(store=place.store, root=place.root, toolchain=place.toolchain, build=id_)
            with claimed(place.store, REMOVING, "remove"):
                found = waste(place.store, ONE)
                builder = threading.Thread(target=perform, args=(Make(text="abc"), at_work))
                builder.start()
                while not place.store.list_records("pins"):
                    assert builder.is_alive()
                for key in found.records:
                    place.store.remove_record(key)
                for stored in found.objects:
                    place.store.remove_object(stored)
                assert Make.runs == ["abc"]
            builder.join(30)
        assert Make.runs == ["abc", "abc"]
        assert perform(Make(text="abc"), place).run.is_reused

    def test_what_was_pinned_between_showing_and_removing_stays(self, place: Workplace, tmp_path: Path) -> None:
        ref = put(place.store, tmp_path, "abc", "log")
        shown = waste(place.store, ONE)
        with running(place.store, "build tiny") as id_:
            pin(place.store, id_, [ref])
            assert remove(place.store, shown, ONE).is_empty
        assert place.store.has(ref)


def plain(done: Result) -> str:
    return done.output.replace("\u202f", " ")


class TestCommand:
    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ("gc", *arguments))

    @pytest.fixture(autouse=True)
    def builds(self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for build_id in ("2025a", "2025b"):
            build(store, tmp_path, build_id)

    def test_without_a_terminal_it_only_shows(self, store: Store) -> None:
        done = self.run("--keep", "1")
        assert done.exit_code == 0
        for part in ("2025a", "1 build,", "3 artifacts", "nothing was removed; --yes"):
            assert part in plain(done)
        assert "2025b" not in done.output
        assert len(store.list_records("builds")) == 2

    def test_with_yes_it_removes(self, store: Store) -> None:
        assert "removed 3 artifacts" in plain(self.run("--keep", "1", "--yes"))
        assert len(store.list_records("builds")) == 1
        assert "nothing to remove" in self.run("--keep", "1", "--yes").output

    def test_as_json(self) -> None:
        found = json.loads(self.run("--keep", "1", "--yes", "--json").output)
        assert (found["is_removed"], found["builds"], len(found["artifacts"])) == (True, ["2025a"], 3)

    @pytest.mark.parametrize("arguments", [(), ("--keep", "0"), ("--keep", "1", "--days", "-1")])
    def test_what_it_keeps_must_be_said(self, arguments: tuple[str, ...]) -> None:
        assert self.run(*arguments).exit_code == 2
