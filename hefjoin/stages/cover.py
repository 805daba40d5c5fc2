"""Cover: what one calibration set is worth to every model that it serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import ValidationError

from hefjoin.artifacts import Ref
from hefjoin.calibration import open_frames
from hefjoin.calibration_sources import image_size
from hefjoin.coverage.choose import choose
from hefjoin.coverage.clip import Clipping, Ranges
from hefjoin.coverage.cover import Cover, reached
from hefjoin.coverage.looks import copies, look, oddities
from hefjoin.coverage.probe import MOVES_ONLY, Probe
from hefjoin.errors import InputError
from hefjoin.manifest import StageRun
from hefjoin.results.checked import Frames, JoinCheck
from hefjoin.results.covered import Clipped, Copied, Covered, Curve, ModelCovered, NeededFrame, Odd, Stretch, Subset
from hefjoin.results.networks import Network
from hefjoin.results.sources import Fetched, FrameSource, Sdk
from hefjoin.sdk.log import Progress
from hefjoin.spec import BuildSpec
from hefjoin.stages.contract import Outcome, Stage, Workplace, earlier_run, perform
from hefjoin.stages.parse import Parse

LOSS = 0.01
"""Of its coverage, what a model may lose by a smaller set, unless another share is asked for."""
NEED = 0.001
"""Of a model's coverage; the loss from which on it needs a frame."""
CURVE_POINTS = 200
WORST_CHANNELS = 8
STRETCHES = 3


