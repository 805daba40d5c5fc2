"""The report: says everything with its source, needs nothing from elsewhere, and cannot be talked into markup."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hefjoin import report
from hefjoin.artifacts import Ref
from hefjoin.calibration import Health
from hefjoin.forecast.fit import forecast_fit
from hefjoin.manifest import (
    BatchMeasurement,
    Compiled,
    Equality,
    Fetched,
    Forecast,
    FpsForecast,
    Frames,
    FrameSource,
    Gate,
    JoinCheck,
    Joined,
    LayerNoise,
    LayerView,
    Machine,
    Manifest,
    Measured,
    ModelAccuracy,
    Network,
    OutputAccuracy,
    Quantized,
    Sdk,
    StageRun,
    Tensor,
)
from hefjoin.report import graph, maps, words
from hefjoin.spec import validate_spec

MODELS = ("resnet_a", "resnet_b")
VOID = {"meta", "img", "br", "link", "hr", "input"}
MEBIBYTE = 1 << 20


# A build to show


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
                name=f"{model}/{kind}{counts[kind]}",
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
    output = f"{kinds[-1]}{list(kinds).count(kinds[-1])}"
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
            model_of_output={f"{model}/{output}": model for model in models},
            equality=tuple(
                Equality(model=m, layer=f"{m}/{output}", frames=8, max_abs_difference=0.0, is_bit_equal=True)
                for m in models
            ),
        ),
        "quantized": Quantized(
            har=ref("quantized.har", 117_207_040),
            script="normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])\n",
            requested_level=2,
            effective_level=0,
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
                LayerNoise(layer=layer.name, snr_db=float(44 - 0.6 * (place % 23) + rng.normal(0, 1)))
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
        ),
        "measured": _measured("emulator"),
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
        agreements=("input shape (height, width, channels): 224 × 224 × 3", "color: rgb"),
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
    """The same build by the vendor's compiler, measured on a chip."""
    emulated = make_manifest()
    return make_manifest(
        sdk=Sdk(provider="dfc", version="3.33.0"),
        measured=_measured("device").model_copy(update={"power_w": 2.71, "temperature_c": 48.2}),
        compiled=emulated.compiled.model_copy(
            update={"contexts_source": "device", "sdk_version": "3.33.0", "is_emulated": False}
        ),
    )


def failed_manifest() -> Manifest:
    """A build whose second model is too noisy."""
    return make_manifest(
        gates=(
            Gate(name="SNR of resnet_a", wanted="≥ 30 dB", found="31.2 dB", verdict="passed"),
            Gate(name="SNR of resnet_b", wanted="≥ 30 dB", found="29.2 dB", verdict="failed"),
        )
    )


def labelled_manifest() -> Manifest:
    """A build whose evaluation set has labels; quantizing even gained a little on the second model."""
    quantized = make_manifest().quantized
    return make_manifest(
        quantized=quantized.model_copy(
            update={
                "accuracy": tuple(
                    each.model_copy(
                        update={
                            "frames": 1000,
                            "float_accuracy": 0.969,
                            "quantized_accuracy": 0.966 + 0.004 * index,
                        }
                    )
                    for index, each in enumerate(quantized.accuracy)
                )
            }
        )
    )


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


# Reading a page


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    """Its own and its children's."""


@dataclass
class Page(HTMLParser):
    """All elements of a page, closed ones with their whole text; fails on tags that do not balance."""

    elements: list[Element] = field(default_factory=list)
    opened: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened, f"</{tag}> closes nothing"
        assert self.opened.pop().tag == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        for element in self.opened:
            element.text += data

    def texts(self, *tags: str) -> list[str]:
        return [" ".join(element.text.split()) for element in self.elements if element.tag in tags]


