"""Rolling back, and the history that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hefjoin.builds.find import latest_build, read_manifest, repeated_build
from hefjoin.builds.history import history
from hefjoin.builds.rollback import provider_of, roll_back
from hefjoin.builds.rows import latest, row_of
from hefjoin.errors import InputError, StoreError
from hefjoin.stores import Store, open_store
from tests.builds import device_manifest, make_manifest
from tests.kept import FAILED, keep, object_path

NAME = "resnet-pair"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the builds b1 to b3, and f4 that failed a gate."""
    store = open_store(str(tmp_path / "store"))
    for number in (1, 2, 3):
        keep(store, tmp_path, f"b{number}", created_at=f"2025-11-2{number}T07:00:00Z")
    keep(store, tmp_path, "f4", gates=(FAILED,))
    return store


def back(store: Store, to: str = "") -> str:
    """Roll back and return which build is the latest then."""
    current, record = roll_back(store, NAME, "emulator", to)
    newest = latest(store, "emulator", NAME)
    assert newest == record
    assert current.build_id != record.build_id
    return record.build_id


def states(store: Store) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {entry.build_id: (entry.state, entry.records) for entry in history(store, "emulator", NAME)}


def test_twice_goes_two_back_and_then_there_is_nothing_before(store: Store) -> None:
    earlier = [store.read_record(key) for key in row_of(store, "emulator", NAME)]
    assert [back(store), back(store)] == ["b2", "b1"]
    with pytest.raises(InputError, match=r"no build before b1"):
        back(store)
    keys = row_of(store, "emulator", NAME)
    assert [store.read_record(key) for key in keys[:3]] == earlier
    assert len(keys) == 5


def test_a_record_says_what_was_taken_back(store: Store) -> None:
    back(store)
    _, record = roll_back(store, NAME, "emulator")
    assert record.took_back == ("b2", "b3")
    _, record = roll_back(store, NAME, "emulator", "b3")
    assert record.took_back == ("b1", "b2")


def test_after_a_new_build_back_is_what_it_replaced(store: Store, tmp_path: Path) -> None:
    assert back(store) == "b2"
    keep(store, tmp_path, "b5")
    assert back(store) == "b2"


def test_going_forward_and_back_again(store: Store) -> None:
    assert [back(store, "b1"), back(store, "b3"), back(store)] == ["b1", "b3", "b1"]


def test_history_says_what_stands(store: Store) -> None:
    back(store)
    assert states(store) == {
        "b1": ("promoted", (1,)),
        "b2": ("latest", (2, 4)),
        "b3": ("rolled back", (3,)),
        "f4": ("not promoted", ()),
    }
    assert [entry.build_id for entry in history(store, "emulator", NAME, last=2)] == ["b3", "f4"]


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("b3", "b3 is the latest of resnet-pair already"),
        ("f4", r"f4 was never the latest .*SNR of resnet_a wanted ≥ 40 dB, found 31.2 dB, 8.8 dB below 40"),
        ("b", "'b' is how 3 builds of resnet-pair begin: b1, b2, b3"),
        ("x", "'x' is no build of resnet-pair by the emulator; `hefjoin history resnet-pair`"),
        ("other", "'other' is no build of resnet-pair"),
    ],
)
def test_what_no_one_can_go_back_to_is_refused_with_the_reason(
    store: Store, tmp_path: Path, to: str, message: str
) -> None:
    keep(store, tmp_path, "other", spec=device_manifest().spec.model_copy(update={"name": "solo"}))
    before = row_of(store, "emulator", NAME)
    with pytest.raises(InputError, match=message):
        back(store, to)
    assert row_of(store, "emulator", NAME) == before


def test_a_damaged_build_is_refused_and_a_damaged_reuse_record_is_not(store: Store) -> None:
    previous = history(store, "emulator", NAME)[1].manifest
    assert previous is not None
    run = previous.stages[0]
    store.create_record(f"reuse/{run.stage}/{run.key}", {"a": 1})
    path = Path(store.uri.removeprefix("file://")) / f"reuse/{run.stage}/{run.key}.json"
    path.chmod(0o644)
    path.write_text("{", encoding="utf-8")
    assert back(store) == "b2"
    object_path(store, previous.quantized.har).unlink()
    with pytest.raises(StoreError, match=r"build b1 is not whole: quantized.har is missing"):
        back(store)


def test_a_name_of_both_compilers_is_asked_about(store: Store, tmp_path: Path) -> None:
    assert provider_of(store, NAME) == "emulator"
    with pytest.raises(InputError, match="by the emulator only"):
        provider_of(store, NAME, "dfc")
    keep(store, tmp_path, "real", device_manifest())
    with pytest.raises(InputError, match="--sdk dfc or emulator"):
        provider_of(store, NAME)
    assert provider_of(store, NAME, "dfc") == "dfc"
    with pytest.raises(InputError, match=r"no builds of the name 'nope'; it has resnet-pair"):
        provider_of(store, "nope")


@pytest.mark.parametrize(
    ("changes", "is_repeated"),
    [
        ({}, True),
        ({"is_reused": False, "reason": "built, because its har 0123 is missing or damaged in the store"}, True),
        ({"key": "1" * 64}, False),
    ],
)
def test_building_what_was_taken_back_again_is_no_new_build(
    store: Store, tmp_path: Path, changes: dict[str, Any], is_repeated: bool
) -> None:
    taken = read_manifest(
        store, keep(store, tmp_path, "b5", spec=make_manifest().spec.model_copy(update={"script": "x"}))
    )
    back(store)
    before = latest_build(store, "emulator", NAME)
    assert before is not None
    first, *rest = (run.model_copy(update={"reason": "same inputs", "is_reused": True}) for run in taken.stages)
    again = taken.model_copy(update={"build_id": "b9", "stages": (first.model_copy(update=changes), *rest)})
    found = repeated_build(store, before, again)
    assert (found.manifest if found else None) == (taken if is_repeated else None)


class TestHistory:
    def test_a_build_that_cannot_be_read_says_so_and_the_others_are_there(self, store: Store, tmp_path: Path) -> None:
        lost = keep(store, tmp_path, "b5")
        object_path(store, lost.manifest).unlink()
        store.create_record(f"builds/emulator/{NAME}/b6", {"build_id": "b6"})
        found = {entry.build_id: entry.problem for entry in history(store, "emulator", NAME)}
        assert "is missing" in found["b5"]
        assert "another version" in found["b6"]
        assert [found[each] for each in ("b1", "b2", "b3", "f4")] == [""] * 4

    def test_figures_carry_their_source(self, store: Store, tmp_path: Path) -> None:
        keep(store, tmp_path, "real", device_manifest())
        (emulated,), (real,) = history(store, "emulator", NAME, last=1), history(store, "dfc", NAME)
        sources: Any = [
            {name: entry.figures[name].source for name in ("throughput at batch 1", "contexts", "SNR of resnet_a/fc1")}
            for entry in (emulated, real)
        ]
        assert list(sources[0].values()) == ["emulator", "forecast", "emulator"]
        assert list(sources[1].values()) == ["device", "hef", "DFC"]
