"""The quantized network and what it cost: accuracy and noise, what repair did and what coupling did."""

from __future__ import annotations

from pydantic import Field

from hefjoin.artifacts import Record, Ref
from hefjoin.forecast.fit import Fit


class OutputAccuracy(Record):
    """One output against that of an earlier stage, such as quantized against float, over all evaluation frames."""

    layer: str
    snr_db: float
    metric: str
    """What `agreement` counts: `top-1`, `mask IoU at 0.5`, `correlation`."""
    agreement: float
    """0–1 (a correlation may be negative)."""


class ModelAccuracy(Record):
    """What quantizing changed in one model's outputs; whether they are right, `ModelScores` says."""

    model: str
    frames: int
    outputs: tuple[OutputAccuracy, ...]

    @property
    def snr_db(self) -> float:
        """Of its worst output."""
        return min(output.snr_db for output in self.outputs)

    @property
    def disagreement_points(self) -> float | None:
        """What is missing to full agreement of the worst output, in percentage points.

        None where the outputs are no decisions: a correlation is no share of anything.
        """
        if any(output.metric == "correlation" for output in self.outputs):
            return None
        return 100 * (1 - min(output.agreement for output in self.outputs))


class LayerNoise(Record):
    """The quantization noise at one layer's output: all that has gathered up to it, and what the layer alone makes."""

    layer: str
    snr_db: float
    """Accumulated: everything up to here is quantized."""
    cosine: float | None = None
    """Of the angle between signal and quantized; None where the compiler does not tell it, as the DFC does not."""
    own_snr_db: float | None = None
    """This layer alone is quantized, what it reads is exact; None as above."""
    own_cosine: float | None = None


class Quantized(Record):
    """The quantized network and what it cost."""

    har: Ref
    script: str
    requested_level: int
    effective_level: int
    """The compiler may silently fall back to 0."""
    output_layers: tuple[str, ...]
    """What feeds the outputs now; a model script may have put post-processing behind the joined ones."""
    unjudged: tuple[str, ...] = ()
    """Outputs of such post-processing: lists of boxes have no SNR."""
    accuracy: tuple[ModelAccuracy, ...]
    """Of the models with an output that was judged."""
    layer_noise: tuple[LayerNoise, ...]
    raised: dict[str, str] = Field(default_factory=dict)
    """Precision of the layers that a repair raised, in its order; `script` has them."""
    outputs: Ref
    """.npz with `float_<i>`, `quantized_<i>` and, where it can be compared, `native_<i>` per output: float32,
    (frames, …), i as in `output_layers`."""
    native: tuple[OutputAccuracy, ...] = ()
    """The full-precision outputs against those of the network as parsed: what normalization and folding changed."""
    not_native: dict[str, str] = Field(default_factory=dict)
    """Models whose network as parsed is another, and why."""
    warnings: tuple[str, ...]

    @property
    def snr_by_output(self) -> dict[str, float]:
        """SNR of every judged output, in dB, by its layer."""
        return {output.layer: output.snr_db for each in self.accuracy for output in each.outputs}


class Mend(Record):
    """A layer that brings much of an output's noise, and what would take that away."""

    output: str
    """The layer that feeds it; of each model, its noisiest output."""
    layer: str
    share: float
    """Of the output's noise, 0–1; an estimate."""
    line: str
    """For the joint script, ready to copy; empty where the layer cannot be given more bits."""
    reason: str
    """Why it cannot."""


class Held(Record):
    """A layer that would have been raised and was not."""

    layer: str
    share: float
    """Of the noise of the output that misses the floor by most, 0–1."""
    reason: str


class RepairRound(Record):
    """Layers that were raised together, and what came of it."""

    raised: tuple[str, ...]
    """The most useful first."""
    expected_db: dict[str, float]
    """SNR of every output below the floor, as foretold from the layers' noise."""
    snr_db: dict[str, float]
    """Of every output, afterwards."""
    fit: Fit
    """The forecast with all that is raised by now."""
    is_reused: bool = False
    """The network was quantized so by an earlier build."""


class Repair(Record):
    """What was done so that every output reaches the floor that the spec sets."""

    floor_db: float
    budget: int
    """Layers that may be raised, for all models together."""
    mode: str
    """What they are raised to."""
    snr_db: dict[str, float]
    """Of every output, before."""
    fit: Fit
    """The forecast before; 16-bit layers of the scripts are counted."""
    rounds: tuple[RepairRound, ...]
    held: tuple[Held, ...] = ()
    """The noisiest layers that were in the way of, first."""
    ending: str
    """Why it ended, in words."""

    @property
    def raised(self) -> tuple[str, ...]:
        """Every layer that was raised, in order."""
        return tuple(layer for each in self.rounds for layer in each.raised)

    @property
    def reached_db(self) -> dict[str, float]:
        """SNR of every output at the end."""
        return self.rounds[-1].snr_db if self.rounds else self.snr_db

    @property
    def reached_fit(self) -> Fit:
        """The forecast at the end."""
        return self.rounds[-1].fit if self.rounds else self.fit

    @property
    def missed(self) -> tuple[str, ...]:
        """The outputs that are below the floor at the end."""
        return tuple(layer for layer, snr_db in self.reached_db.items() if snr_db < self.floor_db)


class Repaired(Record):
    """The network that is compiled, and how it came to its precision."""

    quantized: Quantized
    repair: Repair | None
    """None where the spec sets no floor."""
    mends: tuple[Mend, ...]
    """What still makes the noise of each model's noisiest output."""


class Coupling(Record):
    """One way in which the models of a join influence each other."""

    text: str
    """In a sentence."""
    changes_numbers: bool
    """A model's outputs may differ from those it has when it is quantized alone."""


class Coupled(Record):
    """What joining did to each model's quantization; without figures where nothing that changes them couples models."""

    couplings: tuple[Coupling, ...] = ()
    alone_db: dict[str, float] = Field(default_factory=dict)
    """SNR of every judged output where its model is quantized alone, by its layer in the joined network."""
    alone_bits_equal: dict[str, bool] = Field(default_factory=dict)
    """Whether the quantized output is the same to the last bit."""
