"""What to build: one model that is the YAML file, the UI form and the API's JSON schema.

The rule: at most two levels deep, no unions, no free dictionaries, and every limit that JSON Schema can say is
said there, so that a form can show it and a server can refuse it. Where a value may be left out, its default
says so by itself: an empty text or list, or zero. What JSON Schema cannot say (`cross_field_problems`) is
checked by the same class, and `validate_spec` reports every problem at once.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hefjoin.errors import Problem, SpecError

HwArch = Literal["hailo8", "hailo8l"]
Precision = Literal["a8_w8", "a8_w4", "a16_w16"]
Color = Literal["rgb", "bgr"]
DeviceKind = Literal["auto", "emulated", "hailort", "hailortcli"]

SCOPE_PATTERN = r"^[A-Za-z][A-Za-z0-9_]*$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
METRIC_PATTERN = (
    r"^(|top-[1-9][0-9]{0,3}|iou(@-?[0-9]{1,3}(\.[0-9]{1,6})?)?|mae"
    rf"|{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER})$"
)
METRICS = "top-1, top-5 (any k), iou, iou@0.3 (any threshold), mae and package.module:function"
MODEL_SUFFIXES = (".onnx", ".har")
SHOWN = 120
"""Most letters of a wrong value that a message repeats."""

Text = Annotated[str, Field(json_schema_extra={"format": "multiline"})]


def _one_a_line(value: Any) -> Any:
    is_list = isinstance(value, list) and value and all(isinstance(each, str) for each in value)
    return "\n".join(value) if is_list else value


Sources = Annotated[str, BeforeValidator(_one_a_line)]
"""A text with one source in each line; a list of them is taken for that, so that the schema is a text in every form."""


class Section(BaseModel):
    """A part of the spec; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(Section):
    """One of the networks to join."""

    name: str = Field(
        pattern=SCOPE_PATTERN,
        max_length=40,
        description="Its scope: the first part of every layer name in the joined network.",
        json_schema_extra={"position": 0},
    )
    source: str = Field(
        min_length=1,
        description="An .onnx file, or a .har to skip parsing: a path, s3://bucket/key or "
        "package://<installed package>/<file>.",
        json_schema_extra={"position": 1},
    )
    mean: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[],
        max_length=4,
        description="Per channel, on the 0–255 scale; subtracted on the chip. Empty: none.",
        json_schema_extra={"position": 2},
    )
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default=[],
        max_length=4,
        description="Per channel, on the 0–255 scale; divides after the mean. Empty: none.",
        json_schema_extra={"position": 3},
    )
    color: Color = Field(
        default="rgb",
        description="Channel order the network wants to see.",
        json_schema_extra={"position": 4},
    )
    input_shape: list[Annotated[int, Field(gt=0)]] = Field(
        default=[],
        max_length=4,
        description="As in the ONNX file, batch first. Needed only where the file leaves it open.",
        json_schema_extra={"position": 5},
    )
    start_nodes: list[str] = Field(
        default=[],
        description="ONNX nodes to start from. Empty: the graph's inputs.",
        json_schema_extra={"position": 6},
    )
    end_nodes: list[str] = Field(
        default=[],
        description="ONNX nodes to end at. Empty: the graph's outputs.",
        json_schema_extra={"position": 7},
    )
    script: Text = Field(
        title="Model script",
        default="",
        description="This network's own model script commands, with unscoped layer names.",
        json_schema_extra={"position": 8},
    )
    metric: str = Field(
        default="",
        max_length=200,
        pattern=METRIC_PATTERN,
        description="Judges the first output on the labels of the evaluation set: top-1 (any k), iou or iou@0.3 of a "
        "map, mae, or package.module:function. Empty: top-1.",
        json_schema_extra={"position": 9},
    )


class CalibrationSpec(Section):
    """The images that quantization learns its ranges from."""

    source: Sources = Field(
        min_length=1,
        description="A folder of images, a .npy or a .npz, as raw 0–255 pixels: a path, or in S3 (a prefix ends in a "
        "slash); or images in S3, one s3://bucket/key a line, or a .txt of them.",
        json_schema_extra={"position": 0, "format": "multiline"},
    )
    count: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="How many images to use.",
        json_schema_extra={"position": 1},
    )


class EvaluationSpec(Section):
    """The images on which the quantized networks are compared with the float ones."""

    source: Sources = Field(
        default="",
        description="Like the calibration set; a .npz may hold labels under the models' names. "
        "Empty: further images of the calibration set.",
        json_schema_extra={"position": 0, "format": "multiline"},
    )
    count: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="How many images to use.",
        json_schema_extra={"position": 1},
    )


