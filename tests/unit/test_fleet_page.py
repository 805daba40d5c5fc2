"""One page of several builds: what stands in it, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re

from hefjoin.report.fleet import Outcome, fleet_markdown, render_fleet, sentence
from tests.builds import device_manifest, make_manifest
from tests.kept import FAILED

MOMENT = "2026-11-29T07:14:00Z"
PLACES = {"report_uri": "s3://b/r.html", "hef_uri": "s3://b/a.hef", "run_url": "http://127.0.0.1:4200/runs/1"}
GOOD = Outcome(name="good", uri="good.yaml", ending="built", seconds=12.0, build=make_manifest(), **PLACES)
REAL = Outcome(name="real", uri="real.yaml", ending="built", seconds=9.0, build=device_manifest(), **PLACES)
HELD = GOOD.model_copy(update={"name": "held", "build": make_manifest(gates=(FAILED,)), "why": "left's model"})
BROKEN = Outcome(name="broken", uri="b.yaml", ending="failed", problem="does not fit <one> context | LCUs 149 of 96")
ALL = (GOOD, REAL, HELD, BROKEN)


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_a_sentence_says_how_many_which_were_held_back_and_which_failed() -> None:
    assert plain(sentence(ALL)) == "3 builds of 4, 1 not promoted (held); 1 failed: broken"
    assert plain(sentence([GOOD])) == "1 build of 1"


def test_the_page_has_every_build_with_figures_and_their_sources_and_why_others_failed() -> None:
    page = plain(render_fleet("Fleet of 4", MOMENT, ALL, ["a remark"]))
    for part in (
        '1 context <span class="source">forecast</span>',
        '<span class="source">device</span>',
        "✗ SNR of resnet_a",
        "does not fit &lt;one&gt; context",
        "It was due: left&#39;s model",
        "a remark",
        "2026-11-29 07:14 UTC",
    ):
        assert part in page
    assert page.count("<section") == 6


def test_that_nothing_was_measured_is_said_where_nothing_was() -> None:
    notice = "Nothing here was measured on a Hailo device"
    for write in (lambda all_: render_fleet("Fleet", MOMENT, all_), lambda all_: fleet_markdown("Fleet", all_)):
        assert notice in write([GOOD, HELD, BROKEN])
        assert notice not in write([GOOD, REAL])
        assert notice not in write([BROKEN])


def test_the_page_loads_nothing() -> None:
    page = render_fleet("Fleet", MOMENT, ALL)
    assert not re.search(r"<(script|link|img|iframe)|@import|url\(", page)


def test_a_fleet_of_failures_is_a_page_too() -> None:
    assert "none" in render_fleet("Fleet", MOMENT, [BROKEN])


def test_the_markdown_has_tables_and_shows_texts_as_they_are() -> None:
    text = plain(fleet_markdown("Fleet of 4", ALL, ["a *remark*"], "file:///store/page.html"))
    assert "| good | 1 context (forecast) |" in text
    assert "| broken | failed | does not fit \\<one\\> context \\| LCUs 149 of 96 |" in text
    assert "- a \\*remark\\*" in text
    assert "[report](<s3://b/r.html>)" in text
    assert "(<file:///store/page.html>)" in text