class CoverStage(Stage[Covered]):
    """Run the float networks on the calibration frames and see what each frame gives to the channels' ranges.

    Requires: models as ONNX files, frames that passed `check`. Ensures: figures for every model; a subset of the
    frames by which each keeps all of its coverage but `loss`.
    """

    stage: ClassVar[str] = "cover"
    version: ClassVar[int] = 1
    result: ClassVar[type[Covered]] = Covered

    parses: tuple[Parse, ...]
    """How the emulator parses each model: only its HARs hold graphs that can be run."""
    calibration: Frames
    evaluation: Ref | None
    """None where no frames are held out."""
    source: FrameSource
    color: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the normalization that all models share; what differs is in their graphs."""
    loss: float = LOSS

    @classmethod
    def of(cls, spec: BuildSpec, fetched: Fetched, checked: JoinCheck, emulator: Sdk, loss: float = LOSS) -> Self:
        """Return the stage for a build, whichever compiler makes that."""
        return cls(
            parses=tuple(
                Parse.of(spec, model, fetched.models[model.name], emulator, fetched.weights.get(model.name))
                for model in spec.models
            ),
            calibration=checked.calibration,
            evaluation=checked.evaluation.npy if checked.evaluation_is_held_out else None,
            source=fetched.calibration,
            color=checked.color,
            mean=checked.mean,
            std=checked.std,
            loss=loss,
        )

    def requires(self) -> None:
        """Refuse a loss that is none."""
        if not 0 <= self.loss < 1:
            raise InputError(f"a loss of {100 * self.loss:g} % of the coverage: give one from 0 to below 100 %")

    def run(self, work: Path, place: Workplace) -> Covered:
        """Run every frame through every model, twice: for what it reaches, and for what lies outside the ranges."""
        frames = np.load(place.store.get(self.calibration.npy, work / "calibration.npy"), mmap_mode="r")
        judged = frames
        if self.evaluation is not None:
            judged = np.load(place.store.get(self.evaluation, work / "evaluation.npy"), mmap_mode="r")
        probes = {parse.name: self._probe(parse, work, place) for parse in self.parses}
        reaches = self._reaches(probes, frames, work / "reaches.npy", place)
        cover = Cover(reaches, {model: probe.channels for model, probe in probes.items()})
        clippings = self._clippings(probes, cover, judged, place)
        looks = [look(frame) for frame in frames]
        names, upscaled = self._images(frames.shape[1:])
        order = choose(cover, self.loss)
        alone = {model: choose(cover, self.loss, [model]) for model in cover.models}
        found = Covered(
            frames=len(frames),
            names={},
            judged_on="left-out frames" if self.evaluation is None else "evaluation frames",
            judged=len(judged),
            models=tuple(
                _of_model(_Part(model, probe, cover), clippings[model], len(alone[model]))
                for model, probe in probes.items()
            ),
            need=NEED,
            needed=tuple(_needed(cover, probes)),
            curves=tuple(_curves(cover, order, alone)),
            subset=Subset(
                loss=self.loss,
                frames=tuple(order),
                coverage=dict(zip(cover.models, cover.of_frames(order).tolist(), strict=True)),
            ),
            copies=tuple(Copied(**copy._asdict()) for copy in copies(looks)),
            odd=tuple(
                Odd(frame=index, why=why)
                for index, each in enumerate(looks)
                if (why := tuple(oddities(each, upscaled=upscaled[index] if upscaled else 1)))
            ),
        )
        return found.model_copy(update={"names": {frame: names[frame] for frame in _named(found)} if names else {}})

    def ensures(self, result: Covered) -> None:
        """Check that every model was looked at, and that the subset is enough."""
        lost = [model for model, kept in result.subset.coverage.items() if kept < 1 - self.loss - 1e-6]
        assert not lost
        assert [each.model for each in result.models] == [parse.name for parse in self.parses]

    def _probe(self, parse: Parse, work: Path, place: Workplace) -> Probe:
        network = perform(parse, place).value
        har = place.store.get(network.har, work / f"{parse.name}.har")
        return Probe(har, _with_ranges(network))

    def _normalized(self, frames: Any) -> Iterator[Any]:
        mean, std = (np.array(values, np.float32) for values in (self.mean or (0.0,), self.std or (1.0,)))
        return ((frame.astype(np.float32) - mean) / std for frame in frames)

    def _reaches(self, probes: Mapping[str, Probe], frames: Any, path: Path, place: Workplace) -> Any:
        """Return what each frame reaches, float32, (frames, 2, channels of all models), in a file that is mapped."""
        width = sum(probe.channels for probe in probes.values())
        found = np.lib.format.open_memmap(path, "w+", np.float32, (len(frames), 2, width))
        for index, frame in enumerate(self._normalized(frames)):
            ends = [reached(*probe.extremes(frame)) for probe in probes.values()]
            found[index] = np.concatenate(ends, axis=1)
            if not np.isfinite(found[index]).all():
                raise InputError(
                    f"frame {index} of the calibration set gives values that are not finite in "
                    f"{_first_odd(found[index], probes)}; look for a division by zero and for a normalization that is "
                    "missing"
                )
            _tell(place, "reach of the frames", index, len(frames))
        return found

    def _clippings(
        self, probes: Mapping[str, Probe], cover: Cover, judged: Any, place: Workplace
    ) -> dict[str, Clipping]:
        ranges = Ranges(cover.reaches)
        found = {model: Clipping(probe) for model, probe in probes.items()}
        whole = ranges.of_all()
        for index, frame in enumerate(self._normalized(judged)):
            reach = whole if self.evaluation is not None else ranges.without(index)
            for model, part in cover.parts.items():
                found[model].judge(frame, reach[:, part])
            _tell(place, "clipping", index, len(judged))
        return found

    def _images(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], list[float]]:
        """Return the name of each frame's file, and by what factor its image was enlarged; nothing of an array."""
        height, width, channels = shape
        source = Path(self.source.uri)
        names = open_frames(
            source, height=height, width=width, channels=channels, color=self.color, count=self.source.count
        ).names
        sizes = [image_size(source / name) for name in names]
        return names, [max(width / across, height / down, 1.0) for across, down in sizes]


def _tell(place: Workplace, what: str, index: int, total: int) -> None:
    if place.on_progress:
        place.on_progress(Progress(what, index + 1, total))


def _with_ranges(network: Network) -> list[str]:
    return [layer.name for layer in network.layers if layer.type not in MOVES_ONLY]


def _first_odd(reach: Any, probes: Mapping[str, Probe]) -> str:
    layers = [layer for probe in probes.values() for layer in probe.layers]
    stops = np.cumsum([layer.channels for layer in layers])
    first = int(np.flatnonzero(~np.isfinite(reach).all(axis=0))[0])
    return layers[int(np.searchsorted(stops, first, side="right"))].name


class _Part(NamedTuple):
    """One model within the cover."""

    model: str
    probe: Probe
    cover: Cover

    def place(self, channel: int) -> tuple[str, int]:
        """Return (layer, channel of it) of a channel of the model."""
        for layer in self.probe.layers:
            if channel < layer.channels:
                return layer.name, channel
            channel -= layer.channels
        raise IndexError(channel)


