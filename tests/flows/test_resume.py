"""A quantize step that is killed in the middle of its calibration: the next run goes on from near there."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest

from hefjoin.calibration import open_frames, write_npy
from hefjoin.emulator import ClientRunner
from hefjoin.errors import ToolchainError
from hefjoin.results.checked import Frames
from hefjoin.results.quantized import Quantized
from hefjoin.sdk.log import Progress
from hefjoin.sdk.process import STEP, run_step
from hefjoin.sdk.toolchain import resolve
from hefjoin.stages import quantize as stage
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stores import open_store
from tests.e2e.conftest import command_line, wait_for
from tests.tiny import images, write_model

pytestmark = pytest.mark.long

COUNT = 2000
EAGER = f"""
import importlib.util, sys
from hefjoin.emulator import checkpoint
checkpoint.EVERY_S = 0.0
spec = importlib.util.spec_from_file_location("step", {str(STEP)!r})
step = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step)
sys.exit(step.main(sys.argv[1], {{"quantize": step.quantize}}))
"""
"""The step, with a checkpoint behind every frame."""


def workplace(folder: Path, seen: list[Progress]) -> Workplace:
    return Workplace(
        store=open_store(str(folder / "store")),
        root=folder / "work",
        toolchain=resolve("emulator"),
        on_progress=seen.append,
    )


def quantizing(folder: Path, place: Workplace) -> stage.Quantize:
    """Return the stage for one network and `COUNT` frames, its files in the store."""
    runner = ClientRunner()
    runner.translate_onnx_model(str(write_model(folder / "left.onnx", 0, classes=4)), "left")
    runner.save_har(folder / "left.har")
    np.save(folder / "images.npy", images(COUNT))
    frames = open_frames(folder / "images.npy", height=16, width=16, channels=3, count=COUNT)
    health = write_npy(frames, folder / "frames.npy")
    calibration = place.store.put(folder / "frames.npy", "npy")
    np.save(folder / "few.npy", images(8))
    return stage.Quantize(
        name="left",
        har=place.store.put(folder / "left.har", "har"),
        output_layers=tuple(runner.get_hn_dict()["net_params"]["output_layers_order"]),
        script=f"model_optimization_config(calibration, calibset_size={COUNT})",
        files={},
        post_processed=(),
        not_native={},
        mean=(),
        std=(),
        requested_level=0,
        calibration=calibration,
        evaluation=Frames(npy=place.store.put(folder / "few.npy", "npy"), health=health),
        sdk=place.toolchain.sdk,
    )


def kill_in_the_middle(quantize: stage.Quantize, place: Workplace) -> None:
    """Perform the stage, and kill the process in which the emulator runs as soon as it has kept something."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            perform(quantize, place)
        except ToolchainError as error:
            errors.append(error)

    thread = Thread(target=work)
    thread.start()
    wait_for("checkpoint", lambda: list(place.checkpoints.glob("calibration-*.npz")))
    steps = psutil.Process().children(recursive=True)
    (watcher,) = [step for step in steps if "quantize.request.json" in command_line(step) and step.children()]
    watcher.children()[0].kill()
    thread.join()
    (error,) = errors
    assert "the step was killed" in str(error)


def test_the_next_run_begins_behind_zero_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hefjoin.sdk")
    seen: list[Progress] = []
    place, other = workplace(tmp_path, seen), workplace(tmp_path / "other", [])
    quantize = quantizing(tmp_path, place)
    with monkeypatch.context() as patched:
        script = tmp_path / "eager.py"
        script.write_text(EAGER)
        patched.setattr(stage, "run_step", partial(run_step, script=script))
        kill_in_the_middle(quantize, place)
    assert [path.suffix for path in place.root.glob("quantize-*/*")] == [".log"]

    seen.clear()
    resumed: Quantized = perform(quantize, place).value
    (behind,) = re.findall(r"Going on behind frame (\d+)", caplog.text)
    assert 0 < int(behind) < COUNT
    assert seen[0].done > int(behind)
    assert list(place.checkpoints.iterdir()) == []

    (tmp_path / "other").mkdir()
    whole: Quantized = perform(quantizing(tmp_path / "other", other), other).value
    assert resumed.har.sha256 == whole.har.sha256
    assert resumed.accuracy == whole.accuracy
