"""Rebuild, fleet and trigger as Prefect's server knows them, where nothing has to be built; e2e tests build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed, Running, State

from flows.cli import main
from flows.fleet import fleet
from flows.rebuild import rebuild
from flows.together import BUILDS, _attempt
from tests.flows.runs import artifacts
from tests.tiny import write_pair


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def deployment() -> UUID:
    """A deployment of builds that no worker serves."""
    with get_client(sync_client=True) as client:
        flow_name, _, name = BUILDS.partition("/")
        return client.create_deployment(client.create_flow_from_name(flow_name), name)


class TestRebuild:
    def test_a_catalogue_of_broken_specs_fails_and_says_what_is_wrong_with_each(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("name: [")
        (tmp_path / "b.yaml").write_text("name: b\nmodels: []\n")
        state: Any = rebuild(str(tmp_path), str(tmp_path / "store"), "emulator", return_state=True)
        assert state.is_failed()
        assert "2 failed" in state.message
        (page,) = artifacts(state.state_details.flow_run_id)
        assert "is not YAML" in page.data
        assert "calibration: is required" in page.data

    def test_where_no_spec_uses_what_changed_nothing_is_built_and_one_that_is_broken_is_only_told(
        self, tmp_path: Path
    ) -> None:
        write_pair(tmp_path)
        (tmp_path / "b.yaml").write_text("name: [")
        arguments = (str(tmp_path), str(tmp_path / "store"), "emulator")
        state: Any = rebuild(*arguments, uses=str(tmp_path / "other.onnx"), return_state=True)
        assert state.is_completed()
        assert state.message.startswith("nothing was built: no spec uses ")
        (page,) = artifacts(state.state_details.flow_run_id)
        assert "of which it is not known whether it uses" in page.data
        assert not (tmp_path / "store").exists()


def test_a_fleet_of_broken_specs_leaves_a_page(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: [")
    state: Any = fleet(str(tmp_path), str(tmp_path / "store"), "emulator", return_state=True)
    assert state.is_failed()
    assert len(list((tmp_path / "store" / "pages" / "fleet").iterdir())) == 1


@pytest.mark.parametrize(
    ("state", "passed_over"),
    [(Running(), False), (Completed(), True), (Failed(), True), (Cancelled(), True)],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
def test_a_key_is_that_of_a_run_that_goes_on_or_ended_just_now(
    client: SyncPrefectClient, deployment: UUID, state: State[Any], passed_over: bool
) -> None:
    key, before = f"key-{time.time_ns()}", time.time() - 60
    assert _attempt(key, before) == f"{key}-0"
    run = client.create_flow_run_from_deployment(deployment, idempotency_key=f"{key}-0")
    client.set_flow_run_state(run.id, Running(), force=True)
    client.set_flow_run_state(run.id, state, force=True)
    assert _attempt(key, before) == f"{key}-0"
    assert _attempt(key, time.time() + 60) == (f"{key}-1" if passed_over else f"{key}-0")


class TestTrigger:
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch, deployment: UUID) -> None:
        del deployment
        monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))

    def test_it_posts_the_spec_as_it_was_read_and_the_same_key_is_the_same_run(
        self, tmp_path: Path, client: SyncPrefectClient
    ) -> None:
        path, key = str(write_pair(tmp_path)), f"commit-{time.time_ns()}"
        first, again = (
            CliRunner().invoke(main, ["trigger", path, "--key", key, "--sdk", "emulator"]) for _ in range(2)
        )
        assert (first.exit_code, again.exit_code) == (0, 0), first.output
        assert "a path, which the machine that builds must see too" in first.output
        assert "was asked for before (Scheduled)" in again.output
        run_id = next(line.split()[2] for line in first.output.splitlines() if line.startswith("tiny: run "))
        assert run_id in again.output
        run = client.read_flow_run(UUID(run_id))
        assert run.parameters["spec"]["models"][0]["source"] == str(tmp_path / "left.onnx")
        assert (run.parameters["sdk"], run.name) == ("emulator", "build tiny")
        assert "store" not in run.parameters

    def test_without_a_key_each_call_is_a_run(self, tmp_path: Path) -> None:
        path = str(write_pair(tmp_path))
        outputs = [CliRunner().invoke(main, ["trigger", path]).output for _ in range(2)]
        assert outputs[0] != outputs[1]
        assert "asked for before" not in outputs[1]
