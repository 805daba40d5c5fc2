"""Claims: one at a time, ended by release or death, taken over without comparing clocks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hefjoin.errors import StoreError
from hefjoin.stores import Store, claims, open_store
from hefjoin.stores.claims import Owner, claimed, owners, stop_waiting, wait_until_free

ROOT = Path(__file__).resolve().parents[2]
KEY = "parse/0123"
HOLD = f"""
import sys
from hefjoin.stores import open_store
from hefjoin.stores.claims import claimed
with claimed(open_store(sys.argv[1]), {KEY!r}, "parse left"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@contextmanager
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Hold the claim in another process of this machine."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, store.uri], stdin=pipe, stdout=pipe, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def hold_from_afar(store: Store, number: int = 1, beats: int = 1) -> Owner:
    """Leave the claim of an owner on a machine whose processes cannot be seen here."""
    owner = Owner(id=f"far{number}", what="parse left", host="far", machine="", pid=1, started="", since="noon")
    store.replace_record(f"claims/{KEY}/{number:06d}", owner.model_dump(mode="json"))
    store.replace_record(f"beats/{owner.id}", {"count": beats})
    return owner


def left(store: Store) -> list[str]:
    return [*store.list_records("claims"), *store.list_records("beats")]


def test_what_is_released_leaves_nothing(store: Store) -> None:
    with claimed(store, KEY, "parse left") as owner:
        assert store.list_records("claims") == [f"claims/{KEY}/000001"]
        assert store.read_record(f"beats/{owner.id}") == {"count": 0}
        assert owners(store).living == {KEY: owner}
    assert left(store) == []


def test_an_error_releases_too(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), claimed(store, KEY, "parse left"):
        _ = 1 / 0
    assert left(store) == []


def test_many_at_once_have_it_one_after_the_other(store: Store) -> None:
    inside, most = [], []

    def work(_: int) -> None:
        with claimed(store, KEY, "parse left"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert most == [1] * 6
    assert left(store) == []


def test_the_one_who_waits_is_told_once_for_whom(store: Store) -> None:
    told: list[Owner] = []
    seen = threading.Event()

    def tell(owner: Owner) -> None:
        told.append(owner)
        seen.set()

    def wait() -> None:
        with claimed(store, KEY, "parse left", tell):
            pass

    with claimed(store, KEY, "parse left") as owner:
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert seen.wait(30)
    waiter.join(30)
    assert told == [owner]
    assert str(owner).startswith(f"process {owner.pid} on {owner.host} since 2")


def test_a_killed_process_of_this_machine_is_followed_at_once(store: Store) -> None:
    with holder(store) as process:
        process.kill()
        process.wait(30)
        with claimed(store, KEY, "parse left", lease_s=1e9):
            assert store.list_records("claims") == [f"claims/{KEY}/{number:06d}" for number in (1, 2)]
    assert store.list_records("claims") == []


def test_a_process_that_lives_is_waited_for(store: Store) -> None:
    told = threading.Event()
    with holder(store) as process:
        waiter = threading.Thread(target=wait_until_free, args=(store, KEY, lambda owner: told.set()))
        waiter.start()
        assert told.wait(30)
        assert waiter.is_alive()
        assert process.stdin
        process.stdin.close()
        waiter.join(30)
        assert not waiter.is_alive()


def test_a_later_process_of_the_same_number_is_another(store: Store) -> None:
    with claimed(store, KEY, "parse left") as owner:
        earlier = owner.model_copy(update={"started": "1"})
        assert claims.Watch(store, 1e9).state(earlier) == "gone"


def test_an_owner_from_afar_lapses_when_its_heart_stands_still(store: Store) -> None:
    hold_from_afar(store)
    assert owners(store, lease_s=0.2).lapsed == (f"claims/{KEY}/000001",)
    with claimed(store, KEY, "parse left", lease_s=0.2):
        assert [key[-6:] for key in store.list_records("claims")] == ["000001", "000002"]


def test_an_owner_from_afar_whose_heart_beats_is_known_to_live(store: Store) -> None:
    owner = hold_from_afar(store)
    watch = claims.Watch(store, 1e9)
    assert [watch.state(owner), watch.state(owner)] == ["unknown", "unknown"]
    hold_from_afar(store, beats=2)
    assert watch.state(owner) == "alive"


def test_only_one_follows_a_dead_owner_at_a_time(store: Store) -> None:
    hold_from_afar(store)
    inside: list[int] = []
    most: list[int] = []

    def work(_: int) -> None:
        with claimed(store, KEY, "parse left", lease_s=0.5):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == [1] * 4
    assert store.list_records("claims") == []


def test_the_heart_goes_on_beating(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    with claimed(store, KEY, "parse left") as owner:
        watch, states = claims.Watch(store, 1e9), set()
        elsewhere = owner.model_copy(update={"machine": "another"})
        while "alive" not in states:
            states.add(watch.state(elsewhere))
    assert states == {"unknown", "alive"}


def test_a_damaged_claim_is_nobodys(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store" / "claims" / KEY).mkdir(parents=True)
    (tmp_path / "store" / "claims" / KEY / "000001.json").write_text("{")
    with claimed(store, KEY, "parse left"):
        pass
    assert left(store) == []


def test_a_damaged_heartbeat_stands_still(store: Store, tmp_path: Path) -> None:
    hold_from_afar(store)
    (tmp_path / "store" / "beats" / "far1.json").write_text("{")
    assert owners(store, lease_s=0.2).lapsed == (f"claims/{KEY}/000001",)


def test_one_who_looked_at_a_row_that_was_begun_anew_since_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_from_afar(store)
    create, follower = store.create_record, claims._this_process("parse left")
    told: list[Owner] = []

    def create_late(key: str, record: dict[str, object]) -> bool:
        """Let another follow and leave, and the next begin a new row, between looking and creating."""
        monkeypatch.setattr(store, "create_record", create)
        store.replace_record(f"claims/{KEY}/000001", follower.model_dump(mode="json"))
        return create(key, record)

    def leave(owner: Owner) -> None:
        told.append(owner)
        if owner.id == "far1":
            return
        assert store.list_records("claims") == [f"claims/{KEY}/000001"]
        store.remove_record(f"claims/{KEY}/000001")

    monkeypatch.setattr(store, "create_record", create_late)
    with claimed(store, KEY, "parse left", leave, lease_s=0.2):
        assert [owner.id for owner in told if owner.id != "far1"] == [follower.id]


def test_one_who_waits_is_told_to_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_told_to_end", threading.Event())
    with claimed(store, KEY, "parse left"):
        with pytest.raises(StoreError, match="told to end"), claimed(store, KEY, "parse", lambda _: stop_waiting()):
            pass
        assert len(left(store)) == 2
    assert left(store) == []


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"), claimed(open_store(str(tmp_path / "file")), KEY, "parse"):
        pass
