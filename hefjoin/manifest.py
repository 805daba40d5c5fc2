"""What the stages hand on, and the manifest that a build leaves: small frozen JSON records.

The rule: every number carries its unit in its name and, where it could be taken for a measurement, its source.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hefjoin.artifacts import Record, Ref
from hefjoin.calibration import Health
from hefjoin.forecast.fit import Fit
from hefjoin.scores import Scored
from hefjoin.spec import BuildSpec, HwArch

SCHEMA_VERSION: Literal[3] = 3
"""Raised when a field changes its meaning or a new one is required; manifests of others are not read."""

Provider = Literal["dfc", "emulator"]


class Sdk(Record):
    """Who compiles: part of every stage's identity."""

    provider: Provider
    version: str
    """The DFC's version, or the emulator's with a digest of its code."""


class FrameSource(Record):
    """Where frames come from, known by content; taken as the frames lie there."""

    uri: str
    sha256: str
    count: int
    """How many are wanted."""


class Fetched(Record):
    """The sources of a build, by content."""

    models: dict[str, Ref]
    weights: dict[str, dict[str, Ref]] = Field(default_factory=dict)
    """Of models that keep weights in files beside them: those files, by model and by path below its folder."""
    calibration: FrameSource
    evaluation: FrameSource
    """The calibration set again where the spec names none: then the frames behind the calibration frames."""


class Tensor(Record):
    """An input or output of a network."""

    layer: str
    """Name in the HN, `<scope>/<layer>`."""
    original_name: str
    shape: tuple[int, ...]
    """Without batch: (height, width, channels) or (features,)."""


class LayerView(Record):
    """A layer that computes."""

    name: str
    type: str
    inputs: tuple[str, ...]
    parameters: int
    macs: int
    """Multiply-accumulates per frame."""
    is_fused: bool = False
    """Whether the compiler puts it into the layer before, so that it takes no place of its own on the chip."""


