"""What the Prefect UI is given: pictures that stand alone, links that can be followed, failures in a person's words."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest

from hefjoin.artifacts import Ref
from hefjoin.errors import (
    CompileError,
    Disagreement,
    FitError,
    HefJoinError,
    JoinError,
    Problem,
    SpecError,
    StoreError,
    combined,
)
from hefjoin.folders import served_stores
from hefjoin.manifest import Manifest, Published
from hefjoin.report import pictures, summary
from hefjoin.report.failure import failure_markdown
from hefjoin.report.markdown import code
from hefjoin.report.places import commands_markdown, links_markdown, web_address
from tests.builds import device_manifest, failed_manifest, make_manifest, make_spec, maps_manifest

SVG = "{http://www.w3.org/2000/svg}"


def drawn(image: str) -> ET.Element:
    """Return the SVG in an image of markdown, as a parser that knows no HTML reads it."""
    found = re.fullmatch(r"!\[[^\]]+\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", image)
    assert found, image[:80]
    return ET.fromstring(base64.b64decode(found[1]))


def texts(image: str) -> str:
    return " ".join(text for element in drawn(image).iter(f"{SVG}text") for text in element.itertext())


class TestPictures:
    @pytest.mark.parametrize("make", [make_manifest, device_manifest, failed_manifest, maps_manifest])
    def test_each_is_a_small_document_on_white(self, make: Callable[[], Manifest]) -> None:
        manifest = make()
        for image in (pictures.graph_image(manifest), pictures.snr_image(manifest)):
            root = drawn(image)
            assert root.tag == f"{SVG}svg"
            assert root[0].attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}
            assert len(image) < pictures.MOST_BYTES

    def test_the_graph_of_eight_models_is_small_enough(self) -> None:
        names = [f"model_{index}" for index in range(8)]
        manifest = make_manifest(names, ("conv", "dw", "ew_add", "maxpool", "concat") * 30, spec=make_spec(names))
        assert 10_000 < len(pictures.graph_image(manifest)) < pictures.MOST_BYTES

    def test_bars_name_every_output_its_figure_its_source_and_the_gate(self) -> None:
        manifest = failed_manifest()
        text = texts(pictures.snr_image(manifest))
        for layer, snr_db in manifest.quantized.snr_by_output.items():
            assert layer.partition("/")[2] in text
            assert f"{snr_db:.1f}" in text
        assert manifest.quality_source in text
        assert f"gate: at least {manifest.spec.gates.min_snr_db:.1f}" in text

    def test_no_judged_output_no_bars(self) -> None:
        manifest = make_manifest()
        quantized = manifest.quantized.model_copy(update={"accuracy": ()})
        assert pictures.snr_image(manifest.model_copy(update={"quantized": quantized})) == ""

    def test_a_history_says_whose_figures_it_shows(self) -> None:
        points = [("2026-11-28T09:30:00Z", 100.0, "emulator"), ("2026-11-29T07:05:00Z", 412.4, "device")]
        text = texts(pictures.history_image(points, "throughput at batch 1"))
        assert "FPS (emulator, device)" in text
        assert "11-28 09:30" in text
        assert "412" in text

    def test_a_long_history_is_drawn_too_and_one_build_is_none(self) -> None:
        many = [(f"2026-11-{day:02d}T09:30:00Z", 100.0 + day, "emulator") for day in range(1, 29)]
        assert "11-28 09:30" in texts(pictures.history_image(many, "throughput at batch 1"))
        assert pictures.history_image(many[:1], "throughput at batch 1") == ""

    def test_the_page_has_them_in_this_order_and_works_without(self) -> None:
        added = summary.Added(links="[l](m)", snr="![c](d)", history="![e](f)", graph="![a](b)", commands="```\ng\n```")
        page = summary.summary_markdown(make_manifest(), added)
        assert [part for part in page.strip().split("\n\n") if part in astuple(added)] == list(astuple(added))
        assert "\n\n\n" not in summary.summary_markdown(make_manifest())


def published(store: str) -> Published:
    def lies(media: str) -> Ref:
        return Ref(uri=f"{store}/objects/sha256/00/0.{media}", sha256="0" * 64, size_bytes=1, media=media)

    return Published(
        build_id="20261129-093000-12345678", provider="dfc", name="pair", created_at="2026-11-29T09:30:00Z",
        host="builder1", manifest=lies("json"), report=lies("html"), hef=lies("hef"), hef_name="pair.hef", record="",
    )  # fmt: skip


class TestPlaces:
    def test_a_served_store_is_linked_to(self) -> None:
        text = links_markdown(published("s3://nets/store"), {"s3://nets/store/": "https://nets.example/s/"})
        assert text.startswith("[report.html](<https://nets.example/s/objects/sha256/00/0.html>) · [pair.hef](<https:")

    def test_one_that_is_not_says_how_to_fetch_from_s3(self) -> None:
        assert links_markdown(published("s3://nets/store"), {"s3://other": "https://nets.example"}) == ""
        text = commands_markdown(published("s3://nets/store"))
        assert "\naws s3 cp s3://nets/store/objects/sha256/00/0.html report.html\n" in text

    def test_or_from_the_machine_whose_folder_it_is(self) -> None:
        text = commands_markdown(published("file:///srv/my%20store"))
        assert "\nscp 'builder1:/srv/my store/objects/sha256/00/0.hef' pair.hef\n" in text

    def test_another_store_whose_name_begins_alike_is_another(self) -> None:
        assert web_address("s3://nets/store2/a", {"s3://nets/store": "https://x"}) == ""

    def test_the_longest_address_counts(self) -> None:
        served = {"s3://nets": "https://short", "s3://nets/store": "https://long"}
        assert web_address("s3://nets/store/a", served) == "https://long/a"

    def test_the_environment_says_what_is_served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(
            "HEFJOIN_STORE_LINKS", "s3://a/b=https://x/y?z=1 /srv/store=http://z nonsense =http://w a=ftp://x"
        )
        assert served_stores() == {"s3://a/b": "https://x/y?z=1", "file:///srv/store": "http://z"}


def page(error: HefJoinError) -> str:
    text = failure_markdown(error, "build tiny")
    assert text.startswith("## build tiny failed\n\n")
    return text


class TestFailure:
    def test_a_spec_is_a_table_of_its_problems(self) -> None:
        text = page(SpecError([Problem("name", "is `bad`|worse"), Problem("models[0].source", "is missing")], "a.yaml"))
        assert "a.yaml has 2 problems:" in text
        assert "| name | is \\`bad\\`\\|worse |" in text
        assert "| models\\[0\\].source | is missing |" in text
        assert "start the build again" in text

    def test_several_errors_in_one_lose_nothing(self) -> None:
        both = combined([SpecError([Problem("a", "first")]), SpecError([Problem("b", "second")])])
        assert "first" in page(both)
        assert "second" in page(both)

    def test_models_that_disagree_are_compared(self) -> None:
        rows = [Disagreement("input shape", (("left", "16 × 16"), ("right", "24 × 24")), "resize one")]
        assert "| input shape | 16 × 16 | 24 × 24 | resize one |" in page(JoinError(rows))

    def test_what_does_not_fit_is_shown_by_how_much(self) -> None:
        attempts: list[dict[str, Any]] = [
            {"label": "as declared", "seconds": 95.0, "message": "LCUs 149 of 96"},
            {"label": "attempt 1", "seconds": 5.0, "message": "no mapping"},
        ]
        need, have = {"SCUs": 10.0, "LCUs": 149.0}, {"SCUs": 100.0, "LCUs": 96.0}
        text = page(FitError("pair does not fit", need=need, have=have, attempts=attempts, log_tail="", reason="x"))
        assert text.index("| LCUs | 149 | 96 |") < text.index("| SCUs | 10 | 100 |")
        assert "| attempt 1 | 5.0\u202fs | no mapping |" in text

    def test_a_compilers_log_is_cut_to_its_end(self) -> None:
        text = page(CompileError("it broke", log_tail="\n".join(f"line {number}" for number in range(100))))
        assert "line 99" in text
        assert "line 69" not in text
        assert text.count("```") == 4

    def test_a_store_out_of_reach_says_what_is_left(self) -> None:
        assert "stages that ended are reused" in page(StoreError("cannot read", reason="unavailable", uri="s3://x"))

    def test_backticks_do_not_end_a_fence(self) -> None:
        assert code("a ```` b").splitlines() == ["`````", "a ```` b", "`````"]