def parse(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert not page.opened
    return page


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[], Manifest]], str]:
    """Render a build once for all tests."""
    texts: dict[str, str] = {}

    def render(make: Callable[[], Manifest]) -> str:
        if make.__name__ not in texts:
            manifest = make()
            outputs, frames = write_arrays(manifest, tmp_path_factory.mktemp("report"))
            texts[make.__name__] = report.render(manifest, outputs, frames)
        return texts[make.__name__]

    return render


BUILDS = [make_manifest, device_manifest, failed_manifest, labelled_manifest, maps_manifest]
every_build = pytest.mark.parametrize("make", BUILDS, ids=lambda make: make.__name__)


# What must hold


@every_build
def test_page_is_well_formed_small_and_offline(
    rendered: Callable[[Callable[[], Manifest]], str], make: Callable[[], Manifest]
) -> None:
    text = rendered(make)
    page = parse(text)
    assert len(text.encode()) <= 3 * MEBIBYTE
    assert not {"script", "link", "iframe", "object"} & {element.tag for element in page.elements}
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            address = element.attributes.get(name)
            assert address is None or address.startswith(("data:image/", "#")), address
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text


@every_build
def test_ids_are_unique_and_links_lead_somewhere(
    rendered: Callable[[Callable[[], Manifest]], str], make: Callable[[], Manifest]
) -> None:
    page = parse(rendered(make))
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    addresses = [element.attributes.get(name) or "" for element in page.elements for name in ("href", "xlink:href")]
    targets = {address[1:] for address in addresses if address.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]*)\)", rendered(make)))
    assert targets
    assert targets <= set(ids)


@every_build
def test_every_picture_has_words(
    rendered: Callable[[Callable[[], Manifest]], str], make: Callable[[], Manifest]
) -> None:
    page = parse(rendered(make))
    assert all(element.attributes.get("alt") for element in page.elements if element.tag == "img")
    pictures = [element for element in page.elements if element.tag == "svg"]
    assert len(pictures) >= 7
    assert all(picture.attributes.get("aria-label") for picture in pictures)


@every_build
def test_every_figure_of_throughput_or_contexts_carries_its_source(
    rendered: Callable[[Callable[[], Manifest]], str], make: Callable[[], Manifest]
) -> None:
    page = parse(rendered(make))
    found = 0
    for element in page.elements:
        if element.tag not in ("td", "dd", "p", "figcaption", "h1", "h2", "h3", "title", "li"):
            continue
        if element.attributes.get("class") == "wanted":
            continue
        text = " ".join(element.text.split())
        if re.search(r"\d\s*FPS|\d\s*context", text):
            found += 1
            assert re.search(r"\b(emulator|forecast|device)\b", text), text
    assert found >= 7


def test_emulated_build_says_so_and_nothing_claims_a_device(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(make_manifest))
    assert any(text.startswith("Nothing here was measured on a Hailo device") for text in page.texts("p"))
    assert [text for text in page.texts("span") if text == "device"] == []
    main = [text for text in page.texts("td") if "dB" in text and "≥" not in text]
    assert main
    assert all(text.endswith("emulator") for text in main)


def test_device_build_shows_what_the_device_told(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(device_manifest))
    text = page.elements[0].text
    assert "Nothing here was measured" not in text
    assert "41.8\u202fFPS at batch 1 device" in text
    assert "2.71\u202fW (device)" in text
    assert "48.2\u202f°C (device)" in text
    assert "emulator" not in text.replace("0.1.0-emulator", "").replace("3.33.0-emulator", "")


def test_failed_gate_is_told_with_wanted_and_found(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(failed_manifest))
    verdict = next(element for element in page.elements if element.attributes.get("class") == "verdict failed")
    assert verdict.text == "Not promoted: SNR of resnet_b wanted ≥ 30 dB, found 29.2 dB (emulator)"
    assert "✗ failed" in page.texts("td")
    assert "**Not promoted: SNR of resnet_b wanted" in report.summary_markdown(failed_manifest())


def test_gate_that_was_not_evaluated_does_not_hold_a_build_back() -> None:
    assert "**Promoted: 1\u202fgate passed; throughput at batch 1 not evaluated**" in report.summary_markdown(
        make_manifest()
    )


