"""Where noise comes from: against networks whose noise is known, because numpy put it there."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.forecast.noise import Snr, noise_to_signal, shares, worth_raising

Array = npt.NDArray[np.float64]
SIZE, FRAMES = 256, 2000


def snr_db(exact: Array, rough: Array) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - rough) ** 2)))


class Linear:
    """Random square layers one behind the other, each of which adds white noise of its own."""

    def __init__(self, own: list[float]) -> None:
        rng = np.random.default_rng(3)
        self.kernels = [rng.normal(0, SIZE**-0.5, (SIZE, SIZE)) for _ in own]
        self.signal = rng.normal(0, 1, (FRAMES, SIZE))
        self.noise = [rng.normal(0, amount, (FRAMES, SIZE)) for amount in own]

    def outputs(self, noisy: Collection[int]) -> list[Array]:
        found, value = [], self.signal
        for index, kernel in enumerate(self.kernels):
            value = value @ kernel + (self.noise[index] if index in noisy else 0.0)
            found.append(value)
        return found


def test_shares_are_what_the_output_gains_without_the_noise_of_one_layer() -> None:
    network = Linear([0.02, 0.05, 0.01, 0.03])
    names = [f"conv{number}" for number in range(1, 5)]
    everything = range(4)
    exact, rough = network.outputs(()), network.outputs(everything)
    noise = {
        name: Snr(
            snr_db(exact[index], rough[index]), snr_db(exact[index], exact[index] + network.noise[index])
        )
        for index, name in enumerate(names)
    }  # fmt: skip
    inputs = {name: names[index - 1 : index] if index else [] for index, name in enumerate(names)}
    found = shares(inputs, noise, "conv4")
    whole = noise_to_signal(snr_db(exact[-1], rough[-1]))
    for index, name in enumerate(names):
        without = network.outputs([other for other in everything if other != index])
        gained = 1 - noise_to_signal(snr_db(exact[-1], without[-1])) / whole
        assert found[name] == pytest.approx(gained, abs=0.03)
    assert next(iter(found)) == "conv2"


def test_where_own_noise_is_unknown_the_rise_counts() -> None:
    chain = {"a": [], "b": ["a"], "c": ["b"]}
    noise = {"a": Snr(40.0), "b": Snr(30.0), "c": Snr(29.0)}
    found = shares(chain, noise, "c")
    rise = [noise_to_signal(40), noise_to_signal(30) - noise_to_signal(40), noise_to_signal(29) - noise_to_signal(30)]
    assert list(found) == ["b", "c", "a"]
    assert [found[name] for name in "abc"] == pytest.approx([each / sum(rise) for each in rise])


def test_what_does_not_lead_to_the_output_brings_nothing() -> None:
    inputs = {"a": [], "b": ["a"], "side": ["a"]}
    assert set(shares(inputs, {name: Snr(20.0, 20.0) for name in inputs}, "b")) == {"a", "b"}


def test_a_layer_of_which_nothing_is_known_passes_on_what_it_reads() -> None:
    inputs = {"a": [], "view": ["a"], "b": ["view"]}
    assert shares(inputs, {"a": Snr(20.0), "b": Snr(20.0)}, "b") == {"a": 1.0, "b": 0.0, "view": 0.0}


decibels = st.floats(-20, 120)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, Snr]]:
    names = [f"l{number}" for number in range(draw(st.integers(1, 12)))]
    inputs = {
        name: draw(st.lists(st.sampled_from(names[:place]), max_size=3, unique=True)) if place else []
        for place, name in enumerate(names)
    }
    noise = {name: Snr(draw(decibels), draw(st.none() | decibels)) for name in names if draw(st.booleans())}
    return inputs, noise


@given(graph=graphs())
def test_shares_of_any_graph_add_up_and_fall(graph: tuple[dict[str, list[str]], dict[str, Snr]]) -> None:
    inputs, noise = graph
    found = shares(inputs, noise, list(inputs)[-1])
    values = list(found.values())
    assert values == sorted(values, reverse=True)
    assert all(value >= 0 for value in values)
    assert sum(values) in (pytest.approx(1), pytest.approx(0.5), pytest.approx(0))  # a reading may see no noise


BROUGHT = {"x": {"a": 0.6, "b": 0.3, "c": 0.1}, "y": {"d": 0.9, "e": 0.1}}


def raising(floor_db: float, counts: range, refused: Collection[str] = (), **snr: float) -> list[str]:
    asked = snr or {"x": 20.0}
    return worth_raising(asked, BROUGHT, floor_db, counts, lambda layer, chosen: layer not in refused)


def test_no_more_are_raised_than_the_floor_needs() -> None:
    assert raising(22.0, range(1, 9)) == ["a"]  # 20 dB and 60 % less noise are 24 dB
    assert raising(25.0, range(1, 9)) == ["a", "b"]


def test_a_round_has_at_least_and_at_most_so_many() -> None:
    assert raising(22.0, range(2, 9)) == ["a", "b"]
    assert raising(60.0, range(1, 3)) == ["a", "b"]
    assert raising(60.0, range(1, 9)) == ["a", "b", "c"]


def test_the_next_is_for_the_output_that_is_then_the_noisiest() -> None:
    assert raising(40.0, range(1, 4), x=20.0, y=21.0) == ["a", "d", "b"]


def test_what_is_refused_is_passed_over() -> None:
    assert raising(60.0, range(1, 9), refused=["a"]) == ["b", "c"]