def _of_model(part: _Part, clipping: Clipping, frames_alone: int) -> ModelCovered:
    places = part.cover.parts[part.model]
    shares, ends = clipping.share(), part.cover.ends.best[:, places]
    worst = [channel for channel in np.argsort(-shares, kind="stable")[:WORST_CHANNELS] if shares[channel] > 0]
    return ModelCovered(
        model=part.model,
        layers=len(part.probe.layers),
        channels=part.probe.channels,
        dead=int((~part.cover.is_alive[places]).sum()),
        clipped_share=float(shares.mean()),
        clipped_channels=int((shares > 0).sum()),
        worst=tuple(
            Clipped(
                layer=part.place(channel)[0],
                channel=part.place(channel)[1],
                share=float(shares[channel]),
                low=-float(ends[0, channel]),
                high=float(ends[1, channel]),
                judged_low=float(clipping.low[channel]),
                judged_high=float(clipping.high[channel]),
                is_beyond_layer=bool(clipping.is_beyond_layer[channel]),
            )
            for channel in map(int, worst)
        ),
        frames_alone=frames_alone,
    )


def _needed(cover: Cover, probes: Mapping[str, Probe]) -> Iterator[NeededFrame]:
    """Yield the frames that a model needs, the most needed first."""
    needs = cover.needs()
    for frame in map(int, np.argsort(-needs.max(axis=1), kind="stable")):
        by = [model for model, need in zip(cover.models, needs[frame], strict=True) if need >= NEED]
        if not by:
            return
        parts = [_Part(model, probes[model], cover) for model in by]
        yield NeededFrame(
            frame=frame,
            needs=dict(zip(cover.models, needs[frame].tolist(), strict=True)),
            only=by[0] if len(by) == 1 else "",
            stretches=tuple(stretch for part in parts for stretch in _stretches(part, frame)),
        )


def _stretches(part: _Part, frame: int) -> Iterator[Stretch]:
    shares = part.cover.stretched(frame, part.model)
    for channel in map(int, np.argsort(-shares, kind="stable")[:STRETCHES]):
        layer, place = part.place(channel)
        if shares[channel] > 0:
            yield Stretch(model=part.model, layer=layer, channel=place, share=float(shares[channel]))


def _named(found: Covered) -> list[int]:
    """Return the frames of which something is said."""
    copied = [frame for each in found.copies for frame in (each.frame, each.of)]
    needed, odd = [each.frame for each in found.needed], [each.frame for each in found.odd]
    return sorted({*found.subset.frames, *copied, *needed, *odd})


def _curves(cover: Cover, order: Sequence[int], alone: Mapping[str, Sequence[int]]) -> Iterator[Curve]:
    for model, frames in alone.items():
        yield _curve(f"{model}, chosen for it alone", model, cover.along(frames)[:, cover.models.index(model)])
    yield _curve("chosen for all", "", cover.along(order).min(axis=1))
    yield _curve("taken as they come", "", cover.along(range(len(cover.reaches))).min(axis=1))


def _curve(title: str, model: str, along: Any) -> Curve:
    """Return a curve of at most `CURVE_POINTS`, the first and the last among them."""
    places = np.unique(np.linspace(0, len(along) - 1, min(len(along), CURVE_POINTS)).round().astype(int))
    return Curve(
        title=title,
        model=model,
        count=len(along),
        frames=tuple((places + 1).tolist()),
        coverage=tuple(along[places].round(6).tolist()),
    )


def known(stage: CoverStage, place: Workplace) -> Outcome[Covered] | None:
    """Return what `hefjoin calibration` has left in the store, if it was run on these sources; nothing is computed.

    Raises:
        StoreError: The store cannot be read.
    """
    finished, _ = earlier_run(stage.stage, stage.key, place)
    if finished is None:
        return None
    try:
        covered = Covered.model_validate(finished.result)
    except ValidationError:
        return None
    reason = f"measured by hefjoin calibration on {finished.built_at}"
    run = StageRun(
        stage=stage.stage, subject="", key=stage.key, seconds=finished.seconds, is_reused=True, reason=reason
    )
    return Outcome(value=covered, run=run)
