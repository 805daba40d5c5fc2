"""Builds to show: whole manifests, made up, with the arrays that a report draws."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from hefjoin.artifacts import Ref
from hefjoin.calibration import Health
from hefjoin.forecast.count import Work
from hefjoin.forecast.demand import Demand
from hefjoin.forecast.fit import forecast_fit
from hefjoin.forecast.limits import default_limits
from hefjoin.forecast.speed import FpsForecast
from hefjoin.manifest import Gate, Machine, Manifest, StageRun
from hefjoin.report import maps
from hefjoin.results.checked import Comparison, Forecast, Frames, JoinCheck
from hefjoin.results.compiled import Attempt, ClusterUse, Compiled, Deployment, HefStream, Utilization
from hefjoin.results.measured import BatchMeasurement, Measured, Range
from hefjoin.results.networks import Equality, Joined, LayerView, Network, Tensor
from hefjoin.results.quantized import (
    Coupled,
    Coupling,
    Held,
    LayerNoise,
    Mend,
    ModelAccuracy,
    OutputAccuracy,
    Quantized,
    Repair,
    RepairRound,
)
from hefjoin.results.sources import Fetched, FrameSource, Sdk
from hefjoin.scores import Difference, ModelScores, Scored, StageScore
from hefjoin.spec import validate_spec
from hefjoin.stages.forecast import compared, foresee

MODELS = ("resnet_a", "resnet_b")


def ref(name: str, size_bytes: int = 23_648_135) -> Ref:
    return Ref(uri=f"s3://bucket/{name}", sha256=f"{sum(name.encode()):064x}", size_bytes=size_bytes, media="har")


def layers_of(model: str, kinds: Sequence[str]) -> list[LayerView]:
    counts: dict[str, int] = {}
    made: list[LayerView] = []
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
        weights = 590_080 if kind in ("conv", "dense") else 640 if kind == "dw" else 0
        made.append(
            LayerView(
                name=f"{model}/{'fc' if kind == 'dense' else kind}{counts[kind]}",
                type=kind,
                inputs=(made[-1].name if made else f"{model}/input_layer1",),
                parameters=weights,
                macs=weights * 196,
            )
        )
    return made


RESNET = ["conv", "maxpool", *["conv"] * 19, "avgpool", "dense"]
DETECTOR = [
    "conv",
    *["conv", "dw"] * 13,
    "add",
    "conv",
    "resize",
    "add",
    *["dw", "conv", "avgpool"] * 4,
    "deconv",
] * 2


def make_manifest(
    models: Sequence[str] = MODELS,
    kinds: Sequence[str] = RESNET,
    output_shape: tuple[int, ...] = (1000,),
    **changes: Any,
) -> Manifest:
    """A build of two networks by the emulator, without labels; `changes` replace whole records."""
    output = layers_of(models[0], kinds)[-1].name.partition("/")[2]
    networks = {model: _network(model, layers_of(model, kinds), output_shape, output) for model in models}
    everything = [layer for network in networks.values() for layer in network.layers]
    joined = _network(models[0], everything, output_shape, output).model_copy(
        update={"outputs": tuple(network.outputs[0] for network in networks.values()), "scopes": tuple(models)}
    )
    is_map = len(output_shape) == 3
    rng = np.random.default_rng(1)
    records: dict[str, Any] = {
        "build_id": "20251123-071400-3f9a",
        "created_at": "2025-11-23T07:14:00Z",
        "seconds": 101.3,
        "sdk": Sdk(provider="emulator", version="0.1.0+5c1e"),
        "spec": make_spec(MODELS),
        "fetched": Fetched(
            models={model: ref(f"{model}.onnx") for model in models},
            calibration=FrameSource(uri="/data/calibration", sha256="a" * 64, count=64),
            evaluation=FrameSource(uri="/data/calibration", sha256="a" * 64, count=64),
        ),
        "models": networks,
        "check": _check(),
        "forecast": Forecast(
            models={model: forecast_fit("hailo8", 23, 11_684_712) for model in models},
            joined=forecast_fit("hailo8", 46, 23_369_424),
            fps=FpsForecast(fps=812.0, low_fps=430.0, high_fps=1530.0),
        ),
        "joined": Joined(
            name="resnet_pair",
            network=joined,
            input_layer=f"{models[0]}/input_layer1",
            output_layers=tuple(f"{model}/{output}" for model in models),
            equality=tuple(
                Equality(
                    model=m,
                    layer=f"{m}/{output}",
                    frames=8,
                    max_abs_difference=0.0,
                    largest_value=9.0,
                    is_bit_equal=True,
                )
                for m in models
            ),
        ),
        "quantized": Quantized(
            har=ref("quantized.har", 117_207_040),
            script="normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])\n",
            requested_level=2,
            effective_level=0,
            output_layers=tuple(f"{model}/{output}" for model in models),
            accuracy=tuple(
                ModelAccuracy(
                    model=model,
                    frames=64,
                    outputs=(
                        OutputAccuracy(
                            layer=f"{model}/{output}",
                            snr_db=31.24 - 2 * index,
                            metric="mask IoU at 0.5" if is_map else "top-1",
                            agreement=0.984375 - 0.05 * index,
                        ),
                    ),
                )
                for index, model in enumerate(models)
            ),
            layer_noise=tuple(
                LayerNoise(
                    layer=layer.name,
                    snr_db=(snr_db := float(44 - 0.6 * (place % 23) + rng.normal(0, 1))),
                    cosine=0.9999,
                    own_snr_db=snr_db + 4,
                    own_cosine=0.99995,
                )
                for place, layer in enumerate(everything)
            ),
            outputs=ref("outputs.npz"),
            warnings=("conv3 of resnet_b has a weight range 40 times its median",),
        ),
        "compiled": Compiled(
            hef=ref("x.hef"),
            contexts=1,
            contexts_source="forecast",
            script="normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])\n"
            "context_switch_param(mode=disabled)\n",
            sdk_version="3.33.0-emulator",
            is_emulated=True,
            warnings=(),
            deployment=_deployment(joined, models),
        ),
        "measured": _measured("emulator"),
        "scored": Scored(models=()),
        "gates": (
            Gate(name="SNR of resnet_a", wanted="≥ 20 dB", found="31.2 dB", verdict="passed"),
            Gate(
                name="throughput at batch 1",
                wanted="≥ 300 FPS on a device",
                found="not measured on a device",
                verdict="not evaluated",
            ),
        ),
        "stages": _stages(models),
        "machine": Machine(host="builder-1", platform="Linux-6.1-x86_64", cpu="AMD EPYC 7R13", cores=2),
        "versions": {"hefjoin": "0.1.0", "numpy": "2.3.1", "onnx": "1.23.0", "onnxruntime": "1.32.0"},
        "code_sha256": "c" * 64,
        "parent": "20251122-101500-11aa",
    }
    return Manifest(**{**records, **changes})


def make_spec(models: Sequence[str]) -> Any:
    return validate_spec(
        {
            "name": "resnet-pair",
            "models": [{"name": model, "source": f"{model}.onnx", "mean": [1.0, 2.0, 3.0]} for model in models],
            "calibration": {"source": "calibration", "count": 64},
            "gates": {"min_snr_db": 20, "min_fps": 300},
        }
    )


def _network(model: str, layers: Sequence[LayerView], output_shape: tuple[int, ...], output: str) -> Network:
    return Network(
        har=ref(f"{model}.har"),
        scopes=(model,),
        state="hailo_model",
        hw_arch="hailo8",
        sdk_version="3.33.0-emulator",
        inputs=(Tensor(layer=f"{model}/input_layer1", original_name="input.1", shape=(224, 224, 3)),),
        outputs=(Tensor(layer=f"{model}/{output}", original_name="191", shape=output_shape),),
        layers=tuple(layers),
    )


def _deployment(joined: Network, models: Sequence[str]) -> Deployment:
    (image,) = joined.inputs
    streams = [("", image, 1.0, 0.0), *zip(models, joined.outputs, cycle((0.05, 0.1)), cycle((90.0, 128.0)))]
    made = [
        HefStream(
            name=tensor.layer,
            model=model,
            original_name=tensor.original_name,
            shape=tensor.shape,
            dtype="UINT8",
            order="NHWC" if len(tensor.shape) == 3 else "NC",
            scale=scale,
            zero_point=zero_point,
        )
        for model, tensor, scale, zero_point in streams
    ]
    return Deployment(
        hw_arch="hailo8",
        sdk_version="3.33.0-emulator",
        least_hailort="",
        group="joined_" + "_".join(models),
        input=made[0],
        outputs=tuple(made[1:]),
    )


def _check() -> JoinCheck:
    health = Health(
        requested=64,
        count=48,
        dtype="uint8",
        min=0.0,
        max=255.0,
        mean=(121.4, 113.9, 101.2),
        std=(62.1, 60.8, 64.4),
        duplicates=2,
        blanks=0,
        looks_normalised=False,
        notes=("64 frames asked for, 48 there: all of them are used", "2 of 48 frames are exact copies"),
    )
    frames = Frames(npy=ref("frames.npy"), health=health)
    return JoinCheck(
        height=224,
        width=224,
        channels=3,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        color="rgb",
        comparisons=(
            Comparison(
                what="input shape (height, width, channels)",
                values=(("resnet_a", "224 × 224 × 3"), ("resnet_b", "224 × 224 × 3")),
                verdict="agrees",
            ),
            Comparison(
                what="color",
                values=(("resnet_a", "rgb"), ("resnet_b", "bgr")),
                verdict="handled",
                notes=("frames are rgb; what wants another order reverses it in its own graph",),
            ),
        ),
        calibration=frames,
        evaluation=frames,
        evaluation_is_held_out=True,
    )


def _measured(source: Any) -> Measured:
    batches = tuple(
        BatchMeasurement(
            batch_size=size,
            rounds_fps=tuple(fps + step for step in (-3.1, -1.0, 0.2, 0.9, 2.6, 4.0)),
            fps=fps + 0.55,
            fps_low=fps - 0.7,
            fps_high=fps + 2.2,
            latency_p50_ms=1000 * size / fps,
            latency_p95_ms=1100 * size / fps,
            latency_p99_ms=1400 * size / fps,
        )
        for size, fps in ((1, 41.2), (8, 55.9))
    )
    device = "ONNX Runtime on 2 threads" if source == "emulator" else "Hailo-8 at 0000:01:00.0"
    return Measured(source=source, device=device, batches=batches, load_average=0.42)


def _stages(models: Sequence[str]) -> tuple[StageRun, ...]:
    reused = "same inputs as build 20251122-101500-11aa"
    rows = [
        *(("parse", model, 2.4, True, reused) for model in models),
        ("check", "", 0.034, True, reused),
        ("join", "", 3.1, True, reused),
        ("quantize", "", 95.0, False, "built, because the script changed"),
        ("compile", "", 1.3, False, "forced"),
    ]
    return tuple(
        StageRun(stage=stage, subject=subject, key="0" * 64, seconds=seconds, is_reused=is_reused, reason=reason)
        for stage, subject, seconds, is_reused, reason in rows
    )


def device_manifest() -> Manifest:
    """The same build by the vendor's compiler, on its second attempt, measured on a chip."""
    emulated = make_manifest()
    deployed = emulated.compiled.deployment.model_copy(update={"sdk_version": "3.33.0", "least_hailort": "4.23"})
    return make_manifest(
        sdk=Sdk(provider="dfc", version="3.33.0"),
        measured=_measured("device").model_copy(
            update={
                "method": "InferModel async, 4 frames in flight",
                "power_w": Range(low=2.41, mean=2.71, high=2.98, samples=7),
                "temperature_c": Range(low=48.2, mean=48.2, high=48.2, samples=7),
                "is_throttled": False,
                "accuracy": emulated.quantized.accuracy,
                "versions": {"HailoRT": "4.23.0", "driver": "4.23.0", "firmware": "4.23.0"},
                "notes": ("the figures are of the host's round trip through Python",),
            }
        ),
        compiled=emulated.compiled.model_copy(
            update={
                "contexts_source": "hef",
                "sdk_version": "3.33.0",
                "is_emulated": False,
                "deployment": deployed,
                "attempts": (
                    attempt_of("as declared", "did not fit"),
                    attempt_of("performance_param(fps=30)", "compiled"),
                ),
                "utilization": (utilization(),),
            }
        ),
    )