class QuantizationSpec(Section):
    """How the joined network is quantized."""

    precision: Precision = Field(
        default="a8_w8",
        description="Bits of activations and weights.",
        json_schema_extra={"position": 0},
    )
    optimization_level: int = Field(
        default=0,
        ge=0,
        le=4,
        description="0 works without a GPU; the compiler falls back to it, and says so, when it finds none.",
        json_schema_extra={"position": 1},
    )
    repair_layers: int = Field(
        default=8,
        ge=0,
        le=64,
        description="How many layers, of all models together, may be raised to 16 bits so that every output reaches "
        "gates.min_snr_db. 0: none.",
        json_schema_extra={"position": 2},
    )


class CompileSpec(Section):
    """What the compiler may do."""

    single_context: bool = Field(
        default=True,
        description="Fail instead of splitting the joined network over several loadings of the chip.",
        json_schema_extra={"position": 0},
    )
    performance_mode: bool = Field(
        default=False,
        description="Let the compiler search for hours for the fastest mapping.",
        json_schema_extra={"position": 1},
    )
    target_fps: int = Field(
        default=0,
        ge=0,
        description="Frames per second to aim for; a modest figure helps a pair to fit. 0: as fast as possible.",
        json_schema_extra={"position": 2},
    )
    attempts: list[Text] = Field(
        title="Further attempts",
        default=[],
        max_length=8,
        description="What to try next, in this order, while the network does not fit a single context: compile "
        "commands put over the declared ones, such as performance_param(fps=30). Nothing else is tried.",
        json_schema_extra={"position": 3},
    )


class BenchmarkSpec(Section):
    """How the HEF is measured."""

    seconds: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="Time to measure for each batch size.",
        json_schema_extra={"position": 0},
    )
    batch_sizes: list[Annotated[int, Field(ge=1, le=256)]] = Field(
        default=[1, 8],
        min_length=1,
        max_length=8,
        description="Frames sent together.",
        json_schema_extra={"position": 1},
    )
    device: DeviceKind = Field(
        default="auto",
        description="auto: the one that runs what was built; for a real HEF HailoRT's Python API, else hailortcli.",
        json_schema_extra={"position": 2},
    )


class GatesSpec(Section):
    """What a build must reach to become the latest under its name."""

    min_snr_db: float = Field(
        title="Min SNR (dB)",
        default=0.0,
        ge=0,
        description="Of every output, quantized against float, in dB. 0: not gated.",
        json_schema_extra={"position": 0},
    )
    max_accuracy_drop: float = Field(
        title="Max accuracy drop (%)",
        default=100.0,
        ge=0,
        le=100,
        description="Of every model against its float self: percentage points of top-k or IoU, percent of mae or an "
        "own metric; without labels, of its outputs' disagreement. 100: not gated.",
        json_schema_extra={"position": 1},
    )
    min_fps: float = Field(
        title="Min FPS",
        default=0.0,
        ge=0,
        description="At batch size 1, measured on a device; an emulator's figure never counts. 0: not gated.",
        json_schema_extra={"position": 2},
    )
    max_regression_percent: float = Field(
        title="Max regression (%)",
        default=100.0,
        ge=0,
        le=100,
        description="Loss of throughput against the last promoted build that was measured on the same device; an "
        "emulator's figure never counts. 100: not gated.",
        json_schema_extra={"position": 3},
    )


