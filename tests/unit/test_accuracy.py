"""How far outputs are apart, against plain numpy and against cases whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.stages.accuracy import EXACT_DB, model_accuracy, snr_db

Array = npt.NDArray[Any]
RNG = np.random.default_rng(3)


def only_output(exact: Array, rough: Array) -> tuple[str, float]:
    (output,) = model_accuracy("m", {"m/conv1": (exact, rough)}).outputs
    return output.metric, output.agreement


class TestSnr:
    @pytest.mark.parametrize("shape", [(5,), (4, 7), (3, 8, 8, 2)])
    def test_is_the_ratio_of_energies(self, shape: tuple[int, ...]) -> None:
        exact = RNG.normal(0, 3, shape).astype(np.float32)
        rough = exact + RNG.normal(0, 0.1, shape).astype(np.float32)
        noise = exact.astype(np.float64) - rough.astype(np.float64)
        expected = 20 * np.log10(np.linalg.norm(exact.astype(np.float64)) / np.linalg.norm(noise))
        assert snr_db(exact, rough) == pytest.approx(expected, abs=1e-3)

    def test_is_bounded_where_there_is_no_noise(self) -> None:
        ones = np.ones((2, 3), np.float32)
        assert snr_db(ones, ones) == EXACT_DB
        assert snr_db(0 * ones, 0 * ones) == EXACT_DB
        assert snr_db(ones, ones + np.float32(1e-7)) <= EXACT_DB

    def test_of_silence_that_is_not_met_is_low_and_finite(self) -> None:
        assert -4000 < snr_db(np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)) < -1000

    def test_large_float16_like_sums_do_not_overflow(self) -> None:
        exact = np.full((4, 1000), 3e19, np.float32)
        assert snr_db(exact, exact * np.float32(1.1)) == pytest.approx(20, abs=0.1)

    @given(st.floats(0.01, 100))
    def test_does_not_depend_on_the_scale(self, scale: float) -> None:
        exact, rough = np.array([3.0, 4.0, -2.0]), np.array([3.1, 3.9, -2.2])
        assert snr_db(exact * scale, rough * scale) == pytest.approx(snr_db(exact, rough))


class TestAgreement:
    def test_of_scores_is_the_share_of_equal_first_places(self) -> None:
        exact = np.eye(4, dtype=np.float32)
        rough = exact[[0, 1, 3, 2]]
        assert only_output(exact, rough) == ("top-1", 0.5)

    def test_of_a_map_with_features_is_a_correlation_and_no_share_of_anything(self) -> None:
        """A detection head's features are boxes and scores, not classes to choose from."""
        exact = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype(np.float32)
        rough = exact + np.float32(0.01)
        metric, agreement = only_output(exact, rough)
        assert metric == "correlation"
        assert agreement == pytest.approx(np.corrcoef(exact.ravel(), rough.ravel())[0, 1])
        assert model_accuracy("m", {"m/a": (exact, rough)}).disagreement_points is None

    def test_of_a_mask_is_the_intersection_over_the_union(self) -> None:
        exact, rough = np.zeros((2, 1, 6, 6, 1), np.float32)
        exact[0, 0:4, 0:4] = 0.9
        rough[0, 2:6, 0:4] = 0.6
        metric, iou = only_output(exact, rough)
        assert metric == "mask IoU at 0.5"
        assert iou == pytest.approx(8 / 24)

    def test_of_two_empty_masks_is_whole(self) -> None:
        empty = np.zeros((1, 4, 4, 1), np.float32)
        assert only_output(empty, empty + np.float32(0.4)) == ("mask IoU at 0.5", 1.0)

    @pytest.mark.parametrize("shape", [(6, 1), (3, 4, 4, 1), (2, 5, 3)])
    def test_of_plain_values_is_their_correlation(self, shape: tuple[int, ...]) -> None:
        exact = RNG.normal(0, 5, shape).astype(np.float32)
        rough = exact + RNG.normal(0, 1, shape).astype(np.float32)
        metric, found = only_output(exact, rough)
        assert metric == "correlation"
        assert found == pytest.approx(np.corrcoef(exact.ravel(), rough.ravel())[0, 1])

    @pytest.mark.parametrize(("other", "agreement"), [(2.0, 1.0), (2.5, 0.0)])
    def test_of_constant_outputs_is_equality(self, other: float, agreement: float) -> None:
        exact = np.full((3, 1), 2.0, np.float32)
        assert only_output(exact, np.full_like(exact, other)) == ("correlation", agreement)

    def test_of_a_constant_against_a_changing_output_is_none(self) -> None:
        exact = np.full((3, 1), 2.0, np.float32)
        assert only_output(exact, np.array([[1.0], [2.0], [3.0]], np.float32)) == ("correlation", 0.0)


def test_the_disagreement_is_that_of_the_worst_output() -> None:
    exact = np.array([[9, 1, 0], [0, 9, 1], [1, 0, 9], [9, 0, 1]], np.float32)
    rough = np.array([[9, 1, 0], [9, 0, 1], [1, 0, 9], [9, 0, 1]], np.float32)
    found = model_accuracy("m", {"m/fc1": (exact, rough), "m/fc2": (exact, exact)})
    assert (found.frames, found.snr_db) == (4, snr_db(exact, rough))
    assert found.disagreement_points == pytest.approx(25)