@pytest.mark.parametrize(
    ("make", "accuracy", "drop"),
    [
        (make_manifest, "agreement with float 98.4 %, top-1 (emulator)", "1.6 points (emulator)"),
        (maps_manifest, "agreement with float 0.984, mask IoU at 0.5 (emulator)", "1.6 points (emulator)"),
        (labelled_manifest, "96.9 % → 96.6 % (emulator)", "0.3 points (emulator)"),
        (device_manifest, "agreement with float 98.4 %, top-1 (DFC)", "1.6 points (DFC)"),
    ],
)
def test_summary_row(make: Callable[[], Manifest], accuracy: str, drop: str) -> None:
    row = report.summary_rows(make())[0]
    assert (row.model, row.accuracy.replace(words.THIN, " "), row.drop.replace(words.THIN, " ")) == (
        "resnet_a",
        accuracy,
        drop,
    )


def test_gain_by_quantizing_is_a_negative_drop() -> None:
    assert report.summary_rows(labelled_manifest())[1].drop == "−0.1\u202fpoints (emulator)"


@every_build
def test_page_and_markdown_show_the_summary_rows(
    rendered: Callable[[Callable[[], Manifest]], str], make: Callable[[], Manifest]
) -> None:
    cells = parse(rendered(make)).texts("td")
    markdown = report.summary_markdown(make())
    for row in report.summary_rows(make()):
        for text in (row.snr, row.accuracy, row.drop):
            figure, _, source = text.removesuffix(")").rpartition(" (")
            assert f"{' '.join(figure.split())} {source}" in cells
            assert f"| {text} |" in markdown
    for _, text in report.figure_rows(make()):
        assert f"| {text} |" in markdown


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    models = ("<img src=x onerror=alert(1)>", "</style><b>$x$|`y`")
    manifest = make_manifest(models=("m", models[1].replace("/", "")))
    spec = manifest.spec
    hostile = manifest.model_copy(
        update={
            "spec": spec.model_copy(
                update={
                    "name": models[0],
                    "models": [
                        model.model_copy(update={"name": name})
                        for model, name in zip(spec.models, manifest.models, strict=True)
                    ],
                }
            ),
            "machine": manifest.machine.model_copy(update={"host": models[0]}),
            "quantized": manifest.quantized.model_copy(update={"warnings": models, "script": models[1]}),
        }
    )
    page = parse(report.render(hostile, *write_arrays(manifest, tmp_path)))
    tags = {element.tag for element in page.elements}
    assert "b" not in tags
    assert "img" not in tags
    assert models[0] in page.elements[0].text
    assert models[1] in page.elements[0].text
    markdown = report.summary_markdown(hostile)
    assert models[0] not in markdown
    assert "\\<img src=x onerror=alert(1)\\>" in markdown


def test_equal_input_gives_equal_pages(rendered: Callable[[Callable[[], Manifest]], str], tmp_path: Path) -> None:
    manifest = maps_manifest()
    assert report.render(manifest, *write_arrays(manifest, tmp_path)) == rendered(maps_manifest)


