"""Check: may these networks share one input? The three conditions of the recipe, in seconds, before any joining."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from hefjoin.artifacts import Record
from hefjoin.calibration import Frames as FrameStream
from hefjoin.calibration import open_frames, set_sha256, write_npy
from hefjoin.errors import CalibrationError, Disagreement, InputError, JoinError, Problem, SpecError
from hefjoin.formats.preprocessing import Split, normalization, split
from hefjoin.labels import Judge, write_labels
from hefjoin.metrics.metric import metric
from hefjoin.results.checked import Frames, JoinCheck, Labels
from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched, FrameSource
from hefjoin.spec import BuildSpec, Color, counted
from hefjoin.stages.contract import Stage, Workplace

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

    @property
    def channels(self) -> int:
        """Of its input."""
        return self.network.inputs[0].shape[-1]


class Check(Stage[JoinCheck]):
    """Compare the networks and prepare the frames.

    Requires: parsed networks with one input each; preprocessing that differs is in their graphs. Ensures: equal input
    shape and chip; frames of that shape, in the channel order of the shared input. Otherwise a JoinError with the table
    of what disagrees. Labels of the evaluation frames that suit each model's metric and first output.
    """

    stage: ClassVar[str] = "check"
    version: ClassVar[int] = 3
    result: ClassVar[type[JoinCheck]] = JoinCheck

    branches: tuple[Branch, ...]
    calibration: FrameSource
    evaluation: FrameSource

    @classmethod
    def of(cls, spec: BuildSpec, networks: Mapping[str, Network], fetched: Fetched) -> Self:
        """Return the stage for a build."""
        branches = tuple(
            Branch(
                name=model.name,
                network=networks[model.name],
                mean=tuple(model.mean),
                std=tuple(model.std),
                color=model.color,
                metric=model.metric,
            )
            for model in spec.models
        )
        return cls(branches=branches, calibration=fetched.calibration, evaluation=fetched.evaluation)

    def requires(self) -> None:
        """List every mean, std and metric that does not fit its network, and every disagreement."""
        problems = []
        for index, branch in enumerate(self.branches):
            for field, values in (("mean", branch.mean), ("std", branch.std)):
                if values and len(values) != branch.channels:
                    has = f"{branch.channels} channel{'s' if branch.channels != 1 else ''}"
                    problems.append(Problem(f"models[{index}].{field}", f"{counted(values)}, input has {has}"))
            if len(branch.network.inputs[0].shape) != 3:
                problems.append(
                    Problem(f"models[{index}]", f"its input {branch.network.inputs[0].shape} is not an image")
                )
            problems += _metric_problems(index, branch)
        if problems:
            raise SpecError(problems)
        disagreements = [row for row in map(self._compare, COMPARED) if row is not None]
        if disagreements:
            raise JoinError(disagreements)

    def run(self, work: Path, place: Workplace) -> JoinCheck:
        """Turn the calibration and evaluation sets into frames of the shared input's shape."""
        first = self.branches[0]
        height, width, channels = first.network.inputs[0].shape
        shared = self._preprocessing.shared
        calibration = self._open(self.calibration, "calibration set")
        evaluation, is_held_out = self._open_evaluation(calibration)
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
            color=self._preprocessing.color,
            agreements=(*(f"{what}: {show(first)}" for what, show, _ in COMPARED), *self._preprocessing_texts()),
            calibration=frames[0],
            evaluation=frames[1],
            evaluation_is_held_out=is_held_out,
            labels=labels,
        )

    def ensures(self, result: JoinCheck) -> None:
        """Refuse frames that were already normalized although the chip will normalize them."""
        if any(normalization(branch)[1] for branch in self.branches) and result.calibration.health.looks_normalised:
            raise CalibrationError(
                f"the calibration set has values {result.calibration.health.min:g} … "
                f"{result.calibration.health.max:g}: it is already normalized, and mean/std would be applied again on "
                "the chip. Give raw 0–255 pixels, or leave mean and std out. Of the set is known: "
                f"{'; '.join(result.calibration.health.notes)}"
            )

    @property
    def _preprocessing(self) -> Split:
        return split(self.branches)

    def _preprocessing_texts(self) -> Iterator[str]:
        """Say of mean, std and colour what all models share, or what each has in its own graph."""
        color, shared, own = self._preprocessing
        carried = [part for part in own if part is not None]
        if any(part.mean for part in carried):
            yield f"mean and std: {self._each(lambda branch: _normalization_text(*normalization(branch)))}"
        else:
            yield f"mean and std: {_normalization_text(shared.mean, shared.std)}"
        is_apart = any(part.reverses_channels for part in carried)
        yield f"color: {self._each(lambda branch: branch.color) if is_apart else color}"

    def _each(self, show: Callable[[Branch], str]) -> str:
        texts = ", ".join(f"{branch.name} {show(branch)}" for branch in self.branches)
        return f"each model carries its own ({texts})"

    def _compare(self, row: Comparison) -> Disagreement | None:
        what, show, remedy = row
        values = tuple((branch.name, show(branch)) for branch in self.branches)
        return Disagreement(what, values, remedy) if len({value for _, value in values}) > 1 else None

    def _open(self, source: FrameSource, what: str, skip: int = 0) -> FrameStream:
        first = self.branches[0]
        height, width, channels = first.network.inputs[0].shape
        return open_frames(
            Path(source.uri),
            height=height,
            width=width,
            channels=channels,
            color=self._preprocessing.color,
            count=source.count,
            skip=skip,
            what=what,
        )

    def _labels(self, evaluation: FrameStream, work: Path, place: Workplace) -> Labels | None:
        judges = {
            branch.name: Judge(metric(branch.metric), branch.network.outputs[0].shape, bool(branch.metric))
            for branch in self.branches
        }
        models = write_labels(evaluation, judges, work / "labels.npz")
        return Labels(npz=place.put(work / "labels.npz", "npz"), models=models) if models else None

    def _refuse_changed_sets(self) -> None:
        """Refuse a set that is no longer the one its digest was taken of: later builds would reuse these frames."""
        for source, what in ((self.calibration, "calibration set"), (self.evaluation, "evaluation set")):
            if set_sha256(Path(source.uri)) != source.sha256:
                raise CalibrationError(
                    f"the {what} {source.uri} changed while it was being read; build again when nothing writes to it"
                )

    def _open_evaluation(self, calibration: FrameStream) -> tuple[FrameStream, bool]:
        """Open the evaluation set; where it is the calibration set, behind the calibration frames."""
        source = self.evaluation
        if source.sha256 != self.calibration.sha256:
            return self._open(source, "evaluation set"), True
        try:
            return self._open(source, "evaluation set", skip=calibration.count), True
        except CalibrationError:  # no frames are left: they serve twice, and it is said
            return self._open(source, "evaluation set"), False


