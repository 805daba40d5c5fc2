"""The largest build that a spec allows, made up, and what a large calibration set covers."""

from __future__ import annotations

from collections.abc import Sequence

from hefjoin.forecast.fit import forecast_fit
from hefjoin.manifest import Manifest
from hefjoin.results.covered import (
    Clipped,
    Copied,
    Covered,
    Curve,
    ModelCovered,
    NeededFrame,
    Odd,
    Stretch,
    Subset,
)
from hefjoin.results.measured import Earlier
from hefjoin.results.quantized import Coupled, Coupling, Mend, ModelAccuracy, Repair, RepairRound
from tests.builds import DETECTOR, attempt_of, foretold_manifest, make_manifest, make_spec, utilization


def large_manifest() -> Manifest:
    """Eight networks of 352 layers with eight outputs each, and all that a report can show of them."""
    models = tuple(f"network_{letter}_with_a_long_name" for letter in "abcdefgh")
    plain = make_manifest(models=models, kinds=DETECTOR * 4, output_shape=(160, 160, 1), spec=make_spec(models))
    outputs = {model: [f"{model}/conv{number}" for number in range(41, 49)] for model in models}
    every = tuple(name for names in outputs.values() for name in names)
    tensor, equality = plain.joined.network.outputs[0], plain.joined.equality[0]
    accuracy = plain.quantized.accuracy[0].outputs[0]
    fit = forecast_fit("hailo8", 3200, 90_000_000)
    rounds = tuple(
        RepairRound(
            raised=tuple(f"{model}/conv{number}" for model in models),
            expected_db=dict.fromkeys(every, 30.6),
            snr_db=dict.fromkeys(every, 29.2),
            fit=fit,
        )
        for number in range(8)
    )
    attempts = tuple(attempt_of(f"performance_param(fps={fps})", "did not fit") for fps in range(8))
    return plain.model_copy(
        update={
            "joined": plain.joined.model_copy(
                update={
                    "network": plain.joined.network.model_copy(
                        update={"outputs": tuple(tensor.model_copy(update={"layer": name}) for name in every)}
                    ),
                    "output_layers": every,
                    "equality": tuple(
                        equality.model_copy(update={"model": name.partition("/")[0], "layer": name}) for name in every
                    ),
                }
            ),
            "quantized": plain.quantized.model_copy(
                update={
                    "output_layers": every,
                    "accuracy": tuple(
                        ModelAccuracy(
                            model=model,
                            frames=64,
                            outputs=tuple(accuracy.model_copy(update={"layer": name}) for name in names),
                        )
                        for model, names in outputs.items()
                    ),
                }
            ),
            "mends": tuple(
                Mend(
                    output=names[0],
                    layer=f"{model}/conv{place}",
                    share=0.1,
                    line=f"quantization_param({model})",
                    reason="",
                )
                for model, names in outputs.items()
                for place in range(1, 6)
            ),
            "repair": Repair(
                floor_db=30.0,
                budget=64,
                mode="a16_w16",
                snr_db=dict.fromkeys(every, 27.5),
                fit=fit,
                rounds=rounds,
                held=(),
                ending="the 64 layers of quantization.repair_layers are used up",
            ),
            "coupled": Coupled(
                couplings=(Coupling(text="All models learn from the same 48 frames", changes_numbers=False),),
                alone_db=dict.fromkeys(every, 29.2),
                alone_bits_equal=dict.fromkeys(every, True),
            ),
            "forecast": foretold_manifest().forecast.model_copy(update={"models": dict.fromkeys(models, fit)}),
            "compiled": plain.compiled.model_copy(update={"attempts": attempts, "utilization": (utilization(),) * 8}),
            "covered": covered(models, 1024),
            "earlier": tuple(
                Earlier(build_id=f"build-{day}", created_at=f"2025-11-{day:02d}T07:14:00Z", fps=40.0 + day % 3)
                for day in range(1, 21)
            ),
        }
    )


def covered(models: Sequence[str], frames: int) -> Covered:
    """What a calibration set covers, made up."""
    points = tuple(range(1, 1 + min(200, frames)))
    coverage = tuple(round(1 - 0.4 / point, 6) for point in points)
    needs = {model: 0.002 - 0.0001 * place for place, model in enumerate(models)}
    return Covered(
        frames=frames,
        names={frame: f"a/folder/with/a/name/{frame:04d}.jpeg" for frame in range(60)},
        judged_on="evaluation frames",
        judged=64,
        models=tuple(
            ModelCovered(
                model=model,
                layers=400,
                channels=51_200,
                dead=64,
                clipped_share=0.00042,
                clipped_channels=1200,
                worst=tuple(
                    Clipped(
                        layer=f"{model}/conv{place}",
                        channel=place,
                        share=0.1,
                        low=-1.0,
                        high=1.0,
                        judged_low=-1.5,
                        judged_high=2.0,
                        is_beyond_layer=place == 0,
                    )
                    for place in range(8)
                ),
                frames_alone=100,
            )
            for model in models
        ),
        need=0.001,
        needed=tuple(
            NeededFrame(
                frame=frame,
                needs=needs,
                only=(*models, "")[frame % (len(models) + 1)],
                stretches=tuple(
                    Stretch(model=model, layer=f"{model}/conv{place}", channel=7, share=0.3)
                    for model in models
                    for place in range(3)
                ),
            )
            for frame in range(min(frames, 90))
        ),
        curves=tuple(
            Curve(title=f"{model or 'all'}, chosen", model=model, count=len(points), frames=points, coverage=coverage)
            for model in (*models, "", "")
        ),
        subset=Subset(loss=0.01, frames=tuple(range(frames // 2)), coverage=dict.fromkeys(models, 0.99)),
        copies=tuple(
            Copied(frame=frame, of=0, kind="exact" if frame % 2 else "near", distance=float(frame % 2 == 0))
            for frame in range(1, min(frames, 40))
        ),
        odd=tuple(Odd(frame=frame, why=("blank: 9 everywhere",)) for frame in range(min(frames, 40))),
    )
