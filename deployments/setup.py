"""Make the server what this checkout says: pools, deployments, automations; what is so already is left.

The rule: applied twice, the second changes nothing. A schedule that a person switched on or off stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.utilities.templating import apply_values

from deployments import automations
from deployments.compare import is_so, told
from deployments.settings import CATALOGUE, DEFAULT_STORE
from flows.auth import CLIENT, auth_file
from hefjoin.errors import ToolchainError
from hefjoin.folders import STORE

DECLARED = Path(__file__).with_name("prefect.yaml")
POOLS = {
    "builders": "Builds: parse, join, quantize, compile. They take cores, memory and the compiler.",
    "hailo8": "Benchmarks, on machines with a Hailo-8.",
    "control": "Flows that start others and wait for them; they cost nothing while they wait.",
}
JOB = {
    "job_configuration": {"env": {}, "stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""A worker's job, without variables: who starts a run cannot choose its command, its environment or its folder."""

Answer = dict[str, Any]


def apply(say: Callable[[str], None]) -> None:
    """Apply all of it to the server that the environment names.

    Args:
        say: Called with a line for each thing: its name, and whether it was made, changed or left.

    Raises:
        ToolchainError: The server does not answer, or refuses the auth string.
    """
    os.environ.setdefault(DEFAULT_STORE, STORE)
    os.environ.setdefault(CATALOGUE, "catalogue")
    url = os.environ["PREFECT_API_URL"]
    try:
        with get_client(sync_client=True) as client:
            client.request("GET", "/admin/version")
            for name, description in POOLS.items():
                say(f"pool {name}: {_apply_pool(client, name, description)}")
            ids = {}
            for entry in declared():
                name, ids[name], done = _apply_deployment(client, entry)
                say(f"deployment {name}: {done}")
            for line in automations.apply(client, ids, os.environ.get(automations.NOTIFY)):
                say(line)
    except httpx.ConnectError as error:
        raise ToolchainError(
            f"no Prefect server answers at {url}; start one with `make server`, or set PREFECT_API_URL", log_tail=""
        ) from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise
        raise ToolchainError(
            f"the Prefect server at {url} refuses the auth string; set {CLIENT} to the server's, or copy {auth_file()} "
            "from the server's machine",
            log_tail="",
        ) from error


def declared() -> Iterator[Answer]:
    """Yield the deployments of prefect.yaml, with what the environment says filled in."""
    content = yaml.safe_load(DECLARED.read_text(encoding="utf-8"))
    for entry in content["deployments"]:
        yield {"pull": content["pull"], **apply_values(entry, dict(os.environ))}


def _apply_pool(client: SyncPrefectClient, name: str, description: str) -> str:
    wanted = {"description": description, "base_job_template": JOB}
    if (found := _found(client, "/work_pools/{name}", {"name": name})) is None:
        client.request("POST", "/work_pools/", json={"name": name, "type": "process", **wanted})
        return "made"
    changes = [field for field in wanted if wanted[field] != found[field]]
    if changes:
        client.request("PATCH", "/work_pools/{name}", path_params={"name": name}, json=wanted)
    return told(changes)


def _apply_deployment(client: SyncPrefectClient, entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the deployment's full name, its id, and what was done."""
    flow = import_object(entry["entrypoint"])
    wanted = _wanted(flow, entry)
    names = {"flow_name": flow.name, "deployment_name": entry["name"]}
    full_name = "{flow_name}/{deployment_name}".format(**names)
    if (found := _found(client, "/deployments/name/{flow_name}/{deployment_name}", names)) is None:
        identity = str(client.create_flow_from_name(flow.name))
        made = client.request("POST", "/deployments/", json={"flow_id": identity, "name": entry["name"], **wanted})
        return full_name, made.json()["id"], "made"
    changes = _changes(wanted, found)
    if changes:
        content = {field: wanted[field] for field in changes}
        client.request("PATCH", "/deployments/{id}", path_params={"id": found["id"]}, json=content)
    return full_name, found["id"], told(list(changes))


def _found(client: SyncPrefectClient, path: Any, names: dict[str, str]) -> Answer | None:
    """Return what the server has at a path; None where it has nothing."""
    try:
        found: Answer = client.request("GET", path, path_params=names).json()
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return None
    return found


def _wanted(flow: Any, entry: Mapping[str, Any]) -> Answer:
    """Return a deployment as the server stores it."""
    schema = parameter_schema(flow).model_dump_for_openapi()
    limit = entry.get("concurrency_limit", {})
    return {
        "description": entry["description"],
        "entrypoint": entry["entrypoint"],
        "pull_steps": entry["pull"],
        "work_pool_name": entry["work_pool"]["name"],
        "parameters": entry.get("parameters", {}),
        "tags": entry["tags"],
        "enforce_parameter_schema": entry["enforce_parameter_schema"],
        "parameter_openapi_schema": {**schema, "additionalProperties": False},
        "concurrency_limit": limit.get("limit"),
        "concurrency_options": {"collision_strategy": limit["collision_strategy"]} if limit else None,
        "schedules": [_schedule(each) for each in entry.get("schedules", [])],
    }


def _schedule(entry: Mapping[str, Any]) -> Answer:
    """Return a schedule as the server stores it."""
    kinds = ("cron", "interval", "timezone")
    return {
        "schedule": {field: entry[field] for field in kinds if field in entry},
        "active": entry["active"],
        "slug": entry["slug"],
        "parameters": entry.get("parameters", {}),
    }


def _changes(wanted: Answer, found: Answer) -> list[str]:
    """Return the fields that are not as wanted; gives schedules that are there the switch that they have."""
    limit = found.pop("global_concurrency_limit", None)
    found["concurrency_limit"] = limit["limit"] if limit else None
    switches = {each["slug"]: each["active"] for each in found["schedules"]}
    for each in wanted["schedules"]:
        each["active"] = switches.get(each["slug"], each["active"])
    return [field for field in wanted if not _is_equal(field, wanted[field], found[field])]


def _is_equal(field: str, wanted: Any, found: Any) -> bool:
    """Return whether a field is as wanted; a schema must say no more than that."""
    return bool(wanted == found) if field == "parameter_openapi_schema" else is_so(wanted, found)
