"""Builds of several specs, each as a run of its own across the pool of builders, and one page of what came of them.

The rule: one that fails stops no other, and what is not started is told of like what failed.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from flows import child
from flows.outcome import build_and_verdict, problem
from hefjoin.artifacts import Ref
from hefjoin.builds.find import find_published, read_manifest
from hefjoin.errors import HefJoinError
from hefjoin.report.fleet import Outcome, fleet_markdown, render_fleet
from hefjoin.spec import BuildSpec
from hefjoin.stores import Store, open_store

BUILDS = "join-and-compile/builders"
MOST_ATTEMPTS = 100
"""At what was due for the same reasons each time."""

logger = logging.getLogger("hefjoin.flows")


class Wanted(NamedTuple):
    """A spec to build."""

    spec: BuildSpec
    uri: str
    """Where it lies."""
    key: str
    """What is wanted: two runs that want the same get one build."""
    why: str = ""
    """What made it due; empty where it was asked for."""


def build_all(wanted: Sequence[Wanted], parameters: Mapping[str, Any], since_s: float) -> list[Outcome]:
    """Start a run for each spec, wait for all, and return what came of each, in their order.

    Args:
        wanted: The specs.
        parameters: What all builds get besides their spec; `store` is one.
        since_s: When it was found that they are to be built, seconds since 1970: a run that ended before was another's.
    """
    store = open_store(str(parameters["store"]))
    outcomes: dict[int, Outcome] = {}
    runs: dict[UUID, list[int]] = {}
    started: list[UUID] = []
    with child.cancelled_with_parent(started):
        for index, each in enumerate(wanted):
            try:
                run_id = _start(each, parameters, since_s)
            except HefJoinError as error:
                outcomes[index] = _not_started(each, error.message)
                continue
            started.append(run_id)
            runs.setdefault(run_id, []).append(index)
            logger.info("%s: run %s%s", each.spec.name, run_id, f", because {each.why}" if each.why else "")
        for run in child.ended(list(runs)) if runs else ():
            for index in runs[run.id]:
                outcomes[index] = _outcome(wanted[index], run, store)
                logger.info("%s: %s", wanted[index].spec.name, outcomes[index].problem or outcomes[index].ending)
    return [outcomes.get(index) or _not_started(each, "its run was deleted") for index, each in enumerate(wanted)]


def leave_page(kind: str, title: str, outcomes: Sequence[Outcome], remarks: Sequence[str], store: Store) -> str:
    """Leave one page of all outcomes in the store and in the Prefect UI; return where it lies, nowhere if none are.

    Args:
        kind: `fleet` or `rebuild`; pages of one kind are kept together.
        title: Of the page.
        outcomes: What came of each spec.
        remarks: What else is to be said.
        store: Where the page goes.
    """
    uri = _stored(kind, title, outcomes, remarks, store) if outcomes else ""
    create_markdown_artifact(fleet_markdown(title, outcomes, remarks, uri), key=kind, description=title)
    return uri


def _stored(kind: str, title: str, outcomes: Sequence[Outcome], remarks: Sequence[str], store: Store) -> str:
    """Leave the page with a record that names it; that comes first, or `gc` might not see what the page is for."""
    moment = time.gmtime()
    key = f"pages/{kind}/{time.strftime('%Y%m%d-%H%M%S', moment)}-{uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        page = render_fleet(title, time.strftime("%Y-%m-%dT%H:%M:%SZ", moment), outcomes, remarks)
        path.write_text(page, encoding="utf-8")

        def announce(ref: Ref) -> None:
            store.create_record(key, {"title": title, "page": ref.model_dump(mode="json")})

        return store.put(path, "html", announce).uri


def _start(wanted: Wanted, parameters: Mapping[str, Any], since_s: float) -> UUID:
    return child.start(
        BUILDS,
        {**parameters, "spec": wanted.spec.model_dump(mode="json")},
        name=f"build {wanted.spec.name}",
        idempotency_key=_attempt(wanted.key, since_s),
    )


def _attempt(key: str, since_s: float) -> str:
    """Return the key under which to ask: that of a run that has not ended or just did, else one that none has yet.

    What failed before is tried again, when it is due for the same reasons as then.
    """
    keys = [f"{key}-{number}" for number in range(MOST_ATTEMPTS)]
    known = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys))
    with get_client(sync_client=True) as client:
        runs = {run.idempotency_key: run for run in client.read_flow_runs(flow_run_filter=known)}
    over = {name for name, run in runs.items() if run.end_time is not None and run.end_time.timestamp() < since_s}
    return next((each for each in keys if each not in over), f"{key}-{uuid4().hex}")


def _outcome(wanted: Wanted, run: FlowRun, store: Store) -> Outcome:
    about = {
        "name": wanted.spec.name,
        "uri": wanted.uri,
        "why": wanted.why,
        "seconds": run.total_run_time.total_seconds(),
        "run_url": url_for("flow-run", run.id) or "",
    }
    built, _ = build_and_verdict(run)
    if not built:
        ending = "cancelled" if run.state and run.state.is_cancelled() else "failed"
        return Outcome(**about, ending=ending, problem=problem(run))
    try:
        published = find_published(built, store)
        manifest = read_manifest(store, published)
    except HefJoinError as error:
        return Outcome(**about, ending="failed", problem=f"build {built} cannot be read: {error.message}")
    places = {"report_uri": published.report.uri, "hef_uri": published.hef.uri}
    return Outcome(**about, ending="built", build=manifest, **places)


def _not_started(wanted: Wanted, message: str) -> Outcome:
    return Outcome(name=wanted.spec.name, uri=wanted.uri, ending="not started", why=wanted.why, problem=message)
