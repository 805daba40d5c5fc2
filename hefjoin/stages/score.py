"""Score: what each model is worth on labels, at each stage it went through, and which differences are noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import numpy.typing as npt

from hefjoin.artifacts import Record, Ref
from hefjoin.errors import CompileError, InputError, Problem, SpecError
from hefjoin.metrics import own, paired
from hefjoin.metrics.metric import Metric, MetricKind, metric
from hefjoin.results.checked import JoinCheck
from hefjoin.results.measured import Measured
from hefjoin.results.networks import Joined
from hefjoin.results.quantized import Quantized
from hefjoin.scores import AccuracyStage, Difference, ModelScores, Scored, StageScore
from hefjoin.spec import BuildSpec
from hefjoin.stages.benchmark import NOT_MEASURED
from hefjoin.stages.contract import Stage, Workplace

POST_PROCESSED = "its outputs are post-processed in the model script, and not judged"
ARRAYS: dict[AccuracyStage, str] = {
    "native": "native",
    "fp-optimized": "float",
    "quantized": "quantized",
    "device": "device",
}
"""How the arrays of each stage are called: `float_0`."""

Scores = npt.NDArray[np.float64]


class Labelled(Record):
    """A model that has labels, and the output they judge."""

    model: str
    place: str
    """Of its metric in the spec: `models[0].metric`."""
    metric: str
    code_sha256: str
    """Of the file of an own metric: another code is another score."""
    layer: str
    index: int
    """Of the output: `float_<index>`; -1 where it is not judged."""
    not_available: dict[AccuracyStage, str]


class Score(Stage[Scored]):
    """Judge every model that has labels: native, fp-optimized, quantized and on the device.

    Requires: outputs of the same frames at each stage, a label for each frame. Ensures: for each labelled model a
    finite figure for each stage that there is, its difference to those before, and why the others are missing.
    """

    stage: ClassVar[str] = "score"
    version: ClassVar[int] = 1
    result: ClassVar[type[Scored]] = Scored

    name: str
    models: tuple[Labelled, ...]
    labels: Ref | None
    outputs: Ref
    """Of the quantize stage."""
    device_outputs: Ref | None
    """Of the benchmark stage."""

    @classmethod
    def of(cls, spec: BuildSpec, checked: JoinCheck, joined: Joined, quantized: Quantized, measured: Measured) -> Self:
        """Return the stage for a build.

        Raises:
            SpecError: A metric of one's own that cannot be loaded.
        """
        labels = checked.labels
        return cls(
            name=spec.name,
            models=tuple(_labelled(spec, labels.models if labels else (), joined, quantized, measured)),
            labels=labels.npz if labels else None,
            outputs=quantized.outputs,
            device_outputs=measured.outputs,
        )

    def run(self, work: Path, place: Workplace) -> Scored:
        """Judge one model after the other, frame by frame."""
        if not self.models or self.labels is None:
            return Scored(models=())
        labels = np.load(place.store.get(self.labels, work / "labels.npz"))
        files = [np.load(place.store.get(self.outputs, work / "outputs.npz"))]
        if self.device_outputs is not None:
            files.append(np.load(place.store.get(self.device_outputs, work / "device.npz")))
        try:
            return Scored(models=tuple(_judged(model, labels[model.model], files) for model in self.models))
        finally:
            for file in (labels, *files):
                file.close()

    def ensures(self, result: Scored) -> None:
        """Check that the figures are numbers."""
        broken = [
            f"{model.model} ({score.stage})"
            for model in result.models
            for score in model.stages
            if not np.isfinite(score.value)
        ]
        if broken:
            raise CompileError(
                f"{self.name}: the scores of {', '.join(broken)} are not finite, so its outputs are not", log_tail=""
            )


def _labelled(
    spec: BuildSpec, labelled: tuple[str, ...], joined: Joined, quantized: Quantized, measured: Measured
) -> Iterator[Labelled]:
    """Yield the models that have labels; a script may have put boxes in the place of the output that they judge."""
    on_device = {output.layer for accuracy in measured.accuracy for output in accuracy.outputs}
    for place, model in enumerate(spec.models):
        layer = next(layer for layer, owner in joined.model_of_output.items() if owner == model.name)
        if model.name not in labelled:
            continue
        is_judged = layer in quantized.output_layers
        missing: dict[AccuracyStage, str] = {} if is_judged else dict.fromkeys(ARRAYS, POST_PROCESSED)
        if model.name in quantized.not_native:
            missing["native"] = quantized.not_native[model.name]
        if measured.source == NOT_MEASURED:
            missing["device"] = NOT_MEASURED
        elif is_judged and layer not in on_device:
            missing["device"] = "its output was not read back"
        where = f"models[{place}].metric"
        yield Labelled(
            model=model.name,
            place=where,
            metric=_metric(model.metric, where).name,
            code_sha256=own.source_sha256(model.metric) if ":" in model.metric else "",
            layer=layer,
            index=quantized.output_layers.index(layer) if is_judged else -1,
            not_available=missing,
        )


def _metric(text: str, place: str) -> Metric:
    try:
        return metric(text)
    except InputError as error:
        raise SpecError([Problem(place, error.message)]) from error


def _judged(model: Labelled, labels: npt.NDArray[Any], files: list[Any]) -> ModelScores:
    judge = _metric(model.metric, model.place)
    labels.setflags(write=False)
    scores: dict[AccuracyStage, Scores] = {}
    for stage, name in ARRAYS.items():
        if stage not in model.not_available:
            key = f"{name}_{model.index}"
            found = next(file[key] for file in files if key in file)
            scores[stage] = _scores(judge, found, labels, model, stage)
    return ModelScores(
        model=model.model,
        layer=model.layer,
        metric=model.metric,
        kind=judge.kind,
        frames=len(labels),
        stages=tuple(_stage_score(stage, scores, judge.kind) for stage in scores),
        not_available=model.not_available,
    )


def _scores(
    judge: Metric, outputs: npt.NDArray[Any], labels: npt.NDArray[Any], model: Labelled, stage: AccuracyStage
) -> Scores:
    """Return the score of every frame, float64, shape (frames,).

    Raises:
        SpecError: An own metric that fails on a frame.
    """
    outputs.setflags(write=False)
    found = np.empty(len(labels))
    for frame, (output, label) in enumerate(zip(outputs, labels, strict=True)):
        try:
            found[frame] = judge.score(output, label)
        except InputError as error:
            message = f"{error.message}; on evaluation frame {frame} of {model.model}, {stage}"
            raise SpecError([Problem(model.place, message)]) from error
    return found


def _stage_score(stage: AccuracyStage, scores: Mapping[AccuracyStage, Scores], kind: MetricKind) -> StageScore:
    order: tuple[AccuracyStage, ...] = get_args(AccuracyStage)
    earlier = [each for each in order[: order.index(stage)] if each in scores]
    return StageScore(
        stage=stage,
        value=float(scores[stage].mean()),
        differences=tuple(_difference(each, scores[each], scores[stage], kind) for each in earlier),
    )


def _difference(to: AccuracyStage, earlier: Scores, later: Scores, kind: MetricKind) -> Difference:
    found = paired.compare(earlier, later, are_hits=kind == "hits")
    is_better = (found.difference > 0) != (kind == "error")
    better, worse = (found.lower, found.higher) if kind == "error" else (found.higher, found.lower)
    return Difference(
        to=to,
        value=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        verdict="within noise" if found.is_noise else "better" if is_better else "worse",
        frames_better=better,
        frames_worse=worse,
    )
