"""A benchmark that is handed to another machine: who measured, who did not, and what comes of deaths on either side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running

from flows import benchmark as benchmark_flow
from flows import child, device
from flows.benchmark import benchmark
from flows.build import join_and_compile
from flows.device import Elsewhere, benchmark_elsewhere
from hefjoin.builds.find import Build
from hefjoin.builds.gc import Keep, waste
from hefjoin.devices.hailort import HailoRtDevice
from hefjoin.errors import DeviceError, InputError, StoreError
from hefjoin.manifest import Machine
from hefjoin.results.checked import Frames
from hefjoin.results.sources import Sdk
from hefjoin.sdk.toolchain import Toolchain
from hefjoin.spec_file import read_spec
from hefjoin.stages.benchmark import Benchmark
from hefjoin.stores import Store, claims, open_store
from hefjoin.stores.pins import HANDED_OVER, running
from tasks.site import Site, run_stage
from tests import runtime
from tests.flows.pool import Clock, deploy, set_state
from tests.flows.runs import artifacts
from tests.tiny import images, pair, write_pair
from tests.unit.test_benchmark_stage import COUNT, HEALTH, LAYERS

DEVICE_HOST = Machine(host="device-1", platform="Linux", cpu="ARM Cortex-A76", cores=4)


@pytest.fixture(scope="module", autouse=True)
def deployment(prefect_server: None) -> Iterator[None]:
    """The pool's deployment, and a machine of another name behind it."""
    del prefect_server
    deploy(*device.DEPLOYMENT.split("/"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_flow, "machine", lambda: DEVICE_HOST)
        patch.setenv(device.WAIT, "5")
        yield


def runs(name: str) -> list[Any]:
    """Return the benchmark's runs, the newest first."""
    wanted = FlowRunFilter(name=FlowRunFilterName(any_=[f"benchmark {name}"]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC)


class Worker:
    """What a worker of the pool does with the newest run."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def run_id(self) -> UUID:
        return runs(self.name)[0].id

    def begin(self) -> None:
        set_state(self.run_id, Pending())
        set_state(self.run_id, Running())

    def measure(self) -> None:
        benchmark.fn(**runs(self.name)[0].parameters)

    def end(self) -> None:
        set_state(self.run_id, Completed())

    def crash(self) -> None:
        set_state(self.run_id, Crashed(message="killed"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder, pair(gates={"min_fps": 1}))
    return folder


@pytest.fixture(scope="module")
def built(desk: Path) -> Iterator[Build]:
    """The main job, its benchmark handed over."""
    worker = Worker("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEFJOIN_WORK", str(desk / "work"))
        Clock(patch).then(worker.begin, worker.measure)
        spec = read_spec(desk / "tiny.yaml")
        yield join_and_compile(spec, store=str(desk / "store"), sdk="emulator", device="pool")


class TestABuild:
    def test_the_manifest_says_who_measured_and_as_what(self, built: Build) -> None:
        manifest = built.manifest
        assert manifest.measured_by is not None
        assert manifest.measured_by.machine == DEVICE_HOST != manifest.machine
        assert manifest.measured.source == "emulator"
        assert [gate.verdict for gate in manifest.gates] == ["not evaluated"]
        assert [run.stage for run in manifest.stages][-2:] == ["benchmark", "score"]

    def test_the_page_says_it_too(self, built: Build, desk: Path) -> None:
        page = open_store(str(desk / "store")).get(built.published.report, desk / "report.html").read_text("utf-8")
        assert "Measured by device-1 (ARM Cortex-A76)." in page

    def test_nothing_of_the_hand_over_is_left(self, built: Build, desk: Path) -> None:
        del built
        store = open_store(str(desk / "store"))
        assert [key for root in (HANDED_OVER, "claims", "pins") for key in store.list_records(root)] == []
        assert waste(store, Keep(builds=1)).is_empty

    def test_a_person_has_it_measured_anew_and_sees_a_page(self, built: Build, desk: Path) -> None:
        state: Any = benchmark("tiny", str(desk / "store"), return_state=True)
        assert [batch.batch_size for batch in state.result().batches] == [1, 2]
        page = {each.key: each.data for each in artifacts(state.state_details.flow_run_id)}["benchmark-tiny"]
        assert f"tiny: {built.manifest.build_id} measured anew" in page
        assert "by device-1" in page
        assert page.count("(emulator)") == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pool")
    with runtime.installed(folder, frame_ms=0.2, queue=8) as patch:
        patch.setenv("HEFJOIN_WORK", str(folder / "work"))
        yield folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_store(str(folder / "store"))


@pytest.fixture(scope="module")
def material(folder: Path, store: Store) -> Benchmark:
    """The benchmark of a real HEF, as the machine that builds sees it."""
    hef = runtime.write_dfc_hef(folder / "pair.hef")
    np.save(folder / "frames.npy", images(COUNT))
    given = HailoRtDevice().outputs(hef, folder / "frames.npy")
    exact: dict[str, Any] = {f"float_{index}": given[layer] for index, layer in enumerate(LAYERS)}
    np.savez(folder / "outputs.npz", allow_pickle=False, **exact)
    return Benchmark(
        name="pair",
        hef=store.put(hef, "hef"),
        is_emulated=False,
        evaluation=Frames(npy=store.put(folder / "frames.npy", "npy"), health=HEALTH),
        outputs=store.put(folder / "outputs.npz", "npz"),
        output_layers=LAYERS,
        batch_sizes=(1, 2),
        seconds=0.05,
        device="auto",
        host="builder-1",
    )


@pytest.fixture
def stage(material: Benchmark, request: pytest.FixtureRequest) -> Benchmark:
    """The same under a name of the test's own."""
    return material.model_copy(update={"name": request.node.name.removeprefix("test_")})


@pytest.fixture
def worker(stage: Benchmark, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """One that performs the stage without Prefect's task around it, which `TestABuild` has."""
    monkeypatch.setattr(benchmark_flow, "perform", lambda site, stage: run_stage(stage, site))
    return Worker(stage.name)


def hand_over(store: Store, stage: Benchmark, asks: Any = benchmark_elsewhere) -> Any:
    toolchain = Toolchain(sdk=Sdk(provider="dfc", version="3.33.0"), python=sys.executable)
    with running(store, "build pair") as build:
        return asks(Site(store=store.uri, work="", toolchain=toolchain, build=build), stage)


def test_the_figure_is_the_devices_and_its_key_the_other_machines(
    store: Store, stage: Benchmark, worker: Worker, clock: Clock
) -> None:
    clock.then(worker.begin, worker.measure)
    outcome, by, _ = hand_over(store, stage)
    assert outcome.value.source == "device"
    assert by.machine == DEVICE_HOST
    assert outcome.run.key != stage.key
    assert store.read_record(f"reuse/benchmark/{outcome.run.key}") is not None


class TestNobodyBegins:
    def test_the_build_is_not_measured_and_says_how_long_it_waited(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        clock.idle(10)
        outcome, by, _ = hand_over(store, stage)
        assert (outcome.value.source, outcome.value.batches, by) == ("not measured", (), None)
        assert "no worker of the pool hailo8 took the benchmark within 5 s" in outcome.value.device
        assert [run.state.name for run in runs(stage.name)] == ["Cancelled"]

    def test_a_worker_that_takes_it_just_then_and_is_stopped_leaves_no_figure(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def just_before(run_id: UUID) -> None:
            set_state(run_id, Pending())
            cancel(run_id)

        cancel = child.cancel
        monkeypatch.setattr(child, "cancel", just_before)
        quiet = [lambda: None] * 3
        clock.then(*quiet, lambda: None, lambda: set_state(worker.run_id, Cancelled()))
        outcome, by, _ = hand_over(store, stage)
        assert (outcome.value.source, by) == ("not measured", None)

    def test_one_that_was_done_before_it_could_be_stopped_is_believed(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cancel = child.cancel

        def just_before(run_id: UUID) -> None:
            worker.begin()
            worker.measure()
            worker.end()
            cancel(run_id)

        monkeypatch.setattr(child, "cancel", just_before)
        clock.idle(10)
        assert hand_over(store, stage).outcome.value.source == "device"


class TestAnEndWithoutAFigure:
    def test_an_error_of_the_device_is_the_builds_with_the_machine_that_met_it(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, folder: Path
    ) -> None:
        def refuse() -> None:
            with pytest.MonkeyPatch.context() as patch:
                runtime.switch(patch, folder, architecture="HAILO15H")
                with pytest.raises(DeviceError):
                    worker.measure()

        clock.then(worker.begin, refuse)
        with pytest.raises(DeviceError, match=r"(?s)^\S+: pair does not run .*HAILO15H") as found:
            hand_over(store, stage)
        assert (found.value.reason, found.value.is_transient) == ("architecture", False)

    def test_one_that_could_not_tell_is_told_by_its_state(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        message = "Flow run encountered an exception: StoreError: no such bucket"
        clock.then(worker.begin, lambda: set_state(worker.run_id, Failed(message=message)))
        with pytest.raises(DeviceError, match=r"pool hailo8, run .*: no such bucket$"):
            hand_over(store, stage)

    def test_a_machine_that_sees_another_store_is_told(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, tmp_path: Path
    ) -> None:
        def look_elsewhere() -> None:
            assert benchmark.fn(runs(stage.name)[0].parameters["build"], str(tmp_path)) is None

        clock.then(worker.begin, look_elsewhere, worker.end)
        with pytest.raises(DeviceError, match="Does its machine see the store at file://"):
            hand_over(store, stage)

    def test_one_that_a_person_cancelled_is_not_measured(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        clock.then(worker.begin, lambda: child.cancel(worker.run_id), lambda: set_state(worker.run_id, Cancelled()))
        assert "was cancelled" in hand_over(store, stage).outcome.value.device


class TestDeath:
    def test_a_crashed_one_is_tried_again(self, store: Store, stage: Benchmark, worker: Worker, clock: Clock) -> None:
        quiet = [lambda: None] * 8
        clock.then(worker.begin, worker.crash, *quiet, worker.begin, worker.measure)
        assert hand_over(store, stage).outcome.value.source == "device"
        assert len(runs(stage.name)) == 2

    def test_one_whose_process_is_gone_is_tried_again_though_the_server_does_not_know(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        def die() -> None:
            key = runs(stage.name)[0].parameters["build"]
            dead = claims._this_process("benchmark").model_copy(update={"started": "never"})
            store.create_record(f"claims/{key}/000001", dead.model_dump(mode="json"))

        clock.then(worker.begin, die, worker.begin, worker.measure)
        assert hand_over(store, stage).outcome.value.source == "device"
        assert [run.state.name for run in runs(stage.name)] == ["Running", "Cancelling"]

    def test_one_that_ended_in_a_defect_is_tried_again(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        message = "Flow run encountered an exception: ImportError: initialization failed"
        clock.then(
            worker.begin, lambda: set_state(worker.run_id, Failed(message=message)), worker.begin, worker.measure
        )
        assert hand_over(store, stage).outcome.value.source == "device"
        assert [run.state.name for run in runs(stage.name)] == ["Running", "Failed"]

    def test_one_that_was_taken_and_never_began_is_tried_again(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(device, "BEGIN_SECONDS", 5.0)
        clock.then(lambda: set_state(worker.run_id, Pending()), *[lambda: None] * 3, worker.begin, worker.measure)
        assert hand_over(store, stage).outcome.value.source == "device"
        assert len(runs(stage.name)) == 2

    def test_one_that_dies_every_time_is_an_error(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        clock.then(*[step for _ in range(3) for step in (worker.begin, worker.crash, *[lambda: None] * 8)])
        with pytest.raises(
            DeviceError, match=r"came to nothing 3 times .* the last time because its process died: killed"
        ):
            hand_over(store, stage)

    def test_a_parent_that_is_taken_up_again_finds_its_child(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed() -> None:
            raise ZeroDivisionError

        def twice(site: Site, stage: Benchmark) -> Elsewhere:
            with monkeypatch.context() as patch:
                patch.setattr(child, "cancel", lambda run_id: None)  # a parent that is killed cancels nobody
                with pytest.raises(ZeroDivisionError):
                    benchmark_elsewhere(site, stage)
            return benchmark_elsewhere(site, stage)

        clock.then(worker.begin, killed, worker.measure)
        assert hand_over(store, stage, twice).outcome.value.source == "device"
        assert len(runs(stage.name)) == 1

    def test_a_parent_that_is_run_again_after_an_error_asks_again(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        def twice(site: Site, stage: Benchmark) -> Elsewhere:
            with pytest.raises(DeviceError):
                benchmark_elsewhere(site, stage)
            return benchmark_elsewhere(site, stage)

        def fail() -> None:
            set_state(worker.run_id, Failed(message="Flow run encountered an exception: DeviceError: no"))

        clock.then(worker.begin, fail, worker.begin, worker.measure)
        assert hand_over(store, stage, twice).outcome.value.source == "device"
        assert [run.state.name for run in runs(stage.name)] == ["Running", "Failed"]


class TestRemoving:
    def test_what_a_running_build_handed_over_stays_and_a_dead_ones_goes(
        self, store: Store, stage: Benchmark, worker: Worker, clock: Clock
    ) -> None:
        seen: list[tuple[bool, bool]] = []

        def look() -> None:
            now = waste(store, Keep(builds=1))
            gone = {each.sha256 for each in now.objects}
            is_kept = not {stage.hef.sha256, stage.evaluation.npy.sha256, stage.outputs.sha256} & gone
            key = runs(stage.name)[0].parameters["build"]
            seen.append((is_kept, any(record.startswith(key) for record in now.records)))

        clock.then(worker.begin, look, worker.measure)
        found = hand_over(store, stage)
        assert seen == [(True, False)]
        left = [key for key in waste(store, Keep(builds=1)).records if key.startswith(found.handover.key)]
        assert sorted(key.rpartition("/")[2] for key in left) == ["given", "wanted"]


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_wait_that_is_no_number_is_refused_before_anything_is_built(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(device.WAIT, text)
    with pytest.raises(InputError, match=f"HEFJOIN_DEVICE_WAIT_S={text} is no number of seconds"):
        device.require_pool()


def test_a_hand_over_of_another_version_is_refused_with_both(
    store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure_with_another() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Benchmark, "version", Benchmark.version + 1)
            with pytest.raises(InputError):
                worker.measure()

    clock.then(worker.begin, measure_with_another)
    with pytest.raises(InputError, match="another version of hefjoin than the machine that builds"):
        hand_over(store, stage)


def test_a_store_that_is_out_of_reach_for_the_device_is_its_error(
    store: Store, stage: Benchmark, worker: Worker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("out of room", reason="full", uri="s3://x", is_transient=False)

    def lose() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Benchmark, "run", full)
            with pytest.raises(StoreError):
                worker.measure()

    clock.then(worker.begin, lose)
    with pytest.raises(StoreError, match="out of room") as found:
        hand_over(store, stage)
    assert (found.value.reason, found.value.uri) == ("full", "s3://x")