def attempt_of(label: str, outcome: Any) -> Attempt:
    return Attempt(
        script="context_switch_param(mode=disabled)",
        label=label,
        outcome=outcome,
        message="" if outcome == "compiled" else "Mapping Failed",
        need={"LCUs": 149, "APUs": 100},
        have={"LCUs": 96, "APUs": 120},
        seconds=1912.0,
        log=ref("compile.log"),
    )


def utilization() -> Utilization:
    clusters = {f"cluster_{index}": ClusterUse(control=0.688, compute=0.406, memory=0.156) for index in range(8)}
    return Utilization(
        context="resnet_pair_context_0", clusters=clusters, total=ClusterUse(control=0.75, compute=0.629, memory=0.478)
    )


def failed_manifest() -> Manifest:
    """A build whose second model is too noisy."""
    return make_manifest(
        gates=(
            Gate(name="SNR of resnet_a", wanted="≥ 30 dB", found="31.2 dB", verdict="passed"),
            Gate(name="SNR of resnet_b", wanted="≥ 30 dB", found="29.2 dB", verdict="failed", missed="0.8 dB below 30"),
        )
    )


def labelled_manifest() -> Manifest:
    """A build whose evaluation set has labels: classes of the first model, numbers of the second."""
    first, second = MODELS
    hits = ModelScores(
        model=first, layer=f"{first}/fc1", metric="top-1", kind="hits", frames=1000, not_available={},
        stages=(
            StageScore(stage="native", value=0.969, differences=()),
            StageScore(stage="fp-optimized", value=0.969, differences=(difference("native", 0.0, 0.004, 1.0, 0, 0),)),
            StageScore(
                stage="quantized",
                value=0.966,
                differences=tuple(
                    difference(to, -0.003, 0.007, 0.5488, 4, 7) for to in ("native", "fp-optimized")
                ),
            ),
            StageScore(
                stage="device",
                value=0.951,
                differences=tuple(
                    difference(to, -0.018, 0.009, 0.00012, 2, 20) for to in ("native", "fp-optimized", "quantized")
                ),
            ),
        ),
    )  # fmt: skip
    errors = ModelScores(
        model=second, layer=f"{second}/fc1", metric="mae", kind="error", frames=1000,
        not_available={"native": "`input_conversion` in script changes the network after parsing",
                       "device": "not measured"},
        stages=(
            StageScore(stage="fp-optimized", value=2.0, differences=()),
            StageScore(
                stage="quantized",
                value=1.998,
                differences=(difference("fp-optimized", -0.002, 0.0012, 0.0021, 610, 390, verdict="better"),),
            ),
        ),
    )  # fmt: skip
    native = OutputAccuracy(layer=f"{first}/fc1", snr_db=118.0, metric="top-1", agreement=1.0)
    quantized = make_manifest().quantized.model_copy(
        update={"native": (native,), "not_native": {second: errors.not_available["native"]}}
    )
    return make_manifest(scored=Scored(models=(hits, errors)), quantized=quantized)


