"""Several builds on one page: which fit, what they lost and how fast they are, and why others came to nothing.

The rule: the words and the look are those of a build's own report, to which each row leads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.manifest import Manifest
from hefjoin.report import words
from hefjoin.report.markdown import escaped, table
from hefjoin.report.page import figure
from hefjoin.report.summary import EMULATOR_NOTICE, verdict_text
from hefjoin.report.template import page_environment

HEADINGS = ("Build", "Fits", "Throughput", "SNR, worst output", "Gates", "Time")
MARKS = {"passed": "✓", "failed": "✗", "not evaluated": "–"}

Ending = Literal["built", "failed", "cancelled", "not started"]


class Outcome(Record):
    """What became of a spec."""

    name: str
    """Of the build; of a spec that cannot be read, where it lies."""
    uri: str
    """Where the spec lies."""
    ending: Ending
    why: str = ""
    """Why it was built: what changed; empty where it was asked for."""
    problem: str = ""
    """Why there is no build."""
    seconds: float | None = None
    """That its run took."""
    run_url: str = ""
    """Of the run in the Prefect UI."""
    build: Manifest | None = None
    report_uri: str = ""
    hef_uri: str = ""

    @property
    def is_failed(self) -> bool:
        """It came to no build."""
        return self.ending != "built"

    @property
    def is_held_back(self) -> bool:
        """It was built, and a gate failed."""
        return self.build is not None and not self.build.is_promotable


def figures(outcome: Outcome) -> tuple[str, ...]:
    """Return what the table says of a spec, in the order of the headings after the first."""
    build = outcome.build
    time = "–" if outcome.seconds is None else words.duration_text(outcome.seconds)
    if build is None:
        return ("–", "–", "–", "–", time)
    source = build.quality_source
    worst = min((each.snr_db for each in build.quantized.accuracy), default=None)
    snr = "–" if worst is None else words.sourced(words.db_text(worst), source)
    return (words.contexts_text(build.compiled), words.fps_text(build.measured), snr, _gates(build), time)


def sentence(outcomes: Sequence[Outcome]) -> str:
    """Return in a sentence what became of all."""
    failed = [each.name for each in outcomes if each.is_failed]
    held = [each.name for each in outcomes if each.is_held_back]
    built = len(outcomes) - len(failed)
    text = f"{words.plural(built, 'build')} of {len(outcomes):,}"
    if held:
        text += f", {len(held):,} not promoted ({', '.join(held)})"
    if failed:
        text += f"; {len(failed):,} failed: {', '.join(failed)}"
    return text


def fleet_markdown(title: str, outcomes: Sequence[Outcome], remarks: Sequence[str] = (), page_uri: str = "") -> str:
    """Return all as markdown for the Prefect UI.

    Args:
        title: What was asked for.
        outcomes: One for each spec.
        remarks: What else is to be said.
        page_uri: Where the page lies; empty: nowhere.
    """
    parts = [f"## {escaped(title)}"]
    if outcomes:
        parts.append(f"**{escaped(sentence(outcomes))}**")
    if _is_emulated(outcomes):
        parts.append(f"> {EMULATOR_NOTICE}")
    if built := [each for each in outcomes if not each.is_failed]:
        parts.append(table(HEADINGS, ((each.name, *figures(each)) for each in built)))
    if reasons := [(each.name, each.why) for each in outcomes if each.why]:
        parts.append(table(("Build", "Why it was due"), reasons))
    if failed := [(each.name, each.ending, each.problem) for each in outcomes if each.is_failed]:
        parts.append(table(("Spec", "", "Why there is no build"), failed))
    parts += [f"- {escaped(remark)}" for remark in remarks]
    parts += [f"- {escaped(each.name)}: {', '.join(_links(each))}" for each in outcomes if any(_links(each))]
    if page_uri:
        parts.append(f"Page: {_link(page_uri, page_uri)}")
    return "\n\n".join(parts) + "\n"


def render_fleet(title: str, moment: str, outcomes: Sequence[Outcome], remarks: Sequence[str] = ()) -> str:
    """Return all as one HTML page that needs nothing from elsewhere.

    Args:
        title: What was asked for.
        moment: When; ISO 8601.
        outcomes: One for each spec.
        remarks: What else is to be said.
    """
    environment = page_environment()
    environment.filters |= {"figure": figure, "figures": figures, "moment": words.moment_text, "verdict": verdict_text}
    return environment.get_template("fleet.html.j2").render(
        title=title,
        moment=moment,
        outcomes=outcomes,
        remarks=remarks,
        headings=HEADINGS,
        sentence=sentence(outcomes),
        has_failed=any(each.is_failed for each in outcomes),
        is_emulated=_is_emulated(outcomes),
        notice=EMULATOR_NOTICE,
    )


def _is_emulated(outcomes: Sequence[Outcome]) -> bool:
    """Return whether all there is was built by the emulator."""
    providers = {each.build.sdk.provider for each in outcomes if each.build}
    return providers == {"emulator"}


def _gates(build: Manifest) -> str:
    if not build.gates:
        return "none set"
    return ", ".join(f"{MARKS[gate.verdict]} {gate.name}" for gate in build.gates)


def _links(outcome: Outcome) -> Iterator[str]:
    for label, uri in (("run", outcome.run_url), ("report", outcome.report_uri), ("HEF", outcome.hef_uri)):
        if uri:
            yield _link(label, uri)


def _link(label: str, uri: str) -> str:
    return f"[{escaped(label)}](<{uri.replace('<', '%3C').replace('>', '%3E')}>)"