def _store(frames: FrameStream, name: str, work: Path, place: Workplace) -> Frames:
    path = work / f"{name}.npy"
    health = write_npy(frames, path)
    for note in health.notes:
        logger.warning("check: %s: %s", frames.what, note)
    return Frames(npy=place.put(path, "npy"), health=health)


def _metric_problems(index: int, branch: Branch) -> Iterator[Problem]:
    """Yield why a metric that the spec names cannot judge the model's first output."""
    if not branch.metric:
        return
    try:
        problem = metric(branch.metric).output_problem(branch.network.outputs[0].shape)
    except InputError as error:
        problem = error.message
    if problem:
        yield Problem(f"models[{index}].metric", problem)


Comparison = tuple[str, Callable[[Branch], str], str]

COMPARED: tuple[Comparison, ...] = (
    (
        "input shape (height, width, channels)",
        lambda branch: " × ".join(map(str, branch.network.inputs[0].shape)),
        "export the models for one size, or set input_shape where a model leaves it open",
    ),
    ("chip", lambda branch: branch.network.hw_arch, "parse the HARs again for one hw_arch"),
    ("SDK version", lambda branch: branch.network.sdk_version, "parse the HARs again with one SDK"),
    ("state", lambda branch: branch.network.state, "join parsed networks, then quantize them as one"),
)


def _normalization_text(mean: Sequence[float], std: Sequence[float]) -> str:
    return f"mean {list(mean)}, std {list(std)}" if mean else "none"