def difference(
    to: Any, value: float, half: float, p_value: float, better: int, worse: int, verdict: Any = None
) -> Difference:
    """A difference with the interval value ± half; of more is better unless a verdict is given."""
    found = "within noise" if p_value > 0.05 else "worse" if value < 0 else "better"
    return Difference(
        to=to,
        value=value,
        low=value - half,
        high=value + half,
        p_value=p_value,
        verdict=verdict or found,
        frames_better=better,
        frames_worse=worse,
    )


def repaired_manifest() -> Manifest:
    """A build that raised two layers in vain, of models that compression couples."""
    plain = make_manifest()
    before, after = forecast_fit("hailo8", 46, 23_369_424), forecast_fit("hailo8", 46, 24_549_584)
    outputs = plain.quantized.output_layers
    raised = {"resnet_b/fc1": "a16_w16", "resnet_b/conv7": "a16_w16"}
    return make_manifest(
        quantized=plain.quantized.model_copy(update={"raised": raised}),
        mends=(
            _mend("resnet_a/conv4", 0.31, "quantization_param(resnet_a/conv4, precision_mode=a16_w16)", ""),
            _mend("resnet_a/avgpool1", 0.12, "", "no avgpool layer is known to take a16_w16"),
        ),
        repair=Repair(
            floor_db=30.0,
            budget=2,
            mode="a16_w16",
            snr_db=dict(zip(outputs, (31.24, 27.5), strict=True)),
            fit=before,
            rounds=(
                RepairRound(
                    raised=tuple(raised),
                    expected_db={outputs[1]: 30.6},
                    snr_db=dict(zip(outputs, (31.24, 29.24), strict=True)),
                    fit=after,
                ),
            ),
            held=(Held(layer="resnet_b/avgpool1", share=0.2, reason="no avgpool layer is known to take a16_w16"),),
            ending="the 2 layers of quantization.repair_layers are used up",
        ),
        coupled=Coupled(
            couplings=(
                Coupling(text="`compression_level=1` in script chooses over <all> weights", changes_numbers=True),
                Coupling(text="All models learn from the same 48 frames", changes_numbers=False),
            ),
            alone_db=dict(zip(outputs, (30.04, 29.24), strict=True)),
            alone_bits_equal=dict(zip(outputs, (False, True), strict=True)),
        ),
    )


