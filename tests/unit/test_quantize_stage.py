"""The quantize stage: the float network against the one that was parsed, and why a model is not compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hefjoin.stages.accuracy import snr_db
from hefjoin.stages.quantize import Quantize

LAYERS = ("a/fc1", "b/fc1", "c/fc1", "d/fc1", "e/boxes")


def test_each_model_is_compared_with_itself_as_parsed_or_it_is_said_why_not(tmp_path: Path) -> None:
    exact = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    folded = exact * np.float32(1 + 1e-6)
    broken = np.where(exact > 0, exact, np.float32(np.nan))
    arrays = {"native_0": exact, "native_1": broken, "native_3": exact}
    np.savez(tmp_path / "outputs.npz", allow_pickle=False, **arrays, **{f"float_{i}": folded for i in range(4)})
    stage = Quantize.model_construct(output_layers=(*LAYERS[:4], "e/fc1"), not_native={"d": "a script"})
    found, missing = stage._native(LAYERS, tmp_path / "outputs.npz")
    assert [each.layer for each in found] == ["a/fc1"]
    assert found[0].snr_db == snr_db(exact, folded) > 100
    assert missing == {
        "b": "b/fc1 is not finite as parsed",
        "c": "the compiler could not run it as parsed, see the warnings",
        "d": "a script",
    }
