"""Check without a build: what would be found wrong with a spec, in a few seconds and all at once.

The rules:

1. A file's own header is believed where it leaves nothing to settle (`Head.unsettled`); every other model is parsed by
   the build's own stage, so what is said of it is what the build would say.
2. The rows are those of the stage `check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hefjoin.calibration import Health, health_of, set_sha256
from hefjoin.errors import (
    CalibrationError,
    HefJoinError,
    Problem,
    SpecError,
    StoreError,
    ToolchainError,
    UnsupportedOpError,
)
from hefjoin.formats.onnx_head import Head, read_head, weighted_behind
from hefjoin.formats.preprocessing import split
from hefjoin.joining.compare import compare
from hefjoin.joining.frames import frames_row, image_sizes, refused_row, twice_served
from hefjoin.joining.intake import Intake, of_network, spec_problems
from hefjoin.labels import write_labels
from hefjoin.results.checked import Comparison
from hefjoin.results.networks import Network
from hefjoin.results.sources import FrameSource
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec import BuildSpec, ModelSpec
from hefjoin.stages.check import Branch, judges, metric_problems
from hefjoin.stages.contract import Workplace, perform
from hefjoin.stages.fetch import WEIGHTS, Reached, reach
from hefjoin.stages.parse import Parse
from hefjoin.stages.sets import CALIBRATION, EVALUATION, open_evaluation, open_set
from hefjoin.stores import open_store

AT_ONCE = 4


@dataclass(frozen=True)
class Examined:
    """What was found of a spec."""

    rows: tuple[Comparison, ...]
    intakes: tuple[Intake, ...]
    sets: dict[str, Health] = field(default_factory=dict)
    """Of `calibration` and `evaluation`, where they could be read."""

    @property
    def passes(self) -> bool:
        """Whether a build would not fail on any of it."""
        return all(row.verdict != "fails" for row in self.rows)


def examine(spec: BuildSpec, toolchain: Toolchain, cache: Path) -> Examined:
    """Compare the models of a spec, and look at its frames.

    Args:
        spec: What would be built.
        toolchain: Who would parse the models.
        cache: The folder of the cache of what comes from S3.

    Raises:
        StoreError: S3 cannot be reached.
        ToolchainError: The SDK crashed or ran out of time.
    """
    reached = reach(spec, cache)
    try:
        with TemporaryDirectory(prefix="hefjoin-check-") as folder:
            return _Examination(spec, toolchain, reached, Path(folder)).examined()
    finally:
        reached.afar.release()


class _Examination:
    def __init__(self, spec: BuildSpec, toolchain: Toolchain, reached: Reached, folder: Path) -> None:
        self.spec, self.toolchain, self.reached, self.folder = spec, toolchain, reached, folder
        self.sets: dict[str, Health] = {}
        self.has_har = any(model.source.lower().endswith(".har") for model in spec.models)
        self.sdk_version = toolchain.sdk.version.partition("+")[0]
        """Of what is parsed here; where there is a HAR to compare with, only a parse tells how a HAR would say it."""
        self.place = Workplace(open_store(str(folder / "store")), folder / "work", toolchain)

    def examined(self) -> Examined:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(self._of_model, range(len(self.spec.models))))
        intakes = [intake for intake, _ in found]
        networks = {intake.name: network for intake, network in found if network is not None}
        rows = [*compare(intakes), *self._script_row(networks), *self._metric_row(networks)]
        rows += self._set_rows(intakes, networks)
        return Examined(tuple(rows), tuple(intakes), self.sets)

    def _of_model(self, index: int) -> tuple[Intake, Network | None]:
        model, where = self.spec.models[index], f"models[{index}].source"
        is_har = model.source.lower().endswith(".har")
        nothing = replace(_said(model), is_har=is_har)
        if wrong := [problem for problem in self.reached.problems if problem.path == where]:
            return _refused(nothing, "\n".join(f"{path}: {text}" for path, text in wrong)), None
        head = None
        try:
            if not is_har:
                head = read_head(self.reached.paths[where])
                if not self._unsettled(model, head):
                    return self._by_head(model, head), None
            network = perform(self._parse(model, where), self.place).value
        except (ToolchainError, StoreError):
            raise
        except HefJoinError as error:
            refused = _refused(nothing, error, head)
            lost = weighted_behind(self.reached.paths[where], refused.end_nodes) if refused.end_nodes else 0
            return replace(refused, lost=lost), None
        intake = of_network(model.name, network, model.mean, model.std, model.color)
        return intake if self.has_har else replace(intake, sdk_version=self.sdk_version), network

    def _unsettled(self, model: ModelSpec, head: Head) -> bool:
        """Return whether only a parse can tell what a model comes to, or its layers are asked for."""
        spec = self.spec
        sets = (spec.evaluation.source or spec.calibration.source).lower()
        is_cut = model.start_nodes or model.end_nodes or (model.input_shape and [*model.input_shape] != [*head.shape])
        has_scripts = spec.script or spec.compile.attempts or any(each.script for each in spec.models)
        has_labels = sets.endswith(".npz") or any(each.metric for each in spec.models)
        return bool(head.unsettled or is_cut or has_scripts or has_labels or self.has_har)

    def _by_head(self, model: ModelSpec, head: Head) -> Intake:
        return replace(
            _said(model),
            head=head,
            shape=head.image,
            hw_arch=self.spec.hw_arch,
            sdk_version=self.sdk_version,
            scopes=(model.name,),
            outputs=head.outputs,
        )

    def _parse(self, model: ModelSpec, where: str) -> Parse:
        path = self.reached.paths[where]
        source = self.place.put(path, path.suffix.lower().lstrip("."))
        weights = {file: self.place.put(path.parent / file, WEIGHTS) for file in self.reached.weights.get(where, ())}
        return Parse.of(self.spec, model, source, self.toolchain.sdk, weights)

    def _script_row(self, networks: Mapping[str, Network]) -> Iterator[Comparison]:
        """Yield the row of the model scripts, where there are any."""
        spec = self.spec
        if not (spec.script or spec.compile.attempts or any(model.script for model in spec.models)):
            return
        from hefjoin.stages.preflight import script_problems
        from hefjoin.stages.script_check import require_sound

        problems: Sequence[Problem] = script_problems(spec)
        try:
            if len(networks) == len(spec.models):
                require_sound(spec, networks, self.toolchain.sdk.provider)
        except SpecError as error:
            problems = error.problems
        yield _checked("model scripts", problems)

    def _metric_row(self, networks: Mapping[str, Network]) -> Iterator[Comparison]:
        """Yield the row of the metrics, where any is named."""
        if any(model.metric for model in self.spec.models) and len(networks) == len(self.spec.models):
            branches = enumerate(_branches(self.spec, networks))
            yield _checked("metrics", [problem for each in branches for problem in metric_problems(*each)])

    def _set_rows(self, intakes: Sequence[Intake], networks: Mapping[str, Network]) -> Iterator[Comparison]:
        """Yield the rows of the frame sets; arrays are looked at only where there is one shape to expect of them."""
        shapes = {intake.shape for intake in intakes if intake.shape and len(intake.shape) == 3}
        paths = self.reached.paths
        for what, where in ((CALIBRATION, "calibration.source"), (EVALUATION, "evaluation.source")):
            if wrong := [problem for problem in self.reached.problems if problem.path.startswith(where)]:
                yield refused_row(what, "\n".join(f"{path}: {text}" for path, text in wrong))
        if "calibration.source" not in paths:
            return
        if len(shapes) != 1 and not (shapes and paths["calibration.source"].is_dir()):
            unseen = "not looked at: the models leave open which shape its frames must have"
            yield Comparison(what=CALIBRATION, values=((CALIBRATION, "–"),), verdict="look", notes=(unseen,))
            return
        shape = next(intake.shape for intake in intakes if intake.shape in shapes)
        assert shape is not None
        yield from self._rows_of_shape(shape, intakes, networks)

    def _rows_of_shape(
        self, shape: tuple[int, ...], intakes: Sequence[Intake], networks: Mapping[str, Network]
    ) -> Iterator[Comparison]:
        color = split(intakes).color
        paths, evaluation_path = self.reached.paths, self.reached.paths.get("evaluation.source")
        source = _source(paths["calibration.source"], self.spec.calibration.count, evaluation_path is not None)
        taken = source.count
        try:
            calibration = open_set(source, shape, color, CALIBRATION)
            taken = calibration.count
            sizes = image_sizes(Path(source.uri), 0, calibration.count)
            self.sets["calibration"] = health_of(calibration)
            yield frames_row(CALIBRATION, self.sets["calibration"], sizes, shape, intakes)
        except CalibrationError as error:
            yield refused_row(CALIBRATION, error.message)
            if evaluation_path is None:
                return
        if self.spec.evaluation.source and evaluation_path is None:
            return  # it is not there, which was said
        count = self.spec.evaluation.count
        other = _source(evaluation_path, count, True) if evaluation_path else source.model_copy(update={"count": count})
        try:
            yield self._evaluation_row(other, source, taken, shape, intakes, networks)
        except CalibrationError as error:
            yield refused_row(EVALUATION, error.message)

    def _evaluation_row(
        self,
        source: FrameSource,
        calibration: FrameSource,
        taken: int,
        shape: tuple[int, ...],
        intakes: Sequence[Intake],
        networks: Mapping[str, Network],
    ) -> Comparison:
        frames, is_held_out = open_evaluation(source, calibration, taken, shape, split(intakes).color)
        sizes = image_sizes(Path(source.uri), frames.skipped, frames.count)
        self.sets["evaluation"] = health_of(frames)
        row = frames_row(EVALUATION, self.sets["evaluation"], sizes, shape, intakes)
        if len(networks) == len(intakes) and not spec_problems(intakes):
            write_labels(frames, judges(_branches(self.spec, networks)), self.folder / "labels.npz")
        return row if is_held_out else twice_served(row)


def _said(model: ModelSpec) -> Intake:
    """Return what the spec says of a model."""
    return Intake(name=model.name, mean=tuple(model.mean), std=tuple(model.std), color=model.color)


def _branches(spec: BuildSpec, networks: Mapping[str, Network]) -> Sequence[Branch]:
    return [Branch.of(model, networks[model.name]) for model in spec.models]


def _source(path: Path, count: int, has_other: bool) -> FrameSource:
    """Return a set; its digest is needed only to tell it from another one."""
    return FrameSource(uri=str(path), sha256=set_sha256(path) if has_other else "", count=count)


def _refused(intake: Intake, error: HefJoinError | str, head: Head | None = None) -> Intake:
    unsupported = error if isinstance(error, UnsupportedOpError) else None
    return replace(
        intake,
        head=head,
        shape=head.image if head else None,
        outputs=head.outputs if head else (),
        refusal=error if isinstance(error, str) else error.message,
        unsupported=tuple((operator, node) for operator, node in unsupported.operators) if unsupported else (),
        end_nodes=tuple(unsupported.nearest_supported) if unsupported else (),
    )


def _checked(what: str, problems: Sequence[Problem]) -> Comparison:
    """Return the row of what the spec says and either is right or is not."""
    remedy = "\n".join(f"{path}: {text}" for path, text in problems)
    value = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}" if problems else "sound"
    return Comparison(what=what, values=((what, value),), verdict="fails" if problems else "agrees", remedy=remedy)
