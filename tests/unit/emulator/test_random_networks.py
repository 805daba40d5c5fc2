"""Whatever two networks are made of: joined each computes what it did, and the pair is quantized without failure."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import random_networks
import runners
from hypothesis import HealthCheck, given, settings

from hefjoin.emulator import JoinAction

EXAMPLES = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@EXAMPLES
@given(first=random_networks.networks(), second=random_networks.networks())
def test_any_two_networks_join_bit_equal_and_are_quantized(
    first: onnx.ModelProto, second: onnx.ModelProto, tmp_path: Path
) -> None:
    paths = [graphs.save(model, tmp_path, name) for model, name in ((first, "a"), (second, "b"))]
    runner, other = (runners.parsed(path, tmp_path, path.stem) for path in paths)
    runner.join(other, join_action=JoinAction.AUTO_JOIN_INPUTS)
    frames = graphs.frames(2)
    for frame in np.split(frames, 2):
        found = runners.infer(runner, frame / 255)
        exact = [array for path in paths for array in graphs.run(path, graphs.nchw(frame / 255))]
        for got, wanted in zip(found, random_networks.as_the_sdk_gives(exact), strict=True):
            np.testing.assert_array_equal(got, wanted)
    runner.load_model_script("a/n = normalization([0, 0, 0], [255, 255, 255], a/input_layer1)")
    runner.optimize(frames)
    quantized = runners.infer(runner, frames, "SDK_QUANTIZED")
    floats = runners.infer(runner, frames, "SDK_FP_OPTIMIZED")
    assert [array.shape for array in quantized] == [array.shape for array in floats]
    assert all(np.isfinite(array).all() for array in quantized)