class Network(Record):
    """What a HAR holds."""

    har: Ref
    scopes: tuple[str, ...]
    state: str
    hw_arch: str
    sdk_version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: tuple[LayerView, ...]
    """Computing layers only."""

    @property
    def layers_on_chip(self) -> int:
        """Layers that take a place on the chip."""
        return sum(not layer.is_fused for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per frame."""
        return sum(layer.macs for layer in self.layers)


class Frames(Record):
    """Frames ready for the compiler: one .npy, uint8 or float32, (frames, height, width, channels), 0–255."""

    npy: Ref
    health: Health


class Labels(Record):
    """What is true of the evaluation frames: one .npz, an array of shape (frames, …) under the name of each model."""

    npz: Ref
    models: tuple[str, ...]
    """Those that have labels."""


class JoinCheck(Record):
    """The models may share one input; this is it, and these are the frames for it."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: str
    agreements: tuple[str, ...]
    """What was compared and found equal, in words."""
    calibration: Frames
    evaluation: Frames
    evaluation_is_held_out: bool
    """False where no frames were left and the calibration frames had to serve twice."""
    labels: Labels | None = None
    """Of the evaluation frames; None where there are none."""


class FpsForecast(Record):
    """Frames per second at batch 1, for as many contexts as are forecast."""

    source: Literal["forecast"] = "forecast"
    fps: float
    low_fps: float
    high_fps: float
    """The range that held for 90 % of the published networks."""


class Forecast(Record):
    """Before compiling: does it fit, how fast may it be."""

    models: dict[str, Fit]
    joined: Fit
    fps: FpsForecast | None
    fps_note: str = ""
    """Why there is no forecast of the speed, where there is none."""


class Equality(Record):
    """A model's output inside the joined network against the same model alone, float, on real frames."""

    model: str
    layer: str
    frames: int
    max_abs_difference: float
    largest_value: float
    """Largest absolute value of the output, which the difference is to be seen against."""
    is_bit_equal: bool


class Joined(Record):
    """The joined network."""

    name: str
    network: Network
    input_layer: str
    output_layers: tuple[str, ...]
    """The layers that feed the outputs, in the outputs' order."""
    equality: tuple[Equality, ...]

    @property
    def model_of_output(self) -> dict[str, str]:
        """Which model each output belongs to, in the outputs' order: a layer's scope is its model."""
        return {layer: layer.partition("/")[0] for layer in self.output_layers}


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


class ClusterUse(Record):
    """What a mapping takes of one cluster of the chip, or of all; 0–1, of what the cluster has."""

    control: float
    compute: float
    memory: float


class Utilization(Record):
    """What the compiler says one context takes."""

    context: str
    """The compiler's name for it; empty where it names none, as for a single context in DFC 3.28."""
    clusters: dict[str, ClusterUse]
    total: ClusterUse


class Attempt(Record):
    """One try at mapping the joined network."""

    script: str
    """The compile commands it was made with."""
    label: str
    """What was different: `as declared`, `replay of the last mapping`, or the commands of `compile.attempts`."""
    outcome: Literal["compiled", "did not fit", "failed"]
    message: str
    """The compiler's reason; empty where it compiled."""
    need: dict[str, float]
    have: dict[str, float]
    """The limits that were in force."""
    seconds: float
    phases_s: dict[str, float] = Field(default_factory=dict)
    """How long each phase took that the compiler tells of: allocation, partition, compilation."""
    is_reused: bool = False
    """It was made by an earlier build."""
    log: Ref


class HefStream(Record):
    """An input or output of the HEF, as the host sees it."""

    name: str
    model: str
    """The network it belongs to; empty for the shared input."""
    original_name: str
    """In the ONNX file."""
    shape: tuple[int, ...]
    """Without batch: (height, width, channels) or (features,)."""
    dtype: str
    """`UINT8`, `UINT16` or `FLOAT32`."""
    order: str
    scale: float
    zero_point: float
    """real = (stored - zero_point) · scale."""
    scales: tuple[float, ...] = ()
    """One for each feature, where they differ (`output_encoding_vector`); else `scale` is meant."""
    zero_points: tuple[float, ...] = ()
    """As `scales`."""


class Deployment(Record):
    """What a machine must offer before the HEF is sent to its device, and what comes back from it."""

    hw_arch: HwArch
    sdk_version: str
    least_hailort: str
    """The HailoRT published with the compiler; empty where none is known, and for an emulated HEF."""
    group: str
    """The network group to configure."""
    input: HefStream
    outputs: tuple[HefStream, ...]


class Compiled(Record):
    """The HEF."""

    hef: Ref
    contexts: int
    contexts_source: Literal["forecast", "hef"]
    """`forecast` in an emulated HEF; `hef` in a real one, where the compiler's answer was read."""
    script: str
    sdk_version: str
    is_emulated: bool
    warnings: tuple[str, ...]
    deployment: Deployment
    attempts: tuple[Attempt, ...] = ()
    """Every try, in order; the last one made this HEF."""
    utilization: tuple[Utilization, ...] = ()
    """One per context, as the compiler printed it; empty in an emulated build."""
    auto_script: Ref | None = None
    """The compiler's own resolved decisions (`.auto.alls`), which make the next compile of this graph quicker."""
    replayed: bool = False
    """The decisions of an earlier build of the same graph were replayed."""


class BatchMeasurement(Record):
    """Timed rounds at one batch size."""

    batch_size: int
    rounds_fps: tuple[float, ...]
    fps: float
    """Median of the rounds."""
    fps_low: float
    fps_high: float
    """95 % confidence interval of the median, see `hefjoin.devices.rounds`."""
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    """Host round trip of one batch; None where it was not measured."""
    overall_latency_ms: float | None = None
    """Mean host round trip of one frame, as `hailortcli` gives it."""
    hw_fps: float | None = None
    """Frames per second of the chip alone, without the host (`hw_only`)."""
    hw_latency_ms: float | None = None
    """Of one frame through the chip alone."""


class Range(Record):
    """A sensor over the time of a measurement."""

    low: float
    mean: float
    high: float
    samples: int


class Measured(Record):
    """The HEF as it ran."""

    source: Literal["device", "emulator", "not measured"]
    device: str
    """What measured, or why nothing could."""
    batches: tuple[BatchMeasurement, ...]
    load_average: float
    """Of the host over the last minute, when the measurement began."""
    method: str = ""
    """How: `InferModel async, 8 frames in flight`, `hailortcli run`."""
    power_w: Range | None = None
    temperature_c: Range | None = None
    is_throttled: bool | None = None
    """The chip slowed itself down; None where it cannot be asked."""
    accuracy: tuple[ModelAccuracy, ...] = ()
    """Of the outputs that the device gave, against the float network; empty where none were read back."""
    outputs: Ref | None = None
    """.npz with `device_<i>` per output that could be compared, as in `Quantized.outputs`."""
    versions: dict[str, str] = Field(default_factory=dict)
    """HailoRT, driver and firmware, where there are any."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""


class Gate(Record):
    """One condition for becoming the latest of a name."""

    name: str
    wanted: str
    found: str
    verdict: Literal["passed", "failed", "not evaluated"]


class StageRun(Record):
    """How a stage came to its result."""

    stage: str
    subject: str
    """The model, where the stage runs once per model."""
    key: str
    seconds: float
    """Time it took to build; of the earlier run where it was reused."""
    is_reused: bool
    reason: str
    """Why it was built, or whose result was reused."""


class Machine(Record):
    """Where a build ran."""

    host: str
    platform: str
    cpu: str
    cores: int


class Manifest(Record):
    """All that is known of one build."""

    schema_version: Literal[3] = SCHEMA_VERSION
    build_id: str
    created_at: str
    """ISO 8601, UTC."""
    sdk: Sdk
    spec: BuildSpec
    fetched: Fetched
    models: dict[str, Network]
    check: JoinCheck
    forecast: Forecast
    joined: Joined
    quantized: Quantized
    mends: tuple[Mend, ...] = ()
    """The noisiest first, by model."""
    repair: Repair | None = None
    """None where the spec sets no floor."""
    coupled: Coupled = Coupled()
    compiled: Compiled
    measured: Measured
    scored: Scored
    gates: tuple[Gate, ...]
    stages: tuple[StageRun, ...]
    machine: Machine
    versions: dict[str, str]
    parent: str = Field(default="", description="Build id of the latest of the same name before this one.")

    @property
    def is_promotable(self) -> bool:
        """No gate failed; one that was not evaluated does not hold a build back."""
        return all(gate.verdict != "failed" for gate in self.gates)

    def repeats(self, earlier: Manifest) -> bool:
        """Return whether this build did nothing that the earlier one had not done: same spec, every stage reused.

        A benchmark that found no device is not reused, because one may be there now; without one again, nothing is new.
        """
        keys, earlier_keys = ([run.key for run in build.stages] for build in (self, earlier))
        without_device = all(build.measured.source == "not measured" for build in (self, earlier))
        return (
            self.spec == earlier.spec
            and keys == earlier_keys
            and all(run.is_reused or (run.stage == "benchmark" and without_device) for run in self.stages)
        )


class Published(Record):
    """Where a build was left."""

    build_id: str
    manifest: Ref
    report: Ref
    hef: Ref
    hef_name: str
    """File name a HEF should carry: `<name>.hef`, `<name>.emulated.hef`."""
    record: str
    """Key of the new record under the name; empty where a gate failed."""
