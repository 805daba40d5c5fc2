"""Build again what changed: looks through a catalogue and builds the specs that are due, each as a run of its own."""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from flows import device as elsewhere
from flows.together import Wanted, build_all, leave_page
from flows.worker import end_with_worker
from hefjoin.catalogue.listing import specs_in
from hefjoin.catalogue.survey import Entry, read_all, survey
from hefjoin.folders import STORE
from hefjoin.report.fleet import Outcome, sentence
from hefjoin.sdk.toolchain import Choice
from hefjoin.service import require_store
from hefjoin.stores import open_store
from tasks.log import keep_to_the_point

SHOWN = 10

logger = logging.getLogger("hefjoin.flows")


@flow(name="rebuild", flow_run_name="rebuild {catalogue}", persist_result=False)
def rebuild(
    catalogue: str, store: str = STORE, sdk: Choice = "auto", device: elsewhere.Choice = "inline", uses: str = ""
) -> State[Any]:
    """Build those specs of a catalogue of which something changed since they were built; the others are left alone.

    Args:
        catalogue: A folder or s3://bucket/prefix with specs in it.
        store: Where artifacts go: a folder or s3://bucket/prefix.
        sdk: Which compiler: the DFC, the emulator, or auto: the DFC where one is configured.
        device: Where HEFs are measured: inline, on the machines that build; pool, on those of the pool hailo8.
        uses: Only specs that use this source, a path or an address. Empty: all.
    """
    end_with_worker()
    keep_to_the_point()
    since_s = time.time()
    require_store(store)
    place = open_store(store)
    entries = survey(read_all(specs_in(catalogue)), place, sdk, uses)
    due = [each for each in entries if each.is_due]
    for entry in entries:
        logger.info("%s: %s", entry.name, _words(entry))
    wanted = [
        Wanted(each.spec, each.uri, each.due.key, "; ".join(each.due.reasons)) for each in due if each.spec and each.due
    ]
    outcomes = build_all(wanted, {"store": store, "sdk": sdk, "device": device}, since_s)
    broken = [
        Outcome(name=each.name, uri=each.uri, ending="not started", problem=each.problem)
        for each in entries
        if each.problem and not (uses and each.spec is None)
    ]
    remarks = _remarks(entries, uses)
    title = f"Rebuild of {catalogue}" + (f" for {uses}" if uses else "")
    leave_page("rebuild", title, [*outcomes, *broken], remarks, place)
    return _ending([*outcomes, *broken], entries, remarks[0])


def _ending(outcomes: list[Outcome], entries: list[Entry], remark: str) -> State[Any]:
    if any(outcome.is_failed for outcome in outcomes):
        return Failed(message=sentence(outcomes))
    if not outcomes:
        return Completed(message=f"nothing was built: {remark}")
    return Completed(message=f"{sentence(outcomes)}; {remark}")


def _words(entry: Entry) -> str:
    if entry.problem or entry.due is None:
        return entry.problem
    return "; ".join(entry.due.reasons) or f"nothing changed since build {entry.due.since}"


def _remarks(entries: list[Entry], uses: str) -> list[str]:
    """Return what is to be said besides the builds: how many were not due, and what could not be told."""
    unchanged = [each for each in entries if each.due is not None and not each.due.reasons]
    names = ", ".join(each.name for each in unchanged[:SHOWN])
    more = f" and {len(unchanged) - SHOWN} more" if unchanged[SHOWN:] else ""
    about = f"nothing changed of {len(unchanged):,} of {len(entries):,} specs"
    if uses and not any(each.spec for each in entries):
        about = f"no spec uses {uses}"
    remarks = [f"{about}: {names}{more}" if names else about]
    remarks += [f"{each.uri}, of which it is not known whether it uses {uses}: {each.problem}"
                for each in entries if uses and each.problem and each.spec is None]  # fmt: skip
    return remarks + [f"{each.name}: not known is {text}" for each in entries if each.due for text in each.due.unknown]
