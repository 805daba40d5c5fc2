"""What is measured: the resnet pair, its frames and what the emulator makes of it, made once and when first asked for.

Each `write_…` runs in a process of its own.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import call

MODELS = ("resnet_a", "resnet_b")
SIZE = 224
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
EVALUATION_FRAMES = 64


class Material:
    """Files under one scratch folder."""

    def __init__(self, scratch: Path) -> None:
        """Keep everything under `scratch`."""
        self.scratch = scratch

    @cached_property
    def models(self) -> dict[str, Path]:
        """The two ONNX files."""
        call(write_models, self.scratch, folder=self.scratch)
        return {name: self.scratch / f"{name}.onnx" for name in MODELS}

    @cached_property
    def joined_onnx(self) -> Path:
        """Both networks as one ONNX file with one input, made without the emulator: what ORT's own tools get."""
        path = self.scratch / "joined.onnx"
        call(write_joined_onnx, self.scratch, models=list(self.models.values()), path=path)
        return path

    @cached_property
    def joined_har(self) -> Path:
        """Both networks as one HAR with one input."""
        path = self.scratch / "joined.har"
        call(write_joined_har, self.scratch, models=self.models, path=path)
        return path

    @cached_property
    def evaluation(self) -> Path:
        """Crops of other photographs than those of `calibration`: uint8 .npy, (64, 224, 224, 3)."""
        path = self.scratch / "evaluation.npy"
        call(write_crops, self.scratch, count=EVALUATION_FRAMES, path=path, is_evaluation=True)
        return path

    @cached_property
    def hef(self) -> Path:
        """The quantized and compiled pair."""
        path = self.scratch / "joined.emulated.hef"
        call(write_hef, self.scratch, har=self.joined_har, calibration=self.calibration(64), path=path)
        return path

    def calibration(self, count: int) -> Path:
        """Return crops of photographs: uint8 .npy, (count, 224, 224, 3)."""
        path = self.scratch / f"calibration-{count}.npy"
        if not path.exists():
            call(write_crops, self.scratch, count=count, path=path, is_evaluation=False)
        return path


def script(frames: int) -> str:
    """Return the model script that normalizes the shared input and calibrates on that many frames."""
    return (
        f"{MODELS[0]}/normalization1 = normalization({list(MEAN)}, {list(STD)}, {MODELS[0]}/input_layer1)\n"
        f"model_optimization_config(calibration, calibset_size={frames})\n"
    )


def write_models(folder: str) -> None:
    """Write the two networks of the example `resnet-pair`."""
    import onnx

    from hefjoin.examples import resnet

    for name in MODELS:
        onnx.save(resnet.build_resnet18(resnet.MODELS[name]), Path(folder) / f"{name}.onnx")


def write_crops(count: int, path: str, is_evaluation: bool) -> None:
    """Write random crops of photographs."""
    import numpy as np

    from hefjoin.examples import photos

    source = photos.EVALUATION_PHOTOGRAPHS if is_evaluation else photos.CALIBRATION_PHOTOGRAPHS
    np.save(path, photos.photo_crops(SIZE, count, seed=2 if is_evaluation else 1, photographs=source))


def write_joined_onnx(models: list[str], path: str) -> None:
    """Write all nodes of several networks behind one shared input, each network's names under its own prefix."""
    import onnx

    graphs = []
    for index, source in enumerate(models):
        model = onnx.load(source)
        graphs.append(onnx.compose.add_prefix(model, f"{MODELS[index]}/", rename_inputs=False).graph)
    joined = onnx.helper.make_graph(
        [node for graph in graphs for node in graph.node],
        "pair",
        graphs[0].input,
        [output for graph in graphs for output in graph.output],
        [tensor for graph in graphs for tensor in graph.initializer],
    )
    whole = onnx.helper.make_model(joined, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(whole)
    onnx.save(whole, path)


def write_joined_har(models: dict[str, str], path: str) -> None:
    """Parse and join, as the article does."""
    from hefjoin.emulator import ClientRunner
    from hefjoin.emulator.exposed_definitions import JoinAction

    runners = []
    for name, source in models.items():
        runners.append(ClientRunner(hw_arch="hailo8"))
        runners[-1].translate_onnx_model(source, name)
    first, second = runners
    first.join(second, MODELS[0], MODELS[1], JoinAction.AUTO_JOIN_INPUTS)
    first.save_har(path)


def write_hef(har: str, calibration: str, path: str) -> None:
    """Quantize and compile."""
    from hefjoin.emulator import ClientRunner

    runner = ClientRunner(har=har)
    runner.load_model_script(script(64))
    runner.optimize(calibration)
    Path(path).write_bytes(runner.compile())


def normalized(frames: Any) -> Any:
    """Return raw frames, uint8 (frames, height, width, channels), as the ONNX files want them: float32, NCHW."""
    import numpy as np

    batch = (frames.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