class BuildSpec(Section):
    """Two or more networks that look at the same image, and what to make of them."""

    name: str = Field(
        pattern=NAME_PATTERN,
        max_length=80,
        description="Name of the build; its history and its latest HEF are kept under it.",
        json_schema_extra={"position": 0},
    )
    models: list[ModelSpec] = Field(
        min_length=2,
        max_length=8,
        description="Two to eight networks that look at the same image.",
        json_schema_extra={"position": 1},
    )
    calibration: CalibrationSpec = Field(
        title="Calibration",
        description="The images that quantization learns its ranges from.",
        json_schema_extra={"position": 2},
    )
    evaluation: EvaluationSpec = Field(
        title="Evaluation",
        default=EvaluationSpec(),
        description="The images on which the quantized networks are compared with the float ones.",
        json_schema_extra={"position": 3},
    )
    hw_arch: HwArch = Field(
        title="Chip", default="hailo8", description="The chip to compile for.", json_schema_extra={"position": 4}
    )
    quantization: QuantizationSpec = Field(
        title="Quantization",
        default=QuantizationSpec(),
        description="How the joined network is quantized.",
        json_schema_extra={"position": 5},
    )
    compile: CompileSpec = Field(
        title="Compilation",
        default=CompileSpec(),
        description="What the compiler may do.",
        json_schema_extra={"position": 6},
    )
    benchmark: BenchmarkSpec = Field(
        title="Benchmark",
        default=BenchmarkSpec(),
        description="How the HEF is measured.",
        json_schema_extra={"position": 7},
    )
    gates: GatesSpec = Field(
        title="Gates",
        default=GatesSpec(),
        description="What a build must reach to become the latest under its name.",
        json_schema_extra={"position": 8},
    )
    script: Text = Field(
        title="Joint model script",
        default="",
        description="Model script commands for the joined network, with scoped layer names.",
        json_schema_extra={"position": 9},
    )
    dfc_python: str = Field(
        title="Interpreter of the DFC",
        default="",
        description="Python interpreter in which the Dataflow Compiler is installed. Empty: HEFJOIN_DFC_PYTHON.",
        json_schema_extra={"position": 10},
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        problems = cross_field_problems(self.model_dump())
        if problems:
            raise ValueError("; ".join(f"{path}: {message}" for path, message in problems))
        return self


def cross_field_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong between fields; `raw` may be half wrong itself, its broken parts are passed over."""
    problems: list[Problem] = []
    models = raw.get("models")
    first_use: dict[str, int] = {}
    for index, model in enumerate(models if isinstance(models, Sequence) else ()):
        if not isinstance(model, Mapping):
            continue
        where = f"models[{index}]"
        name = model["name"].lower() if isinstance(model.get("name"), str) else ""
        if name and name in first_use:
            problems.append(
                Problem(
                    f"{where}.name",
                    f"{model['name']!r} is also the name of models[{first_use[name]}]; "
                    "names are scopes and must differ in more than case",
                )
            )
        first_use.setdefault(name, index)
        source = model.get("source")
        if isinstance(source, str) and source and not source.lower().endswith(MODEL_SUFFIXES):
            problems.append(Problem(f"{where}.source", f"{source!r} is neither an .onnx nor a .har file"))
        problems += _normalization_problems(where, model)
    return problems


def _normalization_problems(where: str, model: Mapping[str, Any]) -> list[Problem]:
    mean, std, shape = (model.get(key) or [] for key in ("mean", "std", "input_shape"))
    if not all(isinstance(value, list | tuple) for value in (mean, std, shape)):
        return []
    if not all(isinstance(size, int) for size in shape):
        return []
    problems = []
    if mean and std and len(mean) != len(std):
        problems.append(Problem(f"{where}.std", f"{counted(std)}, mean has {counted(mean)}"))
    if len(shape) == 4:
        channels = {shape[1], shape[3]}
        for field, value in (("mean", mean), ("std", std)):
            if value and len(value) not in channels:
                known = [c for c in (1, 3, 4) if c in channels]
                has = f"{known[0]} channel{'s' if known[0] > 1 else ''}" if known else f"shape {list(shape)}"
                problems.append(Problem(f"{where}.{field}", f"{counted(value)}, input has {has}"))
    elif shape:
        problems.append(Problem(f"{where}.input_shape", f"{len(shape)} dimensions, an image input has 4 (batch first)"))
    return problems


def counted(items: Sequence[Any]) -> str:
    """Return `1 value`, `3 values`."""
    return f"{len(items)} value{'s' if len(items) != 1 else ''}"


def validate_spec(raw: Any, where: str = "the spec") -> BuildSpec:
    """Return the BuildSpec that `raw` (what YAML or JSON gave) says.

    Raises:
        SpecError: With every problem and its path.
    """
    if not isinstance(raw, Mapping):
        raise SpecError([Problem("", f"a mapping of fields is wanted, found {type(raw).__name__}")], where)
    problems: list[Problem] = []
    try:
        spec = BuildSpec.model_validate(raw)
    except ValidationError as error:
        problems = [problem for detail in error.errors() if (problem := _field_problem(detail))]
        problems += [p for p in cross_field_problems(raw) if p.path not in {known.path for known in problems}]
        raise SpecError(problems, where) from error
    return spec


def _field_problem(detail: Any) -> Problem | None:
    location = detail["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    kind = detail["type"]
    if not location:  # the cross-field validator; validate_spec lists those itself
        return None
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return Problem(path, f"unknown key; {hint}")
    if kind == "missing":
        return Problem(path, "is required")
    if kind == "string_pattern_mismatch" and detail["ctx"]["pattern"] == METRIC_PATTERN:
        return Problem(path, f"{_shown(detail['input'])} is no metric; there are {METRICS}")
    if kind == "string_pattern_mismatch":
        return Problem(path, f"{_shown(detail['input'])} does not match {detail['ctx']['pattern']}")
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    given = _shown(detail["input"])
    return Problem(path, f"should be {message}, is {given}" if message != detail["msg"] else message)


def _shown(value: Any) -> str:
    """Return a value as Python writes it, what is long in it cut."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, SHOWN, SHOWN
    return short.repr(value)


def _fields_at(location: Sequence[str | int]) -> list[str]:
    cls: type[BaseModel] = BuildSpec
    for part in location:
        if isinstance(part, str):
            annotation = cls.model_fields[part].annotation
            inner = getattr(annotation, "__args__", (annotation,))[0]
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                cls = inner
    return sorted(cls.model_fields)
