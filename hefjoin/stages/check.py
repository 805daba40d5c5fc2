"""Check: may these networks share one input? The three conditions of the recipe, in seconds, before any joining."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from hefjoin.artifacts import Record
from hefjoin.calibration import Frames as FrameStream
from hefjoin.calibration import Health, set_sha256, write_npy
from hefjoin.errors import (
    CalibrationError,
    Disagreement,
    HefJoinError,
    InputError,
    JoinError,
    Problem,
    SpecError,
    combined,
)
from hefjoin.formats.preprocessing import Split, split
from hefjoin.joining.compare import MUST_AGREE, compare
from hefjoin.joining.frames import frames_row, image_sizes, normalized_already, twice_served
from hefjoin.joining.intake import Intake, of_network, spec_problems
from hefjoin.labels import Judge, write_labels
from hefjoin.metrics.metric import metric
from hefjoin.results.checked import Comparison, Frames, JoinCheck, Labels
from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched, FrameSource
from hefjoin.spec import BuildSpec, Color, ModelSpec
from hefjoin.stages.contract import Stage, Workplace
from hefjoin.stages.sets import CALIBRATION, EVALUATION, open_evaluation, open_set

logger = logging.getLogger("hefjoin.stages")


class Branch(Record):
    """One network and what the spec says of its input."""

    name: str
    network: Network
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Color
    metric: str = ""
    """As the spec has it; empty where it names none."""

    @classmethod
    def of(cls, model: ModelSpec, network: Network) -> Self:
        """Return the branch of a model."""
        return cls(
            name=model.name,
            network=network,
            mean=tuple(model.mean),
            std=tuple(model.std),
            color=model.color,
            metric=model.metric,
        )


class Check(Stage[JoinCheck]):
    """Compare the networks and prepare the frames.

    Requires: parsed networks with one input each; preprocessing that differs is in their graphs. Ensures: equal input
    shape and chip; frames of that shape, in the channel order of the shared input. Otherwise a JoinError with the table
    of what disagrees. Labels of the evaluation frames that suit each model's metric and first output.
    """

    stage: ClassVar[str] = "check"
    version: ClassVar[int] = 4
    result: ClassVar[type[JoinCheck]] = JoinCheck

    branches: tuple[Branch, ...]
    calibration: FrameSource
    evaluation: FrameSource

    @classmethod
    def of(cls, spec: BuildSpec, networks: Mapping[str, Network], fetched: Fetched) -> Self:
        """Return the stage for a build."""
        branches = tuple(Branch.of(model, networks[model.name]) for model in spec.models)
        return cls(branches=branches, calibration=fetched.calibration, evaluation=fetched.evaluation)

    def requires(self) -> None:
        """List every mean, std, color and metric that does not fit its network, and every disagreement."""
        errors: list[HefJoinError] = []
        problems = spec_problems(self._intakes)
        for index, branch in enumerate(self.branches):
            problems += metric_problems(index, branch)
        if problems:
            errors.append(SpecError(problems))
        if disagreements := [
            Disagreement(row.what, row.values, row.remedy)
            for row in compare(self._intakes)
            if row.verdict == "fails" and row.what in MUST_AGREE and len({value for _, value in row.values}) > 1
        ]:
            errors.append(JoinError(disagreements))
        if errors:
            raise combined(errors)

    def run(self, work: Path, place: Workplace) -> JoinCheck:
        """Turn the calibration and evaluation sets into frames of the shared input's shape."""
        shape = self.branches[0].network.inputs[0].shape
        height, width, channels = shape
        color, shared, _ = self._preprocessing
        calibration = open_set(self.calibration, shape, color, CALIBRATION)
        evaluation, is_held_out = open_evaluation(self.evaluation, self.calibration, calibration.count, shape, color)
        frames = [
            _store(stream, name, work, place)
            for stream, name in ((calibration, "calibration"), (evaluation, "evaluation"))
        ]
        labels = self._labels(evaluation, work, place)
        self._refuse_changed_sets()
        return JoinCheck(
            height=height,
            width=width,
            channels=channels,
            mean=shared.mean,
            std=shared.std,
            color=color,
            comparisons=self._compared(
                [(calibration, frames[0].health), (evaluation, frames[1].health)], is_held_out=is_held_out
            ),
            calibration=frames[0],
            evaluation=frames[1],
            evaluation_is_held_out=is_held_out,
            labels=labels,
        )

    def ensures(self, result: JoinCheck) -> None:
        """Refuse frames that were already normalized although the chip will normalize them."""
        if refusal := normalized_already(result.calibration.health, self.branches):
            raise CalibrationError(refusal)

    @property
    def _preprocessing(self) -> Split:
        return split(self.branches)

    @property
    def _intakes(self) -> list[Intake]:
        return [of_network(each.name, each.network, each.mean, each.std, each.color) for each in self.branches]

    def _compared(self, sets: Sequence[tuple[FrameStream, Health]], *, is_held_out: bool) -> tuple[Comparison, ...]:
        """Return all rows, and log those at which a person should look."""
        shape = self.branches[0].network.inputs[0].shape
        rows = [*compare(self._intakes)]
        for (stream, health), source in zip(sets, (self.calibration, self.evaluation), strict=True):
            sizes = image_sizes(Path(source.uri), stream.skipped, stream.count)
            rows.append(frames_row(stream.what, health, sizes, shape, self.branches))
        rows[-1] = rows[-1] if is_held_out else twice_served(rows[-1])
        for row in rows:
            for note in row.notes if row.verdict in ("look", "fails") else ():
                logger.warning("check: %s: %s", row.what, note)
        return tuple(rows)

    def _labels(self, evaluation: FrameStream, work: Path, place: Workplace) -> Labels | None:
        models = write_labels(evaluation, judges(self.branches), work / "labels.npz")
        return Labels(npz=place.put(work / "labels.npz", "npz"), models=models) if models else None

    def _refuse_changed_sets(self) -> None:
        """Refuse a set that is no longer the one its digest was taken of: later builds would reuse these frames."""
        for source, what in ((self.calibration, CALIBRATION), (self.evaluation, EVALUATION)):
            if set_sha256(Path(source.uri)) != source.sha256:
                raise CalibrationError(
                    f"the {what} {source.uri} changed while it was being read; build again when nothing writes to it"
                )


def _store(frames: FrameStream, name: str, work: Path, place: Workplace) -> Frames:
    path = work / f"{name}.npy"
    health = write_npy(frames, path)
    return Frames(npy=place.put(path, "npy"), health=health)


def judges(branches: Sequence[Branch]) -> dict[str, Judge]:
    """Return what judges each model's first output."""
    return {
        branch.name: Judge(metric(branch.metric), branch.network.outputs[0].shape, bool(branch.metric))
        for branch in branches
    }


def metric_problems(index: int, branch: Branch) -> Iterator[Problem]:
    """Yield why a metric that the spec names cannot judge the model's first output."""
    if not branch.metric:
        return
    try:
        problem = metric(branch.metric).output_problem(branch.network.outputs[0].shape)
    except InputError as error:
        problem = error.message
    if problem:
        yield Problem(f"models[{index}].metric", problem)
