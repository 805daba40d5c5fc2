"""The calibration duet: what one calibration set is worth to all models of a spec, without a build.

The rule: frames and networks are those of a build, by its own stages, in the store of its builds; what a build has done
is reused, and a build of the same sources finds what was done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hefjoin.errors import InputError, StoreError
from hefjoin.results.checked import Frames, JoinCheck
from hefjoin.results.covered import Covered, Proof
from hefjoin.results.networks import Network
from hefjoin.results.quantized import Quantized
from hefjoin.results.sources import Fetched
from hefjoin.spec import BuildSpec
from hefjoin.stages.check import Check
from hefjoin.stages.contract import Workplace, own_directory, perform
from hefjoin.stages.cover import CoverStage
from hefjoin.stages.fetch import fetch, release
from hefjoin.stages.join import Join
from hefjoin.stages.parse import Parse
from hefjoin.stages.quantize import Quantize
from hefjoin.stages.script_check import require_sound


class Duet(NamedTuple):
    """What was found, and what it was found of."""

    covered: Covered
    networks: dict[str, Network]
    checked: JoinCheck
    is_one_set: bool
    """Whether the evaluation frames are those behind the calibration frames, in one set."""
    has_labels: bool


def measure(spec: BuildSpec, place: Workplace, cache: Path, loss: float) -> Duet:
    """See what each calibration frame gives to each model.

    Args:
        spec: Of a build.
        place: With the emulator.
        cache: The folder of the cache of what comes from S3.
        loss: Of its coverage, what a model may lose by the smaller set.

    Raises:
        InputError: What keeps a build from beginning, or a model without a graph that can be run.
        StoreError: The store or S3 cannot be reached.
    """
    fetched = fetch(spec, place.put, cache, place.on_progress)
    try:
        networks = {model.name: perform(_parse(spec, index, fetched, place), place).value
                    for index, model in enumerate(spec.models)}  # fmt: skip
        checked = perform(Check.of(spec, networks, fetched), place).value
        stage = CoverStage.of(spec, fetched, checked, place.toolchain.sdk, loss)
        covered = perform(stage, place).value
    finally:
        release(fetched)
    is_one_set = checked.evaluation_is_held_out and fetched.evaluation.sha256 == fetched.calibration.sha256
    return Duet(covered, networks, checked, is_one_set, checked.labels is not None)


def _parse(spec: BuildSpec, index: int, fetched: Fetched, place: Workplace) -> Parse:
    model = spec.models[index]
    return Parse.of(spec, model, fetched.models[model.name], place.toolchain.sdk, fetched.weights.get(model.name))


def prove(spec: BuildSpec, duet: Duet, place: Workplace) -> Proof:
    """Quantize with the whole set and with the subset, and judge both on the evaluation frames.

    Raises:
        InputError: No evaluation frames are held out, or what keeps a build from quantizing.
        CompileError: The same.
    """
    checked = duet.checked
    if not checked.evaluation_is_held_out:
        raise InputError(
            "--prove: no evaluation frames are held out, and a subset judged on the frames that it was chosen from "
            "proves nothing; give evaluation.source, or more frames than calibration.count"
        )
    require_sound(spec, duet.networks, place.toolchain.sdk.provider)
    joined = perform(Join.of(spec, duet.networks, checked, place.toolchain.sdk), place).value
    whole = perform(Quantize.of(spec, checked, joined, place), place).value
    with own_directory(place, "subset") as work:
        path = work / "subset.npy"
        write_frames(duet, place, path)
        fewer = Frames(npy=place.put(path, "npy"), health=checked.calibration.health)
    subset = perform(Quantize.of(spec, checked.model_copy(update={"calibration": fewer}), joined, place), place).value
    return Proof(
        source=place.toolchain.sdk.provider,
        frames=checked.evaluation.health.count,
        whole_snr_db=_snr_db(whole),
        subset_snr_db=_snr_db(subset),
    )


def _snr_db(quantized: Quantized) -> Mapping[str, float]:
    return {each.model: each.snr_db for each in quantized.accuracy}


def write_subset(duet: Duet, place: Workplace, path: Path) -> None:
    """Write the subset: its frames as a .npy, with the evaluation frames of the same set behind them, or its names.

    Args:
        duet: What was found.
        place: Whose store holds the frames.
        path: A `.npy`, or a `.txt`, which gets a line for each frame: its index and its file.

    Raises:
        StoreError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".npy":
            write_frames(duet, place, temporary, with_evaluation=duet.is_one_set)
        else:
            lines = [f"{index}\t{name}".rstrip() for index, name in _named(duet.covered)]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"the subset cannot be written to {path}: {error.strerror or error}; give another --write-subset",
            reason="refused",
            uri=str(path),
            is_transient=False,
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _named(covered: Covered) -> list[tuple[int, str]]:
    return [(index, covered.names.get(index, "")) for index in sorted(covered.subset.frames)]


def write_frames(duet: Duet, place: Workplace, path: Path, *, with_evaluation: bool = False) -> None:
    """Write the frames of the subset as a .npy, in the set's order, frame by frame."""
    with own_directory(place, "frames") as work:
        frames = np.load(place.store.get(duet.checked.calibration.npy, work / "frames.npy"), mmap_mode="r")
        parts: list[tuple[Any, Sequence[int]]] = [(frames, sorted(duet.covered.subset.frames))]
        if with_evaluation:
            behind = np.load(place.store.get(duet.checked.evaluation.npy, work / "evaluation.npy"), mmap_mode="r")
            parts.append((behind, range(len(behind))))
        count = sum(len(indices) for _, indices in parts)
        with path.open("wb") as stream:
            header = {"descr": np.lib.format.dtype_to_descr(frames.dtype), "fortran_order": False,
                      "shape": (count, *frames.shape[1:])}  # fmt: skip
            np.lib.format.write_array_header_1_0(stream, header)
            for source, indices in parts:
                for index in indices:
                    stream.write(np.ascontiguousarray(source[index]).data)
