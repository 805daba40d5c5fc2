"""Files that were hashed before are not read again, and whatever was written to is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hefjoin.artifacts import file_sha256
from hefjoin.calibration import set_sha256
from hefjoin.catalogue import seen
from hefjoin.catalogue.seen import Seen

MINUTE_NS = 60_000_000_000


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read; a minute has passed since they were written."""
    names: list[str] = []

    def hash_one(path: Path) -> str:
        names.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(seen, "file_sha256", hash_one)
    monkeypatch.setattr(seen.time, "time_ns", lambda: now_ns() + MINUTE_NS)
    return names


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "day").mkdir(parents=True)
    for name in ("b.png", "A.png", "day/c.png"):
        (folder / name).write_bytes(name.encode())
    return folder


def look(folder: Path) -> str:
    return Seen(folder.parent / "kept").sha256(folder)


def test_a_set_is_read_once_and_its_digest_is_that_of_a_build(folder: Path, read: list[str]) -> None:
    assert look(folder) == set_sha256(folder)
    assert sorted(read) == ["A.png", "b.png", "c.png"]
    read.clear()
    assert look(folder) == set_sha256(folder)
    assert read == []


def test_only_what_was_written_to_is_read_again_though_size_and_time_of_writing_are_the_same(
    folder: Path, read: list[str]
) -> None:
    before = look(folder)
    read.clear()
    path = folder / "b.png"
    times = path.stat()
    path.write_bytes(b"x.png")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert look(folder) == set_sha256(folder) != before
    assert read == ["b.png"]


def test_a_file_that_takes_the_place_of_another_is_read(folder: Path, read: list[str]) -> None:
    look(folder)
    read.clear()
    other = folder.parent / "other"
    other.write_bytes(b"y.png")
    other.replace(folder / "b.png")
    assert look(folder) == set_sha256(folder)
    assert read == ["b.png"]


def test_what_was_written_a_moment_ago_is_read_each_time(
    folder: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen.time, "time_ns", now_ns)
    look(folder)
    read.clear()
    look(folder)
    assert sorted(read) == ["A.png", "b.png", "c.png"]


def test_damaged_notes_count_as_none(folder: Path, read: list[str]) -> None:
    kept, path = folder.parent / "kept", folder / "b.png"
    Seen(kept).sha256(path)
    (note,) = kept.iterdir()
    note.write_text("{")
    assert Seen(kept).sha256(path) == file_sha256(path)
    assert read == ["b.png", "b.png"]
