"""Coverage, need, choice and clipping, against plain numpy over all that was kept and against every possible subset."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.coverage.choose import choose
from hefjoin.coverage.clip import FOLDS, Ranges
from hefjoin.coverage.cover import Cover
from hefjoin.coverage.looks import NEAR, Copy, copies, look, oddities

Floats = npt.NDArray[np.float32]
MODELS = {"left": 5, "right": 3}


def reaches(frames: int, seed: int = 0) -> Floats:
    """Return what frames reach: few far, most not, one channel dead."""
    found = np.random.default_rng(seed).gamma(0.6, 1, (frames, 2, sum(MODELS.values()))).astype(np.float32)
    found[:, :, 3] = 0
    return found


def coverage(found: Floats, frames: Sequence[int]) -> list[float]:
    """The definition, channel by channel."""
    result = []
    for begin, count in ((0, 5), (5, 3)):
        shares = []
        for channel in range(begin, begin + count):
            whole = max(found[:, 0, channel]) + max(found[:, 1, channel])
            if whole > 0:
                part = [max((found[frame, side, channel] for frame in frames), default=0) for side in (0, 1)]
                shares.append(float(sum(part)) / float(whole))
        result.append(sum(shares) / len(shares))
    return result


def test_coverage_is_the_mean_width_of_the_ranges_that_have_one() -> None:
    found = reaches(9)
    cover = Cover(found, MODELS)
    assert cover.is_alive.tolist() == [True, True, True, False, True, True, True, True]
    for frames in ([], [4], [0, 8], [1, 2, 3, 5], range(9)):
        assert cover.of_frames(list(frames)) == pytest.approx(coverage(found, list(frames)), rel=1e-6, abs=1e-9)
    along = cover.along([3, 0, 7])
    assert along[1] == pytest.approx(coverage(found, [3, 0]), rel=1e-6)


def test_a_model_needs_a_frame_for_what_it_loses_without_it() -> None:
    found = reaches(9)
    found[6] = found[2]  # neither of two equal frames is needed
    cover = Cover(found, MODELS)
    needs = cover.needs()
    for frame in range(9):
        others = [each for each in range(9) if each != frame]
        assert needs[frame] == pytest.approx([1 - share for share in coverage(found, others)], abs=1e-6)
    assert needs[[2, 6]].tolist() == [[0, 0], [0, 0]]
    frame = int(needs[:, 1].argmax())
    assert cover.stretched(frame, "right").mean() == pytest.approx(needs[frame, 1])


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.1, 0.3]), st.sampled_from([(), ("left",), ("right",)]))
def test_the_choice_is_enough_without_waste_and_within_its_bound(
    seed: int, loss: float, models: tuple[str, ...]
) -> None:
    found = reaches(7, seed)
    cover = Cover(found, MODELS)
    judged = [list(MODELS).index(model) for model in models or MODELS]

    def is_enough(frames: Sequence[int]) -> bool:
        shares = coverage(found, frames)
        return all(shares[index] >= 1 - loss - 1e-6 for index in judged)

    chosen = choose(cover, loss, models)
    assert is_enough(chosen)
    assert len(set(chosen)) == len(chosen)
    if loss:  # without slack the rounding of a sum decides
        assert (
            not any(is_enough([other for other in chosen if other != frame]) for frame in chosen)
            or min(
                abs(share - (1 - loss))
                for frame in chosen
                for share in coverage(found, [o for o in chosen if o != frame])
            )
            < 1e-5
        )
    least = next(size for size in range(8) if any(map(is_enough, combinations(range(7), size))))
    goal = 1 - loss
    before = cover.along(chosen)[:, judged].clip(max=goal).sum(axis=1)
    missing = len(judged) * goal - (before[-2] if len(chosen) > 1 else 0)
    assert len(chosen) <= math.ceil(least * (1 + math.log(max(len(judged) * goal / max(missing, 1e-9), 1))))


def test_the_first_frame_chosen_is_the_one_that_covers_most() -> None:
    found = reaches(12, 3)
    cover = Cover(found, MODELS)
    best = max(range(12), key=lambda frame: sum(min(share, 0.95) for share in coverage(found, [frame])))
    order = choose(cover, 0.05)
    assert order[0] == best


def test_frames_of_nothing_need_no_choice() -> None:
    assert choose(Cover(np.zeros((3, 2, 8), np.float32), MODELS), 0.01) == []


def test_ranges_without_a_fold_are_those_of_the_other_frames() -> None:
    found = reaches(13)
    ranges = Ranges(found)
    assert np.array_equal(ranges.of_all(), found.max(axis=0))
    for frame in range(13):
        others = [each for each in range(13) if each % FOLDS != frame % FOLDS]
        assert np.array_equal(ranges.without(frame), found[others].max(axis=0))
    assert not Ranges(found[:1]).without(0).any()


@pytest.mark.alone
def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = tmp_path / f"{frames}.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (frames, 2, 4000))
        mapped[:] = np.random.default_rng(0).random((1, 2, 4000))
        tracemalloc.start()
        try:
            cover = Cover(mapped, {"left": 3000, "right": 1000})
            choose(cover, 0.01)
            cover.needs()
            Ranges(mapped).of_all()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(50), peak(500)
    assert many - few < 500 * 2 * 4000 * 4 / 20


# How frames look


def picture(seed: int, size: int = 40) -> npt.NDArray[np.uint8]:
    return (
        np.random.default_rng(seed)
        .integers(0, 256, (5, 5, 3))
        .astype(np.uint8)
        .repeat(size // 5, 0)
        .repeat(size // 5, 1)
    )


def test_copies_are_told_with_the_first_that_they_are_like() -> None:
    first, second = picture(0), picture(1)
    brighter = np.clip(first.astype(int) + 2, 0, 255).astype(np.uint8)
    found = list(copies(map(look, [first, second, brighter, first, second, picture(2), brighter])))
    distance = float(np.sqrt(np.square(blocks(first) - blocks(brighter)).mean()))
    assert 0 < distance <= NEAR
    assert [each[:3] for each in found] == [(2, 0, "near"), (3, 0, "exact"), (4, 1, "exact"), (6, 0, "exact")]
    assert found[0].distance == pytest.approx(distance, rel=1e-4)
    assert isinstance(found[0], Copy)


def blocks(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """8 × 8 means of a frame whose sides are multiples of 8."""
    side = frame.shape[0] // 8
    return frame.mean(axis=2).reshape(8, side, 8, side).mean(axis=(1, 3))


def test_many_frames_unlike_each_other_are_no_copies() -> None:
    assert list(copies(look(picture(seed)) for seed in range(700))) == []


@pytest.mark.parametrize(
    ("frame", "factor", "expected"),
    [
        (picture(0), 1.0, []),
        (np.full((16, 16, 3), 7, np.uint8), 1.0, ["blank: 7 everywhere"]),
        (
            np.tile(np.array([[9], [10]], np.uint8), (8, 16))[..., None],
            1.0,
            ["nearly blank: grey varies by 0.5 of 255"],
        ),
        (picture(0) / np.float32(255), 1.0, ["out of range: 0.0 to 1, looks normalized already"]),
        (picture(0) * np.float32(4) - 200, 1.0, ["out of range: -200 to 8"]),
        (picture(0), 3.5, ["upscaled 3.5 times: its image is smaller than the input"]),
    ],
)
def test_odd_frames_are_told_why(frame: npt.NDArray[np.float32], factor: float, expected: list[str]) -> None:
    found = list(oddities(look(frame), upscaled=factor))
    assert len(found) == len(expected)
    for text, beginning in zip(found, expected, strict=True):
        assert text.split(":")[0] == beginning.split(":")[0]
        if "looks" not in beginning and "-200" not in beginning:
            assert text == beginning