@every_build
def test_markdown_tables_are_well_formed(make: Callable[[], Manifest]) -> None:
    text = report.summary_markdown(make(), "s3://bucket/report of <it>.html")
    assert text.endswith("[Open the report](<s3://bucket/report of %3Cit%3E.html>)\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        columns = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in lines]
        assert len(set(columns)) == 1, lines
        assert set(lines[1]) <= set("| -")


def test_maps_are_shown_over_frames_on_which_something_was_found(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    captions = [
        element.attributes["alt"] or "" for element in parse(rendered(maps_manifest)).elements if element.tag == "img"
    ]
    frames = [int(caption.split()[1]) for caption in captions if caption.startswith("frame")]
    assert len(frames) == 3
    assert min(frames) >= 2
    assert captions.count("resnet_a: deconv2, float") == 3
    assert captions.count("resnet_b: deconv2, quantized (emulator)") == 3
    assert "img" not in {element.tag for element in parse(rendered(make_manifest)).elements}


def test_maps_of_empty_frames_are_still_shown() -> None:
    nothing = np.zeros((5, 8, 8, 1), np.float32)
    assert maps.choose_frames([maps.MapOutput("m", "#000000", nothing, nothing)]) == [0, 2, 4]


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        (RESNET, ["conv", "maxpool", "conv ×19", "avgpool", "dense"]),
        (["dw", "conv"] * 3 + ["add"], ["(dw → conv) ×3", "add"]),
        (["conv"], ["conv"]),
        ([], []),
    ],
)
def test_runs_of_layers_share_a_box(kinds: Sequence[str], labels: Sequence[str]) -> None:
    assert [run.label for run in graph.group_runs(layers_of("m", kinds))] == labels


def test_grouping_keeps_every_layer_in_order_and_never_grows_too_long() -> None:
    kinds = np.random.default_rng(3).choice(["conv", "dw", "add", "resize", "avgpool"], 150)
    layers = layers_of("m", list(kinds))
    runs = graph.group_runs(layers)
    assert [layer for run in runs for layer in run.layers] == layers
    assert len(runs) == graph.MOST_RUNS


def test_layer_that_serves_both_models_is_drawn_above_them() -> None:
    shared = LayerView(
        name="resnet_a/normalization1",
        type="normalization",
        inputs=("resnet_a/input_layer1",),
        parameters=6,
        macs=0,
    )
    joined = make_manifest().joined
    layers = [
        layer.model_copy(update={"inputs": (shared.name,)}) if layer.name.endswith("/conv1") else layer
        for layer in joined.network.layers
    ]
    network = joined.network.model_copy(update={"layers": (shared, *layers)})
    drawn = str(graph.draw_graph(joined.model_copy(update={"network": network}), dict.fromkeys(MODELS, "#123456")))
    assert drawn.count(">normalization<") == 1
    assert drawn.index(">normalization<") < drawn.index(">resnet_a<")
    assert drawn.count("23\u202flayers") == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.significant(0), "0"),
        (words.significant(999.6), "1,000"),
        (words.significant(-0.0312), "−0.0312"),
        (words.si(23_369_424), "23.4 M"),
        (words.size_text(812), "812 B"),
        (words.size_text(23_648_135), "23.6 MB"),
        (words.db_text(120.0), "≥ 120 dB"),
        (words.db_text(-3.14), "−3.1 dB"),
        (words.points_text(-0.01), "0.0 points"),
        (words.percent(0.96849), "96.8 %"),
        (words.plural(1, "context"), "1 context"),
        (words.duration_text(3599.9), "1 h 0 min"),
        (words.moment_text("2025-11-23T08:14:00+01:00"), "2025-11-23 07:14 UTC"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text.replace(words.THIN, " ") == expected


def test_import_is_cheap() -> None:
    code = (
        "import sys, hefjoin.report; "
        "sys.exit(sorted({'matplotlib', 'jinja2', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)).__repr__() "
        "if {'matplotlib', 'jinja2', 'numpy', 'pydantic', 'PIL'} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_page_says_why_there_is_no_figure(tmp_path: Path) -> None:
    manifest = make_manifest()
    forecast = manifest.forecast.model_copy(update={"fps": None, "fps_note": "0.02 GOP is outside the fit"})
    measured = manifest.measured.model_copy(update={"source": "not measured", "device": "no device", "batches": ()})
    bare = manifest.model_copy(update={"forecast": forecast, "measured": measured})
    page = report.render(bare, *write_arrays(bare, tmp_path))
    assert "Not measured: no device" in page
    assert "no forecast: 0.02 GOP is outside the fit" in page
    assert dict(report.figure_rows(bare))["Throughput"] == "not measured"
