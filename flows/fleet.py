"""Build many specs at once, each as a run of its own across the pool of builders, with one page of results."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import device as elsewhere
from flows.together import Wanted, build_all, leave_page
from flows.worker import end_with_worker
from hefjoin.catalogue.listing import listed
from hefjoin.catalogue.survey import read_all
from hefjoin.folders import STORE
from hefjoin.report.fleet import Outcome, sentence
from hefjoin.sdk.toolchain import Choice
from hefjoin.service import require_store
from hefjoin.stores import open_store
from tasks.log import keep_to_the_point


@flow(name="fleet", flow_run_name="fleet", persist_result=False)
def fleet(
    specs: str,
    store: str = STORE,
    sdk: Choice = "auto",
    device: elsewhere.Choice = "inline",
    force: bool = False,
) -> State[Any]:
    """Build a list of specs side by side, as many at once as the pool of builders has room for.

    Args:
        specs: One a line: a spec, or a folder or s3://bucket/prefix with specs in it.
        store: Where artifacts go: a folder or s3://bucket/prefix.
        sdk: Which compiler: the DFC, the emulator, or auto: the DFC where one is configured.
        device: Where HEFs are measured: inline, on the machines that build; pool, on those of the pool hailo8.
        force: Build everything anew, though nothing changed.
    """
    end_with_worker()
    keep_to_the_point()
    require_store(store)
    place = open_store(store)
    entries = read_all(listed(specs))
    wanted = [Wanted(each.spec, each.uri, f"{flow_run.id}-{each.name}") for each in entries if each.spec]
    built = build_all(wanted, {"store": store, "sdk": sdk, "device": device, "force": force}, since_s=0.0)
    by_uri = {outcome.uri: outcome for outcome in built}
    outcomes = [
        by_uri.get(each.uri) or Outcome(name=each.name, uri=each.uri, ending="not started", problem=each.problem)
        for each in entries
    ]
    leave_page("fleet", f"Fleet of {len(entries):,}", outcomes, (), place)
    end = Failed if any(outcome.is_failed for outcome in outcomes) else Completed
    return end(message=sentence(outcomes))
