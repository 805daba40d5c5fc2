"""Comparisons by turns on machines made up for it: how often they are wrong, how often they find what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hefjoin.results.timed import Conditions, Timed
from hefjoin.timing import blocks as blocks_module
from hefjoin.timing.blocks import LEAST_BLOCKS, timed
from hefjoin.timing.compare import PRECISE_BLOCKS, Asked, compare

SECONDS_A_ROUND = 0.02


class Machine:
    """A device whose clock runs by rounds; sides are numbered as `compare` gives them, 2 is the other one."""

    source = "emulator"
    device = "made up"
    method = "by hand"

    def __init__(self, seed: int, slower: float = 0.0, memory: float = 0.8) -> None:
        """Be `slower` by that share on side 2; `memory` is how much of a phase is left after a round."""
        self.rng = np.random.default_rng(seed)
        self.slower, self.memory = slower, memory
        self.now = 0.0
        self.phase = 0.0
        self.layout: dict[int, float] = {}
        self.order: list[int] = []

    def begin(self, order: Sequence[int]) -> None:
        """Give each side a place in memory; who is made ready first always has the better one."""
        self.layout = {side: self.rng.normal(0.004 * place, 0.003) for place, side in enumerate(order)}

    def fps(self, side: int) -> float:
        """Drift, phases, jumps, and other programs."""
        self.order.append(side)
        self.now += SECONDS_A_ROUND
        self.phase = self.memory * self.phase + self.rng.normal(0, 0.02)
        if self.rng.random() < 0.02:
            self.phase += self.rng.choice((-0.2, 0.2))
        taken = self.rng.exponential(0.5) if self.rng.random() < 0.1 else 0.0
        log = 5 - 0.01 * self.now + self.phase - taken + self.rng.normal(0, 0.01) - self.layout[side]
        return float(np.exp(log + (np.log1p(-self.slower) if side == 2 else 0.0)))

    def conditions(self) -> Conditions:
        """Return none."""
        return Conditions()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let p-values and intervals cost little: there are hundreds of comparisons."""
    monkeypatch.setattr("hefjoin.timing.statistics.FLIPS", 999)
    monkeypatch.setattr("hefjoin.timing.statistics.RESAMPLES", 400)


def comparison(machine: Machine, seconds: float, monkeypatch: pytest.MonkeyPatch, seed: int) -> Timed:
    real = timed
    monkeypatch.setattr("hefjoin.timing.compare.timed", lambda *given: real(*given, clock=lambda: machine.now))
    asked = Asked(("a", "b"), "made up", seconds=seconds, precision_percent=1.0)
    found = compare(machine, asked, lambda *_: None, np.random.default_rng(seed))
    monkeypatch.setattr("hefjoin.timing.compare.timed", real)
    return found


def test_the_same_is_called_different_at_most_seven_times_of_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [comparison(Machine(seed), 3, monkeypatch, 1000 + seed) for seed in range(300)]
    by_chance = np.mean([each.difference is not None and each.difference.p_value < 0.05 for each in found])
    assert by_chance <= 0.07
    assert np.mean([each.is_different for each in found]) <= by_chance


def test_five_percent_are_found_nine_times_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [comparison(Machine(seed, slower=0.05), 20, monkeypatch, 2000 + seed) for seed in range(60)]
    assert np.mean([each.is_different for each in found]) >= 0.9
    percents = [each.difference.percent for each in found if each.difference]
    assert np.median(percents) == pytest.approx(100 * (1 / 0.95 - 1), abs=0.5)
    held = [each.difference.low_percent < 5.263 < each.difference.high_percent for each in found if each.difference]
    assert np.mean(held) > 0.85


def test_an_ordinary_test_on_rounds_that_are_not_by_turns_is_wrong_far_more_often() -> None:
    """Without turns the same machine fools one: the reason for all this."""
    from scipy import stats

    wrong = 0
    for seed in range(100):
        machine = Machine(seed)
        machine.begin((0, 1))
        first, second = ([np.log(machine.fps(side)) for _ in range(50)] for side in (0, 1))
        wrong += stats.mannwhitneyu(first, second).pvalue < 0.05
    assert wrong > 15


