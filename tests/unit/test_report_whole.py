"""The report as a whole: small at its worst, no wider than a phone, and nothing in it that the manifest has not."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hefjoin import report
from hefjoin.manifest import Manifest
from hefjoin.report.duet import render_duet
from tests.builds import make_manifest, write_arrays
from tests.large import covered, large_manifest
from tests.unit.test_report import parse

MOST_BYTES = 3 << 20
CSS = (Path(report.__file__).parent / "page.css").read_text(encoding="utf-8")


class Boxes(HTMLParser):
    """Finds tables, drawings and code that lie in no box of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[str, str]] = []
        self.loose: list[str] = []
        self.seen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = dict(attrs).get("class") or ""
        boxes = {word for _, words in self.opened for word in words.split()}
        wanted = {"table": {"scroll"}, "svg": {"plots", "graph"}, "img": {"frames", "album", "pairs"}}.get(tag)
        if wanted is not None:
            self.seen += 1
            if not wanted & boxes:
                self.loose.append(tag)
        if tag not in ("meta", "img", "br"):
            self.opened.append((tag, classes))

    def handle_endtag(self, tag: str) -> None:
        while self.opened and self.opened.pop()[0] != tag:
            pass


def boxes(text: str) -> Boxes:
    found = Boxes()
    found.feed(text)
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The largest build there is on frames that cannot be compressed."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    manifest, frames = large_manifest(), 4
    np.save(folder / "frames.npy", rng.integers(0, 256, (frames, 320, 320, 3)).astype(np.uint8))
    arrays = {}
    for index in range(64):
        arrays[f"float_{index}"] = rng.random((frames, 64, 64, 1), np.float32)
        arrays[f"quantized_{index}"] = arrays[f"float_{index}"] + rng.normal(0, 0.05, (frames, 64, 64, 1))
    np.savez(folder / "outputs.npz", allow_pickle=False, **arrays)
    return report.render(manifest, folder / "outputs.npz", folder / "frames.npy")


@pytest.fixture(scope="module")
def duet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a large calibration set of eight models, of frames that cannot be compressed."""
    frames = tmp_path_factory.mktemp("duet") / "frames.npy"
    np.save(frames, np.random.default_rng(0).integers(0, 256, (100, 160, 160, 3)).astype(np.uint8))
    return render_duet("large", covered([f"network_{letter}" for letter in "abcdefgh"], 100), frames, "bgr")


def test_pages_stay_small_at_their_worst(large: str, duet: str) -> None:
    assert 1 << 20 < len(large.encode()) <= MOST_BYTES
    assert len(duet.encode()) <= MOST_BYTES
    parse(large)
    parse(duet)
    assert large.count("<img") >= 27


def test_what_is_wide_lies_in_a_box_of_its_own(large: str, duet: str) -> None:
    for text in (large, duet):
        found = boxes(text)
        assert found.seen > 20
        assert found.loose == []


def test_boxes_scroll_on_a_screen_and_are_open_on_paper() -> None:
    screen, _, paper = CSS.partition("@media print")
    assert re.search(r"\.scroll {[^}]*overflow-x: auto", screen)
    assert re.search(r"\.graph {[^}]*overflow-x: auto", screen)
    assert re.search(r"pre {[^}]*overflow: auto", screen)
    assert re.search(r"\.scroll, \.graph {[^}]*overflow: visible", paper)
    assert "attr(href)" in paper
    assert re.search(r"figure, tr,[^}]*break-inside: avoid", paper)


def words(text: str) -> str:
    """Return a page without what is drawn."""
    return re.sub(r"<svg.*?</svg>|data:image/[^\"]*", "", text, flags=re.DOTALL)


def test_all_but_the_drawings_comes_from_the_manifest(tmp_path: Path) -> None:
    manifest: Manifest = make_manifest(covered=covered(("resnet_a", "resnet_b"), 20))
    outputs, frames = write_arrays(manifest, tmp_path)
    first = report.render(manifest, outputs, frames)
    with np.load(outputs) as arrays:
        others = {name: array * 3 + 1 for name, array in arrays.items()}
    np.savez(outputs, allow_pickle=False, **others)
    again = report.render(Manifest.model_validate_json(manifest.model_dump_json()), outputs, frames)
    assert first != again
    assert words(first) == words(again)
    page = parse(first)  # and what a set covers is told where it is known
    assert any(text.startswith("10 of 20 frames give both models at least 99.0 %") for text in page.texts("p"))
    assert "51,200 in 400 layers" in page.texts("td")
    assert {element.attributes.get("id") for element in page.elements} >= {"cover", "frames"}


def test_the_page_of_a_set_has_its_pictures_and_says_what_to_do(duet: str) -> None:
    page = parse(duet)
    headings = page.texts("h3")
    assert any(text.startswith("Needed by network_a alone: 10 frames, the first 7") for text in headings)
    captions = [element.attributes["alt"] for element in page.elements if element.tag == "img"]
    assert len(captions) == 21 + 8 * 7 + 7 + 2 * 12 + 14
    assert all(captions)
    taken_out = (
        "unless the device will see such: 0 (a/folder/with/a/name/0000.jpeg), 1 (a/folder/with/a/name/0001.jpeg), "
    )
    assert any(taken_out in text and "and 37 more" in text for text in page.texts("p"))
    assert any("Replace the copies" in text for text in page.texts("p"))
