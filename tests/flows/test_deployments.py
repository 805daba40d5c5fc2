"""What is declared can be deployed: every entrypoint, parameter, pool and schedule, and the units."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import jsonschema
import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.workers.base import BaseWorker
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from deployments import automations, steps
from deployments.compare import is_so
from deployments.mended import mend_server, mend_worker
from deployments.setup import DECLARED, POOLS, declared

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deployments" / "systemd").glob("*.service"))
ENTRIES = yaml.safe_load(DECLARED.read_text(encoding="utf-8"))["deployments"]


@pytest.fixture(params=ENTRIES, ids=lambda entry: entry["name"])
def entry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("HEFJOIN_STORE", "s3://bucket/store")
    monkeypatch.setenv("HEFJOIN_CATALOGUE", "s3://bucket/catalogue")
    (found,) = [each for each in declared() if each["name"] == request.param["name"]]
    return found


def test_the_default_parameters_are_what_the_flow_takes(entry: dict[str, Any]) -> None:
    flow = import_object(entry["entrypoint"])
    assert isinstance(flow, Flow)
    schema = parameter_schema(flow).model_dump_for_openapi()
    given = {"type": "object", "properties": schema["properties"], "definitions": schema.get("definitions", {})}
    jsonschema.validate(entry.get("parameters", {}), {**given, "additionalProperties": False})


def test_it_is_strict_told_of_and_in_a_pool_that_there_is(entry: dict[str, Any]) -> None:
    assert entry["enforce_parameter_schema"] is True
    assert entry["description"]
    assert entry["work_pool"]["name"] in POOLS
    assert "hefjoin" in entry["tags"]


def test_its_schedules_wait_to_be_switched_on(entry: dict[str, Any]) -> None:
    for schedule in entry.get("schedules", []):
        assert schedule["active"] is False
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_a_folder_or_bucket_for_the_store_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEFJOIN_STORE", "s3://bucket/store")
    (build,) = [each for each in declared() if each["name"] == "builders"]
    assert build["parameters"]["store"] == "s3://bucket/store"


def test_what_is_retaken_is_deployed() -> None:
    names = {f"{import_object(each['entrypoint']).name}/{each['name']}" for each in ENTRIES}
    assert set(automations.RETAKEN) <= names


def test_a_run_begins_where_its_worker_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert steps.enter_home() == {"directory": str(ROOT)}
    assert Path.cwd() == ROOT
    monkeypatch.setenv(steps.HOME, str(tmp_path))
    assert steps.enter_home() == {"directory": str(tmp_path)}
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("wanted", "found", "so"),
    [
        ({"a": 1}, {"a": 1, "id": 7}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {}, False),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, True),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": 2}]}, True),
        ({"a": [{"x": 1}]}, {"a": []}, False),
        ({"a": {"x": 1}}, {"a": None}, False),
        (90, 90.0, True),
    ],
)
def test_what_is_so_is_left(wanted: Any, found: Any, so: bool) -> None:
    assert is_so(wanted, found) is so


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_units_are_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/hefjoin/.venv/bin/python", sys.executable)
        (tmp_path / unit.name.replace("@", "@builders")).write_text(text.replace("/opt/hefjoin", str(ROOT)))
    paths = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_units_leave_nothing_and_open_little(unit: Path) -> None:
    lines = unit.read_text(encoding="utf-8").splitlines()
    for wanted in (
        "KillMode=control-group",
        "Restart=always",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "UMask=0077",
    ):
        assert wanted in lines


def test_a_worker_leaves_a_run_alone_that_it_is_still_at(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[str] = []

    wanted = inspect.signature(BaseWorker._submit_scheduled_flow_runs).parameters

    async def submit(worker: Any, flow_run_response: list[Any]) -> list[Any]:
        for each in flow_run_response:
            worker._limiter.acquire_on_behalf_of_nowait(each.flow_run.id)
            submitted.append(each.flow_run.id)
        return flow_run_response

    async def take(*names: str) -> None:
        limiter = anyio.CapacityLimiter(2)
        worker = SimpleNamespace(_limiter=limiter)
        for name in names:
            runs: Any = [SimpleNamespace(flow_run=SimpleNamespace(id=name))]
            await BaseWorker._submit_scheduled_flow_runs(worker, flow_run_response=runs)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseWorker, "_submit_scheduled_flow_runs", submit)
    with pytest.raises(RuntimeError, match="already holding"):
        anyio.run(take, "one", "one")
    submitted.clear()
    mend_worker()
    assert list(wanted) == ["self", "flow_run_response"]
    anyio.run(take, "one", "one", "two")
    assert submitted == ["one", "two"]


def test_transactions_that_read_first_and_write_then_take_turns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of those as Prefect begins them some fail, as another wrote meanwhile; of those that take turns none does."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    async def counted_at_once(name: str) -> tuple[int, list[BaseException | None]]:
        configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / name}")
        engine = await configuration.engine()

        async def count() -> None:
            async with await configuration.session(engine) as session, configuration.begin_transaction(session):
                found = (await session.execute(text("SELECT count FROM runs"))).scalar_one()
                await asyncio.sleep(0.05)
                await session.execute(text("UPDATE runs SET count = :next"), {"next": found + 1})

        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE runs AS SELECT 0 AS count"))
        ended = await asyncio.gather(*(count() for _ in range(5)), return_exceptions=True)
        async with engine.begin() as connection:
            reached = (await connection.execute(text("SELECT count FROM runs"))).scalar_one()
        await engine.dispose()
        return reached, ended

    reached, ended = asyncio.run(counted_at_once("as-it-comes.db"))
    failed = [each for each in ended if each is not None]
    assert reached + len(failed) == 5
    assert failed
    assert all(isinstance(each, OperationalError) and "database is locked" in str(each) for each in failed)
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    mend_server()
    assert asyncio.run(counted_at_once("mended.db")) == (5, [None] * 5)