def _mend(layer: str, share: float, line: str, reason: str) -> Mend:
    return Mend(output="resnet_a/fc1", layer=layer, share=share, line=line, reason=reason)


def maps_manifest() -> Manifest:
    """Two text detectors of a hundred layers."""
    return make_manifest(kinds=DETECTOR, output_shape=(64, 64, 1))


def write_arrays(manifest: Manifest, folder: Path, frames: int = 12) -> tuple[Path, Path]:
    """Write outputs and frames as a build would."""
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for index, tensor in enumerate(manifest.joined.network.outputs):
        if maps.is_map(tensor.shape):
            exact = np.zeros((frames, *tensor.shape), np.float32)
            for frame in range(2, frames):
                exact[frame, 10 + frame : 18 + frame, 8 : 40 + frame] = 0.95
        else:
            exact = rng.normal(0, 3, (frames, *tensor.shape)).astype(np.float32)
        arrays[f"float_{index}"] = exact
        arrays[f"quantized_{index}"] = exact + rng.normal(0, 0.08, exact.shape).astype(np.float32)
    np.savez(folder / "outputs.npz", allow_pickle=False, **arrays)
    ramp = np.linspace(0, 255, 224 * 224 * 3).reshape(1, 224, 224, 3)
    np.save(folder / "frames.npy", np.repeat(ramp, frames, axis=0).astype(np.uint8))
    return folder / "outputs.npz", folder / "frames.npy"


def foretold_manifest() -> Manifest:
    """A build that was foretold not to fit, and did in a compiler that says what it takes."""
    works = tuple(Work(f"a/conv{index}", "conv", 90_000, 60_000_000, 1, 1000, 1000) for index in range(124))
    demand = Demand(works, 224 * 224, 150_528, 1000)
    use = Utilization(context="", clusters={}, total=ClusterUse(control=0.9, compute=0.5, memory=0.3))
    compiled = make_manifest().compiled.model_copy(
        update={"contexts": 1, "contexts_source": "hef", "utilization": (use,)}
    )
    forecast = foresee({"resnet_a": demand}, "hailo8", default_limits())
    return make_manifest(forecast=forecast, compiled=compiled, compared=compared(forecast, compiled))
