"""What the server does by itself when something happens.

The rules: a run that is heard of no more is crashed; a crashed run is taken up again, by whichever worker is free, from
what had finished; one that crashed three times has failed. Prefect counts an attempt when the flow begins, so one that
cannot even be loaded is not tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient

from deployments.compare import is_so

NOTIFY = "HEFJOIN_NOTIFY_URL"
"""Environment variable with the URL that is told of failed gates; Slack and Mattermost understand what it gets."""
BLOCK = "hefjoin-notify"
SILENT_SECONDS = 90
"""Three heartbeats."""
SIGNS_OF_LIFE = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
ATTEMPTS = 3
GIVEN_UP = (
    "The run crashed three times in a row and is not taken up again: its machine, worker or process died each time. "
    "What had finished is kept; find out why, then Retry goes on from there."
)
RETAKEN = ("join-and-compile/builders", "join-and-compile/from-file", "rebuild/nightly", "fleet/fleet")
"""Deployments whose crashed runs are taken up again. A build that waits for its benchmark hears of that one's crash."""

GATE_FAILED = """{
  "text": {{ ("hefjoin: " ~ event.resource.name ~ ": " ~ event.payload.text
              ~ " (build " ~ event.payload.build ~ " in " ~ event.payload.store ~ ")") | tojson }},
  "event": {{ event.event | tojson }},
  "build": {{ event.payload | tojson }}
}"""
"""What the URL is sent, a template of the event's resource and payload (`tasks/publish.py`)."""


def apply(client: SyncPrefectClient, deployments: Mapping[str, str], notify_url: str | None) -> Iterator[str]:
    """Make the automations of the server what they should be; yields a line for each.

    Args:
        client: Of the server.
        deployments: Id by full name.
        notify_url: Who is told of failed gates; None: what was set up before stays.
    """
    wanted = [_silent(), *_crashed(deployments)]
    if rebuild := deployments.get("rebuild/nightly"):
        wanted.append(_model_put(rebuild))
    if notify_url:
        block = Webhook(url=notify_url, method="POST", headers={"Content-Type": "application/json"})
        wanted.append(_gate_failed(str(block.save(BLOCK, overwrite=True))))
    present = {each["name"]: each for each in client.request("POST", "/automations/filter", json={}).json()}
    for each in wanted:
        name = f"automation {each['name']}"
        if (found := present.get(each["name"])) is None:
            client.request("POST", "/automations/", json=each)
            yield f"{name}: made"
        elif is_so({**each, "enabled": found["enabled"]}, found):
            yield f"{name}: unchanged"
        else:
            content = {**each, "enabled": found["enabled"]}
            client.request("PUT", "/automations/{id}", path_params={"id": found["id"]}, json=content)
            yield f"{name}: changed"


def _silent() -> dict[str, Any]:
    return {
        "name": "hefjoin: a silent run is crashed",
        "description": f"No heartbeat for {SILENT_SECONDS} s: the machine or the process is gone.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "after": ["prefect.flow-run.heartbeat"],
            "expect": [f"prefect.flow-run.{sign}" for sign in SIGNS_OF_LIFE],
            "threshold": 1,
            "within": SILENT_SECONDS,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": f"No heartbeat for {SILENT_SECONDS} s: machine, worker or process is gone.",
            }
        ],
    }


def _crashed(deployments: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the automations for a first or second crash, and for the third."""
    ids = [f"prefect.deployment.{deployments[name]}" for name in RETAKEN if name in deployments]
    common = {
        "type": "event",
        "posture": "Reactive",
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.id": ids},
        "for_each": ["prefect.resource.id"],
        "expect": ["prefect.flow-run.Crashed"],
        "threshold": 1,
        "within": 0,
    }
    runs = {"prefect.resource.id": "prefect.flow-run.*"}
    attempts = [str(number) for number in range(1, ATTEMPTS)]
    yield {
        "name": "hefjoin: a crashed run is taken up again",
        "description": "What had finished is reused.",
        "enabled": True,
        "trigger": {**common, "match": {**runs, "prefect.run-count": attempts}},
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "SCHEDULED",
                "name": "AwaitingRetry",
                "message": "Taken up again after a crash; what had finished is reused.",
            }
        ],
    }
    yield {
        "name": "hefjoin: a run that crashed three times has failed",
        "description": "It would crash for ever.",
        "enabled": True,
        "trigger": {
            **common,
            "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": str(ATTEMPTS)},
        },
        "actions": [{"type": "change-flow-run-state", "state": "FAILED", "name": "Failed", "message": GIVEN_UP}],
    }


def _model_put(rebuild: str) -> dict[str, Any]:
    return {
        "name": "hefjoin: a new model rebuilds what uses it",
        "description": "`hefjoin put` published a model.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "match": {"prefect.resource.id": "hefjoin.model.*"},
            "for_each": [],
            "expect": ["hefjoin.model.put"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment_id": rebuild,
                "parameters": {"uses": {"__prefect_kind": "jinja", "template": "{{ event.payload.uri }}"}},
            }
        ],
    }


def _gate_failed(block: str) -> dict[str, Any]:
    return {
        "name": "hefjoin: a failed gate is told",
        "description": f"To {NOTIFY} of `make deploy`.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "match": {"prefect.resource.id": "hefjoin.build.*"},
            "for_each": [],
            "expect": ["hefjoin.gate.failed"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [{"type": "call-webhook", "block_document_id": block, "payload": GATE_FAILED}],
    }
