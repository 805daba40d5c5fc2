"""Prove that a mended spec computes what its models compute alone, each on its own preprocessing.

The witness is the original file on plain ONNX Runtime (`joining.alone`), with what the original spec says of it; judged
is the network of the mended spec behind its shared input, parsed, prepared and joined by the build's own stages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hefjoin.artifacts import Record
from hefjoin.formats.preprocessing import split
from hefjoin.joining.alone import Array, run_alone
from hefjoin.results.networks import Joined
from hefjoin.results.sources import Fetched
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import BuildSpec, ModelSpec
from hefjoin.stages.check import Check
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.fetch import fetch, release
from hefjoin.stages.join import OUTPUTS, PROOF_FRAMES, TOLERANCE, Join
from hefjoin.stages.parse import Parse
from hefjoin.stores import open_store


class Proved(Record):
    """An output behind the shared input against the same tensor of the original file."""

    model: str
    output: str
    """The tensor's name in the file."""
    frames: int
    max_abs_difference: float
    largest_value: float
    """Largest absolute value of the output, which the difference is to be seen against."""

    @property
    def holds(self) -> bool:
        """Whether the difference is within the rounding of float arithmetic."""
        return self.max_abs_difference <= TOLERANCE * max(self.largest_value, 1e-12)


def prove(original: BuildSpec, mended: BuildSpec, toolchain: Toolchain, cache: Path) -> tuple[Proved, ...]:
    """Run both sides on real calibration frames.

    Args:
        original: What says how each model alone sees its frames; same models in the same order.
        mended: What would be built.
        toolchain: Who parses and joins.
        cache: The folder of the cache of what comes from S3.

    Returns:
        One entry for each output of each ONNX model; a HAR has no original to compare with.

    Raises:
        HefJoinError: What the stages of a build raise.
    """
    with TemporaryDirectory(prefix="hefjoin-proof-") as folder:
        root = Path(folder)
        place = Workplace(open_store(str(root / "store")), root / "work", toolchain)
        fetched = fetch(mended, place.put, cache)
        try:
            with _quiet():
                return _Proof(original, mended, place, fetched).proved(root)
        finally:
            release(fetched)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep stages from logging what stands in the table."""
    logger = logging.getLogger("hefjoin.stages")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Proof:
    def __init__(self, original: BuildSpec, mended: BuildSpec, place: Workplace, fetched: Fetched) -> None:
        self.original, self.mended, self.place, self.fetched = original, mended, place, fetched

    def proved(self, root: Path) -> tuple[Proved, ...]:
        spec, fetched, sdk = self.mended, self.fetched, self.place.toolchain.sdk
        stages = [
            Parse.of(spec, model, fetched.models[model.name], sdk, fetched.weights.get(model.name))
            for model in spec.models
        ]
        networks = {stage.name: perform(stage, self.place).value for stage in stages}
        checked = perform(Check.of(spec, networks, fetched), self.place).value
        stage = Join.of(spec, networks, checked, sdk)
        work = root / "join"
        work.mkdir()
        joined = stage.run(work, self.place)
        stage.ensures(joined)
        with np.load(work / OUTPUTS) as arrays:
            together = dict(zip(joined.output_layers, arrays.values(), strict=True))
        frames = np.load(self.place.store.get(checked.calibration.npy, root / "frames.npy"), mmap_mode="r")
        sample = np.array(frames[:PROOF_FRAMES])
        proved: list[Proved] = []
        for index, model in enumerate(spec.models):
            if networks[model.name].head is not None:
                said = _whole(self.original.models[index], checked.channels)
                file = self._file(model.name, root / f"alone-{index}")
                outputs = _outputs(joined, model.name)
                alone = run_alone(file, said, sample, split(spec.models).color, list(outputs.values()))
                proved += [
                    _compared(model.name, output, together[layer], exact)
                    for (layer, output), exact in zip(outputs.items(), alone, strict=True)
                ]
        return tuple(proved)

    def _file(self, name: str, folder: Path) -> Path:
        """Bring a model's file into a folder of its own, its weights beside it."""
        for beside, ref in self.fetched.weights.get(name, {}).items():
            self.place.store.get(ref, folder / beside)
        return self.place.store.get(self.fetched.models[name], folder / "model.onnx")


def _whole(model: ModelSpec, channels: int) -> ModelSpec:
    """Return what a spec says of a model, one value of mean or std meant for all channels."""
    fields = {"mean": model.mean, "std": model.std}
    return model.model_copy(
        update={field: list(values) * channels for field, values in fields.items() if len(values) == 1}
    )


def _outputs(joined: Joined, model: str) -> dict[str, str]:
    """Return the tensor of the file for each output layer of a model."""
    tensors = {tensor.layer: tensor.original_name for tensor in joined.network.outputs}
    return {layer: tensors[layer] for layer, owner in joined.model_of_output.items() if owner == model}


def _compared(model: str, output: str, found: Array, exact: Array) -> Proved:
    return Proved(
        model=model,
        output=output,
        frames=len(exact),
        max_abs_difference=float(np.abs(found.astype(np.float64) - exact).max()),
        largest_value=float(np.abs(exact).max()),
    )
