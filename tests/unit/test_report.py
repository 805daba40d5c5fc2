"""The report: says everything with its source, needs nothing from elsewhere, and cannot be talked into markup."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hefjoin import report
from hefjoin.manifest import Manifest
from hefjoin.report import graph, maps, summary, words
from hefjoin.results.networks import LayerView
from hefjoin.results.quantized import LayerNoise
from tests.builds import (
    MODELS,
    RESNET,
    device_manifest,
    difference,
    failed_manifest,
    foretold_manifest,
    labelled_manifest,
    layers_of,
    make_manifest,
    maps_manifest,
    repaired_manifest,
    write_arrays,
)

VOID = {"meta", "img", "br", "link", "hr", "input"}
MEBIBYTE = 1 << 20


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


BUILDS = [
    *(make_manifest, device_manifest, failed_manifest, foretold_manifest, labelled_manifest, maps_manifest),
    repaired_manifest,
]
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
            assert re.search(r"\b(emulator|forecast|device|hef)\b", text), text
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


def test_every_layers_noise_is_listed_accumulated_and_own(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    cells = parse(rendered(make_manifest)).texts("td")
    rows = [tuple(cells[place : place + 5]) for place in range(len(cells))]
    for noise in make_manifest().quantized.layer_noise:
        assert noise.own_snr_db is not None
        assert (noise.layer, f"{noise.snr_db:.1f}", "0.99990", f"{noise.own_snr_db:.1f}", "0.99995") in rows


def test_where_own_noise_is_unknown_the_page_says_so(tmp_path: Path) -> None:
    plain = make_manifest()
    noise = tuple(LayerNoise(layer=each.layer, snr_db=each.snr_db) for each in plain.quantized.layer_noise)
    manifest = make_manifest(quantized=plain.quantized.model_copy(update={"layer_noise": noise}))
    page = parse(report.render(manifest, *write_arrays(manifest, tmp_path)))
    assert any("does not tell what a layer makes alone" in text for text in page.texts("figcaption"))


def test_the_worst_layers_are_named_with_the_lines_that_mend_them(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(repaired_manifest))
    assert "quantization_param(resnet_a/conv4, precision_mode=a16_w16)" in page.texts("pre")
    assert any("in the own script of resnet_a, leave out resnet_a/" in text for text in page.texts("p"))
    cells = page.texts("td")
    place = cells.index("resnet_a/avgpool1")
    assert cells[place + 1 : place + 3] == ["12.0 %", "no: no avgpool layer is known to take a16_w16"]


def test_a_repair_is_told_with_its_order_its_gain_and_its_cost(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(repaired_manifest))
    cells = page.texts("td")
    place = cells.index("resnet_b/fc1, resnet_b/conv7")
    assert cells[place + 1 : place + 3] == ["31.2", "29.2"]
    assert cells[place + 3 : place + 6] == ["94.4 %", "35.9 %", "9.2 %"]
    assert any("repair_layers are used up" in text for text in page.texts("p"))
    assert any("resnet_b/avgpool1" in text and "20.0" in text for text in page.texts("li"))
    text = summary.summary_markdown(repaired_manifest())
    assert "27.5\u202fdB → 29.2\u202fdB" in text


def test_what_couples_the_models_is_told_with_each_alone(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(repaired_manifest))
    cells = page.texts("td")
    assert "+1.2 dB emulator" in cells
    assert "equal, bit for bit emulator" in cells
    assert any(text.startswith("`compression_level=1` in script chooses over <all>") for text in page.texts("li"))


def test_what_was_compared_before_the_join_is_a_table(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    cells = parse(rendered(make_manifest)).texts("td")
    assert "resnet_a: rgb, resnet_b: bgr" in cells
    assert any(cell.startswith("handled") and cell.endswith("reverses it in its own graph") for cell in cells)


def older_manifest() -> Manifest:
    """Return a build as it was written before its comparisons were kept."""
    content = make_manifest().model_dump(mode="json")
    del content["check"]["comparisons"]
    content["check"]["agreements"] = ["color: rgb"]
    for network in content["models"].values():
        del network["head"]
    return Manifest.model_validate(content)


def test_an_older_build_is_read_and_says_what_agreed(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    assert "color: rgb" in parse(rendered(older_manifest)).texts("li")


def test_a_build_without_repair_or_couplings_has_no_such_sections(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(make_manifest))
    assert not {"repair", "coupling"} & {element.attributes.get("id") for element in page.elements}


def test_device_build_shows_what_the_device_told(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(device_manifest))
    text = page.elements[0].text
    assert "Nothing here was measured" not in text
    assert "41.8\u202fFPS at batch 1 device" in text
    assert "Power: 2.71\u202fW, 2.41 to 2.98\u202fW (device)" in text
    assert "Temperature: 48.2\u202f°C (device)" in text
    assert "The chip did not throttle (device)" in text
    assert "HailoRT 4.23.0, driver 4.23.0, firmware 4.23.0" in text
    assert "The device against the float network" in text
    assert "emulator" not in text.replace("0.1.0-emulator", "").replace("3.33.0-emulator", "")


def test_every_attempt_and_what_the_mapping_takes_are_shown(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(device_manifest))
    assert "✗ did not fit: LCUs 149 of 96" in page.texts("td")
    assert "✓ compiled" in page.texts("td")
    assert "resnet_pair_context_0" in page.texts("h3")
    assert "75.0\u202f%" in page.elements[0].text
    assert "did not fit" not in parse(rendered(make_manifest)).elements[0].text


def test_a_device_far_from_what_was_foreseen_is_a_warning() -> None:
    build = device_manifest()
    assert not [text for text in summary.warnings(build) if "on the device" in text]
    far = tuple(
        each.model_copy(update={"outputs": tuple(out.model_copy(update={"snr_db": -5.0}) for out in each.outputs)})
        for each in build.measured.accuracy
    )
    worse = build.model_copy(update={"measured": build.measured.model_copy(update={"accuracy": far})})
    (first, second) = [text for text in summary.warnings(worse) if "on the device" in text]
    assert "resnet_a has −5.0\u202fdB on the device (device), 31.2\u202fdB were expected (DFC)" in first
    assert "resnet_b" in second


def test_failed_gate_is_told_with_wanted_and_found(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(failed_manifest))
    verdict = next(element for element in page.elements if element.attributes.get("class") == "verdict failed")
    assert verdict.text == "Not promoted: SNR of resnet_b wanted ≥ 30 dB, found 29.2 dB (emulator), 0.8 dB below 30"
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
        (labelled_manifest, "top-1 96.9 % → 96.6 % (emulator)", "0.3 points, within noise (emulator)"),
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


def test_every_labelled_model_has_a_row_for_each_stage() -> None:
    rows = [
        tuple(text.replace(words.THIN, " ") for text in (row.stage, row.value, row.difference, row.meaning))
        for row in report.score_rows(labelled_manifest())
    ]
    changed = "not available: `input_conversion` in script changes the network after parsing"
    assert rows == [
        ("native", "96.9 % (emulator)", "the reference", "–"),
        ("fp-optimized", "96.9 % (emulator)", "0.0 points (−0.4 to +0.4)", "the same on every frame"),
        ("quantized", "96.6 % (emulator)", "−0.3 points (−1.0 to +0.4)",
         "within noise, p = 0.55: better on 4 frames, worse on 7"),
        ("device", "95.1 % (emulator)", "−1.8 points (−2.7 to −0.9)",
         "worse, p < 0.001: better on 2 frames, worse on 20"),
        ("native", changed, "–", "–"),
        ("fp-optimized", "2.000 (emulator)", "the reference", "–"),
        ("quantized", "1.998 (emulator)", "−0.0020 (−0.0032 to −0.0008)",
         "better, p = 0.002: better on 610 frames, worse on 390"),
        ("device", "not measured", "–", "–"),
    ]  # fmt: skip
    assert report.score_rows(make_manifest()) == []


def test_stages_of_labelled_models_are_shown(rendered: Callable[[Callable[[], Manifest]], str]) -> None:
    page = parse(rendered(labelled_manifest))
    assert "resnet_a: top-1 of resnet_a/fc1 over 1,000 frames" in page.texts("h3")
    cells = page.texts("td")
    for row in report.score_rows(labelled_manifest()):
        assert " ".join(row.value.replace("(emulator)", "emulator").split()) in cells
        assert " ".join(row.meaning.split()) in cells
    assert "118.0 dB emulator" in cells
    changed = "`input_conversion` in script changes the network after parsing"
    assert f"resnet_b is not compared with the network as parsed: {changed}." in page.texts("p")
    assert "Accuracy on labels" not in parse(rendered(make_manifest)).elements[0].text


def test_gain_by_quantizing_is_a_negative_drop() -> None:
    assert report.summary_rows(labelled_manifest())[1].drop == "−0.1\u202f%, better (emulator)"


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


def test_a_build_whose_set_nobody_looked_at_has_no_section_of_it(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(make_manifest))
    assert "cover" not in {element.attributes.get("id") for element in page.elements}


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
    text = report.summary_markdown(make())
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4 + bool(make().scored.models)
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
        (words.drop_text(-0.0, "points"), "0.0 points"),
        (words.drop_text(-0.0123, "percent"), "−0.012 %"),
        (words.drop_text(1.26, "points"), "1.3 points"),
        (words.drop_text(None, "points"), "–"),
        (words.difference_text("overlap", difference("native", 0.0123, 0.009, 1.0, 0, 0)), "+0.012 (+0.003 to +0.021)"),
        (words.difference_text("score", difference("native", 0.0, 0.0, 1.0, 0, 0)), "0.0 (0.0 to 0.0)"),
        (words.verdict_text(difference("native", -0.1, 0.05, 0.0005, 0, 12)), "worse, p < 0.001: worse on 12 frames"),
        (words.verdict_text(difference("native", 0.1, 0.2, 0.3, 1, 0)), "within noise, p = 0.30: better on 1 frame"),
        (words.metric_text("ours.metrics:edit_distance"), "edit_distance"),
        (words.p_value_text(0.0004), "p < 0.001"),
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


def test_the_forecast_is_told_with_its_changes_and_what_the_compiler_answered(
    rendered: Callable[[Callable[[], Manifest]], str],
) -> None:
    page = parse(rendered(foretold_manifest))
    cells = page.texts("td")
    assert any(cell.startswith("does not fit, about 2") for cell in cells)
    assert any(cell.startswith("compile in performance mode") for cell in cells)
    place = cells.index("layer controllers")
    assert cells[place + 1 : place + 3] == ["96.9 % forecast", "90.0 % compiler log"]
