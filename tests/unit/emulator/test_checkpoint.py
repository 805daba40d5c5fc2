"""A pass that was interrupted goes on from what it had seen, and ends with the bits of one that was not."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import Array, conv, conv_weights, network, node, normal

from hefjoin.emulator import checkpoint as keeping
from hefjoin.emulator import exceptions
from hefjoin.emulator.checkpoint import CHECKPOINTS, KEPT_DAYS, Checkpoint
from hefjoin.emulator.feeds import CHUNK_FRAMES, Feeds
from hefjoin.emulator.observe import Observation, Wish, Wishes, kept, observe

COUNT = 40
FRAMES = normal(COUNT, 8, 8, 3) * np.geomspace(1, 100, COUNT)[:, None, None, None].astype(np.float32)
WISHES = {
    "x": Wish(histogram=False),
    "a": Wish(by_channel=True),
    "r": Wish(),
    "y": Wish(histogram=False, by_channel=True),
}


class Interrupted(Exception):
    """Ends a pass in the middle."""


def model(seed: int = 0) -> onnx.ModelProto:
    weights = conv_weights("c", 4, 3, 3, 3, seed=seed) | conv_weights("d", 2, 4, 3, 3)
    nodes = [conv("x", "a", "c"), node("Relu", "a", "r"), conv("r", "y", "d")]
    return onnx.shape_inference.infer_shapes(network(nodes, weights))


def seen(
    frames: Any = FRAMES,
    graph: onnx.ModelProto | None = None,
    wishes: Wishes = WISHES,
    count: int = COUNT,
    until: int = COUNT,
) -> dict[str, Observation]:
    """Pass over the frames as `optimize` does, and be interrupted behind frame `until`."""
    graph = graph or model()
    feeds = Feeds(graph, frames)

    def progress(done: int) -> None:
        if done > until:
            raise Interrupted

    earlier = kept(graph, wishes, feeds, count)
    return observe(graph, wishes, feeds.frames(count, earlier.done), progress, earlier)


def bits(found: dict[str, Observation]) -> list[tuple[str, str, str, tuple[int, ...], bytes]]:
    return [
        (name, field, array.dtype.str, array.shape, array.tobytes())
        for name, item in found.items()
        for field, array in item.arrays().items()
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CHECKPOINTS, str(tmp_path / "checkpoints"))
    monkeypatch.setattr(keeping, "EVERY_S", 0.0)
    return tmp_path / "checkpoints"


@pytest.fixture
def interrupted(folder: Path) -> Path:
    """The checkpoint of a pass that was interrupted behind frame 25."""
    with pytest.raises(Interrupted):
        seen(until=25)
    (path,) = folder.iterdir()
    assert Checkpoint(path).done == 25
    return path


class Watched(np.ndarray[Any, np.dtype[Any]]):
    """Frames that know which of them were read."""

    read: list[slice]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            self.read.append(index)
        return super().__getitem__(index)


def watched() -> Watched:
    frames = FRAMES.view(Watched)
    frames.read = []
    return frames


class TestResuming:
    @pytest.mark.parametrize("stops", [(1,), (CHUNK_FRAMES,), (17, 18, 39), (COUNT - 1,)])
    def test_the_result_is_that_of_an_uninterrupted_pass(
        self, stops: tuple[int, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for until in stops:
            with pytest.raises(Interrupted):
                seen(until=until)
        resumed = seen()
        assert list(folder.iterdir()) == []
        monkeypatch.delenv(CHECKPOINTS)
        assert bits(resumed) == bits(seen())

    def test_what_was_killed_while_it_wrote_is_cleared_away(self, interrupted: Path) -> None:
        interrupted.with_name(f".{interrupted.name}.17.tmp").write_bytes(b"PK")
        seen()
        assert list(interrupted.parent.iterdir()) == []

    def test_it_begins_behind_the_frames_that_were_seen(
        self, interrupted: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        graph, done = model(), []
        frames = watched()
        earlier = kept(graph, WISHES, Feeds(graph, FRAMES), COUNT)
        observe(graph, WISHES, Feeds(graph, frames).frames(COUNT, earlier.done), done.append, earlier)
        assert done == list(range(26, COUNT + 1))
        assert [(part.start, part.stop) for part in frames.read] == [(25, COUNT)]
        assert "Going on behind frame 25, where an earlier run was interrupted" in capsys.readouterr().out
        assert not interrupted.exists()

    def test_a_pass_that_ends_in_an_error_leaves_nothing(self, folder: Path) -> None:
        graph = onnx.shape_inference.infer_shapes(network([node("Log", "x", "y")]))
        with pytest.raises(exceptions.AccelerasNumerizationError):
            seen(np.zeros_like(FRAMES), graph, {"y": Wish()})
        assert list(folder.iterdir()) == []


OTHERS: dict[str, Callable[[], Any]] = {
    "frame": lambda: seen(np.concatenate([FRAMES[:-1], FRAMES[:1]]), until=COUNT),
    "type": lambda: seen(FRAMES.astype(np.float64), until=COUNT),
    "count": lambda: seen(count=COUNT - 1),
    "graph": lambda: seen(graph=model(seed=1)),
    "wish": lambda: seen(wishes=WISHES | {"r": Wish(by_channel=True)}),
}


class TestKey:
    @pytest.mark.parametrize("other", OTHERS)
    def test_another_pass_begins_anew(self, other: str, interrupted: Path, capsys: pytest.CaptureFixture[str]) -> None:
        OTHERS[other]()
        assert "Going on" not in capsys.readouterr().out
        assert interrupted.exists()

    def test_so_does_one_of_another_runtime(
        self, interrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(onnxruntime, "__version__", "0.0.1")
        seen()
        assert "Going on" not in capsys.readouterr().out
        assert interrupted.exists()

    def test_where_the_frames_come_from_does_not_matter(
        self, interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "frames.npy", FRAMES)
        seen(str(tmp_path / "frames.npy"))
        assert "Going on behind frame 25" in capsys.readouterr().out
        assert not interrupted.exists()


class TestDamage:
    def test_a_checkpoint_counts_whole_or_not_at_all(self, interrupted: Path) -> None:
        whole, chance = interrupted.read_bytes(), random.Random(0)
        wanted = Checkpoint(interrupted).taken()
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            interrupted.write_bytes(damaged[: chance.choice([len(whole), chance.randrange(len(whole))])])
            found = Checkpoint(interrupted)
            arrays = found.taken()
            assert found.done in (0, 25)
            assert found.done or not arrays
            assert all(np.array_equal(arrays[name], wanted[name]) for name in arrays)

    def test_what_fails_while_it_is_written_leaves_the_one_before(
        self, interrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = interrupted.read_bytes()

        def full(stream: Any, **arrays: Array) -> None:
            stream.write(b"PK")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(Interrupted):
            seen(until=30)
        assert [path.read_bytes() for path in interrupted.parent.iterdir()] == [before]
        said = capsys.readouterr().out
        assert said.count("[warning]") == 1
        assert "cannot be resumed if it is interrupted" in said
        assert "No space left on device" in said

    def test_a_folder_that_cannot_be_made_costs_a_warning(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.write_text("a file")
        assert bits(seen()) == bits(seen())
        assert capsys.readouterr().out.count("[warning]") == 2


class TestFolder:
    def test_nothing_is_kept_unless_a_folder_is_named(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(CHECKPOINTS)
        with pytest.raises(Interrupted):
            seen(until=25)
        assert not folder.exists()

    def test_a_pass_of_seconds_is_not_worth_one(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "EVERY_S", 10.0)
        with pytest.raises(Interrupted):
            seen(until=25)
        assert not folder.exists()

    def test_what_nobody_came_back_for_is_removed_and_nothing_else(self, folder: Path) -> None:
        folder.mkdir()
        name, now = f"calibration-{'0' * 64}.npz", time.time()
        for path, days in (
            (name, KEPT_DAYS + 1),
            (f".{name}.17.tmp", KEPT_DAYS + 1),
            (name.replace("0", "1"), KEPT_DAYS - 1),
            ("set.npz", KEPT_DAYS + 1),
        ):
            (folder / path).write_bytes(b"")
            os.utime(folder / path, (now - days * 86400,) * 2)
        seen()
        assert sorted(path.name for path in folder.iterdir()) == [name.replace("0", "1"), "set.npz"]