def test_a_block_is_one_side_the_other_twice_and_the_first_again_in_an_order_that_a_coin_decides() -> None:
    machine = Machine(1)
    timed(machine, (0, 2), 4, lambda _: False, lambda *_: None, np.random.default_rng(0), lambda: machine.now)
    orders = {tuple(machine.order[i : i + 4]) for i in range(0, len(machine.order), 4)}
    assert orders == {(0, 2, 2, 0), (2, 0, 0, 2)}


def test_what_drifts_steadily_counts_for_both_alike() -> None:
    class Drifting(Machine):
        def fps(self, side: int) -> float:
            self.now += SECONDS_A_ROUND
            return float(np.exp(5 - 0.5 * self.now))

    machine = Drifting(1)
    found = timed(machine, (0, 1), 4, lambda _: False, lambda *_: None, np.random.default_rng(0), lambda: machine.now)
    np.testing.assert_allclose(found.differences, 0, atol=1e-12)


def test_it_ends_when_time_is_up_but_never_with_too_few_blocks_for_a_p_value() -> None:
    def blocks(seconds: float, is_enough: Callable[[object], bool]) -> int:
        machine = Machine(1)
        never: list[int] = []
        found = timed(
            machine, (0, 1), seconds, is_enough, lambda done, _: never.append(len(done)),
            np.random.default_rng(0), lambda: machine.now,
        )  # fmt: skip
        assert never == list(range(1, len(found.sides) + 1))
        return len(found.sides)

    assert blocks(4.0, lambda _: False) == pytest.approx(4.0 / (4 * SECONDS_A_ROUND), abs=1)
    assert blocks(0.001, lambda _: False) == LEAST_BLOCKS
    assert blocks(4.0, lambda _: True) == LEAST_BLOCKS
    assert 2 * 0.5**LEAST_BLOCKS < 0.05


def test_when_it_ends_does_not_depend_on_who_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every coin turned over, every difference has the other sign, and it ends after as many blocks."""

    class Turned:
        def __init__(self, seed: int) -> None:
            self.coin = np.random.default_rng(seed)

        def integers(self, high: int) -> int:
            return 1 - int(self.coin.integers(high))

    class Places(Machine):
        """Speed depends on the turn alone, as with two that are the same."""

        def fps(self, side: int) -> float:
            self.layout[0] = 0.0
            return super().fps(0)

    for seed in range(20):
        ends = []
        for coin in (np.random.default_rng(seed), Turned(seed)):
            machine = Places(seed)
            monkeypatch.setattr(
                "hefjoin.timing.compare.timed",
                lambda *given, machine=machine: blocks_module.timed(*given, clock=lambda: machine.now),
            )
            ends.append(compare(machine, Asked(("a", "b"), "", seconds=8), lambda *_: None, coin))  # type: ignore[arg-type]
        first, second = (each.difference for each in ends)
        assert first is not None
        assert second is not None
        assert first.blocks == second.blocks
        assert first.p_value == second.p_value
        assert np.log1p(first.percent / 100) == pytest.approx(-np.log1p(second.percent / 100))


def test_alone_a_hef_is_timed_against_itself_until_its_speed_is_precise(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(3, memory=0.0)
    real = timed
    monkeypatch.setattr("hefjoin.timing.compare.timed", lambda *given: real(*given, clock=lambda: machine.now))
    found = compare(
        machine, Asked(("a",), "", seconds=300, precision_percent=2), lambda *_: None, np.random.default_rng(1)
    )
    assert found.second is None
    assert found.difference is None
    assert found.is_precise
    assert found.noise.blocks >= PRECISE_BLOCKS
    assert machine.now < 300
    assert (found.first.fps_high / found.first.fps_low) ** 0.5 - 1 <= 0.0201
    assert set(machine.order) == {0, 1}
