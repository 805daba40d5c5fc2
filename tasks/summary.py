"""What a person finds of a build in the Prefect UI: one page of tables and pictures, or why it failed."""

from __future__ import annotations

import re

from prefect.artifacts import create_markdown_artifact

from hefjoin.builds.find import Build
from hefjoin.builds.history import history
from hefjoin.errors import HefJoinError
from hefjoin.folders import served_stores
from hefjoin.manifest import Manifest
from hefjoin.report.failure import failure_markdown
from hefjoin.report.places import commands_markdown, links_markdown
from hefjoin.report.summary import Added, summary_markdown, verdict_text
from hefjoin.stores import Store

LAST_BUILDS = 20


def leave_summary(build: Build, store: Store) -> None:
    """Leave the page of a build."""
    from hefjoin.report import pictures

    manifest = build.manifest
    what = f"throughput at batch {min(manifest.spec.benchmark.batch_sizes)}"
    added = Added(
        links=links_markdown(build.published, served_stores()),
        snr=pictures.snr_image(manifest),
        history=pictures.history_image(_past(manifest, store, what), what),
        graph=pictures.graph_image(manifest),
        commands=commands_markdown(build.published),
    )
    text = summary_markdown(manifest, added)
    create_markdown_artifact(text, key=_key(manifest.spec.name), description=verdict_text(manifest))


def leave_failure(error: HefJoinError, name: str) -> None:
    """Leave the page of a build that failed; `name` is empty where its spec could not be read."""
    text = failure_markdown(error, f"build {name}" if name else "the build")
    create_markdown_artifact(text, key=_key(name or "failed"), description=error.message.partition("\n")[0].rstrip(":"))


def _past(manifest: Manifest, store: Store, what: str) -> list[tuple[str, float, str]]:
    entries = history(store, manifest.sdk.provider, manifest.spec.name, LAST_BUILDS)
    found = [(entry.created_at, figure) for entry in entries if (figure := entry.figures.get(what))]
    return [(moment, figure.value, figure.source) for moment, figure in found if figure.value is not None]


def _key(name: str) -> str:
    """Return an artifact's key, which may hold small letters, digits and dashes only."""
    return f"build-{re.sub('[^a-z0-9]+', '-', name)}"
