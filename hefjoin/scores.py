"""What models are worth on labels, stage by stage: small frozen JSON records, a part of the manifest.

The rule: figures are in the metric's own unit; their source is the provider's, at the stage `device` the device's.
"""

from __future__ import annotations

from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.metrics.metric import MetricKind

AccuracyStage = Literal["native", "fp-optimized", "quantized", "device"]
"""What a network goes through: as parsed, after the script's modifications, in simulated integers, as the HEF runs."""


class Difference(Record):
    """A stage against an earlier one of the same network, on the same frames."""

    to: AccuracyStage
    value: float
    """Later - earlier, in the metric's own unit, mean over the frames."""
    low: float | None
    high: float | None
    """95 % confidence interval; None where there are too few frames for one."""
    p_value: float
    """Two-sided, of a paired test: exact McNemar for hits, by the signs of the changes else."""
    verdict: Literal["within noise", "worse", "better"]
    """The first where `p_value` is above 0.05."""
    frames_better: int
    frames_worse: int


class StageScore(Record):
    """How good a network is at one stage."""

    stage: AccuracyStage
    value: float
    """Mean over the frames, in the metric's own unit."""
    differences: tuple[Difference, ...]
    """To every earlier stage that there is."""

    def difference_to(self, stage: AccuracyStage) -> Difference | None:
        """Return the difference to an earlier stage."""
        return next((difference for difference in self.differences if difference.to == stage), None)


class ModelScores(Record):
    """One model's first output against the labels of the evaluation frames, at each stage."""

    model: str
    layer: str
    metric: str
    """`top-1`, `iou@0.5`, `mae`, `package.module:function`."""
    kind: MetricKind
    frames: int
    stages: tuple[StageScore, ...]
    not_available: dict[AccuracyStage, str]
    """The stages that are missing, and why."""

    def at(self, stage: AccuracyStage) -> StageScore | None:
        """Return the score at a stage; None where it is not available."""
        return next((score for score in self.stages if score.stage == stage), None)

    @property
    def unit(self) -> Literal["points", "percent"]:
        """What `drop` is counted in: points of a hundred, or percent of the float network's value."""
        return "points" if self.kind in ("hits", "overlap") else "percent"

    def drop(self, stage: AccuracyStage) -> float | None:
        """Return what a stage lost against the full-precision network, in `unit`; a gain is negative.

        None where one of them is not available, or where the float network's value is 0 and nothing is a share of it.
        """
        score, exact = self.at(stage), self.at("fp-optimized")
        difference = score.difference_to("fp-optimized") if score else None
        if difference is None or exact is None:
            return None
        lost = difference.value if self.kind == "error" else -difference.value
        if self.unit == "points" or lost == 0:
            return round(100 * lost, 9)
        return round(100 * lost / abs(exact.value), 9) if exact.value else None


class Scored(Record):
    """What the models are worth on labels, at each stage."""

    models: tuple[ModelScores, ...]
    """Those that have labels."""

    def of(self, model: str) -> ModelScores | None:
        """Return a model's scores; None where it has none."""
        return next((scores for scores in self.models if scores.model == model), None)
