"""The fake of `hailo_platform` is as strict as the package: what the real one refuses, it refuses in the same way."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runtime

DOCUMENTED = {
    "HEF", "VDevice", "Device", "FormatType", "FormatOrder", "HailoSchedulingAlgorithm", "DvmTypes",
    "PowerMeasurementTypes", "SamplingPeriod", "AveragingFactor", "MeasurementBufferIndex", "AsyncInferJob",
    "HailoRTException", "HailoRTStreamAbortedByUser", "HailoCommunicationClosedException",
}  # fmt: skip
IMAGE = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture
def patch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    with runtime.installed(tmp_path, frame_ms=0.1) as patch:
        yield patch


@pytest.fixture
def api(patch: pytest.MonkeyPatch) -> Any:
    return importlib.import_module("hailo_platform")


@pytest.fixture
def errors(api: Any) -> Any:
    return importlib.import_module("hailo_platform.pyhailort.pyhailort")


@pytest.fixture
def hef(tmp_path: Path) -> str:
    return str(runtime.write_dfc_hef(tmp_path / "pair.hef"))


def bindings(model: Any, configured: Any, **changed: np.ndarray[Any, Any] | None) -> Any:
    """Bind fitting buffers to all streams but those `changed`, by name: another buffer, or none."""

    def buffers(streams: Any) -> dict[str, np.ndarray[Any, Any]]:
        fitting = {each.name: np.zeros(each.shape, each.format.type.name.lower()) for each in streams}
        bound = {name: changed.get(name, buffer) for name, buffer in fitting.items()}
        return {name: buffer for name, buffer in bound.items() if buffer is not None}

    return configured.create_bindings(buffers(model.inputs), buffers(model.outputs))


def scheduled(api: Any) -> Any:
    params = api.VDevice.create_params()
    params.scheduling_algorithm = api.HailoSchedulingAlgorithm.ROUND_ROBIN
    return params


def test_the_top_level_has_the_documented_names_only(api: Any) -> None:
    assert set(api.__all__) == DOCUMENTED
    for name in ("InferModel", "HailoRTTimeout", "ConfiguredInferModel", "DeviceArchitectureTypes"):
        assert not hasattr(api, name)


def test_without_a_scheduler_which_is_the_default_a_model_has_to_be_activated(api: Any, errors: Any, hef: str) -> None:
    assert api.VDevice.create_params().scheduling_algorithm == api.HailoSchedulingAlgorithm.NONE.value
    with api.VDevice() as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured, pytest.raises(errors.HailoRTNetworkGroupNotActivatedException):
            configured.run_async([bindings(model, configured)])
        with model.configure() as configured:
            configured.activate()
            configured.run([bindings(model, configured)], 1000)
            configured.deactivate()


def test_with_a_scheduler_activating_is_invalid(api: Any, errors: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice, vdevice.create_infer_model(hef).configure() as configured:
        for call in (configured.activate, configured.deactivate):
            with pytest.raises(errors.HailoRTInvalidOperationException):
                call()


def test_a_scheduler_is_set_with_the_enum(api: Any) -> None:
    with pytest.raises(TypeError):
        api.VDevice.create_params().scheduling_algorithm = 1
    with pytest.raises(AttributeError):
        api.VDevice.create_params().scheduler = 1


def test_ids_in_both_places_are_refused_and_the_keyword_makes_params_forgotten(api: Any, errors: Any, hef: str) -> None:
    params = scheduled(api)
    params.device_ids = ["0000:01:00.0"]
    with pytest.raises(errors.HailoRTInvalidOperationException):
        api.VDevice(params, device_ids=["0000:01:00.0"])
    with api.VDevice(scheduled(api), device_ids=["0000:01:00.0"]) as vdevice:
        vdevice.create_infer_model(hef).configure().activate()


def test_formats_and_batch_sizes_come_before_configure(api: Any, errors: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        model.output("left/fc1").set_format_type(api.FormatType.FLOAT32)
        with model.configure():
            with pytest.raises(errors.HailoRTInvalidOperationException):
                model.input().set_format_type(api.FormatType.UINT8)
            with pytest.raises(errors.HailoRTInvalidOperationException):
                model.set_batch_size(2)


def test_a_hef_is_a_str_or_bytes(api: Any, errors: Any, hef: str, tmp_path: Path) -> None:
    assert api.HEF(Path(hef).read_bytes()).get_network_group_names() == ["pair"]
    with pytest.raises(ValueError):
        api.HEF(Path(hef))
    content = Path(hef).read_bytes()
    for name, wrong, status in (
        ("cut", content[:-1], 91),
        ("flipped", content[:-1] + bytes([content[-1] ^ 1]), 91),
        ("junk", b"not a HEF at all", 92),
    ):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(errors.HailoRTException, match=rf"{status} \(HAILO_"):
            api.HEF(str(tmp_path / name))
    with pytest.raises(errors.HailoRTException, match=r"13 \(HAILO_OPEN_FILE_FAILURE\)"):
        api.HEF(str(tmp_path / "missing"))


def test_streams_are_asked_for_by_name_where_there_are_several(api: Any, errors: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        assert model.input().shape == [16, 16, 3]
        assert [model.output(name).shape for name in model.output_names] == [[4], [5, 6, 2]]
        with model.configure() as configured:
            for streams in (model, configured.create_bindings()):
                assert streams.input() is streams.input("pair/input_layer1")
                with pytest.raises(errors.HailoRTInvalidOperationException):
                    streams.output()
                with pytest.raises(errors.HailoRTNotFoundException):
                    streams.output("right")
            for wrong in ({"input_buffers": {"image": IMAGE}}, {"output_buffers": {"scores": IMAGE}}):
                with pytest.raises(errors.HailoRTNotFoundException):
                    configured.create_bindings(**wrong)


def test_run_has_no_default_timeout_and_calls_back_by_keyword(api: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            frame, seen = bindings(model, configured), []
            with pytest.raises(TypeError):
                configured.run([frame])
            configured.run_async([frame], lambda *, completion_info: seen.append(completion_info.exception)).wait(1000)
            assert seen == [None]


def test_waiting_for_more_frames_than_the_queue_times_out_and_a_full_queue_refuses(
    api: Any, errors: Any, hef: str
) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            configured.wait_for_async_ready(10, configured.get_async_queue_size())
            with pytest.raises(errors.HailoRTTimeout):
                configured.wait_for_async_ready(timeout_ms=10, frames_count=configured.get_async_queue_size() + 1)
            frame = bindings(model, configured)
            with pytest.raises(errors.HailoRTException, match=r"82 \(HAILO_QUEUE_IS_FULL\)"):
                configured.run_async([frame] * (configured.get_async_queue_size() + 1))


def test_waiting_ends_when_a_frame_is_done_or_with_the_time(api: Any, errors: Any, hef: str, patch: Any) -> None:
    runtime.switch(patch, Path(hef).parent, frame_ms=150, queue=1)
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            job = configured.run_async([bindings(model, configured)])
            for wait in (configured.wait_for_async_ready, job.wait):
                with pytest.raises(errors.HailoRTTimeout):
                    wait(timeout_ms=5)
            configured.wait_for_async_ready(timeout_ms=5000)
            job.wait(5000)
            with pytest.raises(errors.HailoRTTimeout):
                configured.run([bindings(model, configured)], 5)


def test_a_buffer_is_contiguous_and_writeable(api: Any, errors: Any, hef: str) -> None:
    read_only = np.zeros_like(IMAGE)
    read_only.flags.writeable = False
    with api.VDevice(scheduled(api)) as vdevice, vdevice.create_infer_model(hef).configure() as configured:
        stream = configured.create_bindings().input()
        with pytest.raises(errors.HailoRTException, match="C_CONTIGUOUS"):
            stream.set_buffer(np.zeros((32, 16, 3), np.uint8)[::2])
        with pytest.raises(ValueError, match="not writeable"):
            stream.set_buffer(read_only)
        assert stream.get_buffer() is None


@pytest.mark.parametrize(
    ("stream", "buffer", "status"),
    [
        ("pair/input_layer1", np.zeros((16, 16, 3), np.float32), "InvalidOperationException"),
        ("pair/input_layer1", np.zeros((16, 16, 4), np.uint8), "InvalidOperationException"),
        ("pair/input_layer1", np.zeros((16, 16, 3), np.int8), "InvalidOperationException"),
        ("pair/input_layer1", None, "NotFoundException"),
        ("right/conv9", np.zeros((5, 6, 2), np.uint8), "InvalidOperationException"),
        ("right/conv9", np.zeros((5, 6, 2), np.float32), "InvalidOperationException"),
        ("right/conv9", None, "InvalidOperationException"),
    ],
)
def test_a_buffer_has_the_bytes_and_the_type_of_its_stream_or_the_model_is_shut_down(
    api: Any, errors: Any, hef: str, stream: str, buffer: np.ndarray[Any, Any] | None, status: str
) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            with pytest.raises(getattr(errors, f"HailoRT{status}")):
                configured.run([bindings(model, configured, **{stream: buffer})], 1000)
            with pytest.raises(errors.HailoRTStreamAborted):
                configured.run([bindings(model, configured)], 1000)


def test_a_buffer_of_another_shape_with_the_same_bytes_is_taken(api: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            frame, flat = (bindings(model, configured) for _ in range(2))
            flat.input().set_buffer(IMAGE.reshape(-1).copy())
            flat.output("right/conv9").set_buffer(np.zeros(60, np.uint16))
            configured.run([frame, flat], 1000)
            arrays = [each.output("right/conv9").get_buffer() for each in (frame, flat)]
            np.testing.assert_array_equal(arrays[0].reshape(-1), arrays[1])


def test_after_a_shutdown_nothing_runs_and_after_the_context_nothing_is_left(api: Any, errors: Any, hef: str) -> None:
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            frame = bindings(model, configured)
            configured.shutdown()
            with pytest.raises(errors.HailoRTStreamAborted):
                configured.run_async([frame])
        for call in (lambda: configured.run_async([frame]), configured.wait_for_async_ready, configured.shutdown):
            with pytest.raises(AttributeError):
                call()


def test_leaving_aborts_what_is_under_way_and_calls_back(api: Any, errors: Any, hef: str, patch: Any) -> None:
    runtime.switch(patch, Path(hef).parent, frame_ms=50)
    seen: list[Any] = []
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            for _ in range(3):
                configured.run_async(
                    [bindings(model, configured)], lambda completion_info: seen.append(completion_info)
                )
    assert [type(each.exception) for each in seen] == 3 * [errors.HailoRTStreamAborted]


def test_a_frame_that_fails_ends_the_pipeline_with_its_status(
    api: Any, errors: Any, hef: str, patch: pytest.MonkeyPatch
) -> None:
    runtime.switch(patch, Path(hef).parent, frame_ms=0.1, fail_frame=1, fail_status=36)
    seen: list[Any] = []
    with api.VDevice(scheduled(api)) as vdevice:
        model = vdevice.create_infer_model(hef)
        with model.configure() as configured:
            frames = [bindings(model, configured) for _ in range(3)]
            jobs = [
                configured.run_async([each], lambda completion_info: seen.append(completion_info)) for each in frames
            ]
            for job in jobs:
                job.wait(1000)
            with pytest.raises(errors.HailoRTDriverOperationFailedException):
                configured.run_async(frames[:1])
    assert [type(each.exception).__name__ for each in seen] == [
        "NoneType",
        *2 * ["HailoRTDriverOperationFailedException"],
    ]


def test_a_device_that_is_not_there_is_a_raw_status(api: Any, errors: Any) -> None:
    raw = importlib.import_module("hailo_platform.pyhailort._pyhailort").HailoRTStatusException
    assert not issubclass(raw, errors.HailoRTException)
    with pytest.raises(raw) as caught:
        api.Device("0000:02:00.0")
    assert caught.value.args == ("2",)


def test_power_is_set_started_and_has_nothing_to_say_before_its_time(api: Any, errors: Any) -> None:
    with api.Device() as device:
        with pytest.raises(errors.HailoRTException):
            device.control.start_power_measurement()
        device.control.set_power_measurement()
        device.control.start_power_measurement()
        early = device.control.get_power_measurement()
        device.control.stop_power_measurement()
    assert (early.total_number_of_samples, early.average_value) == (0, 0.0)


@pytest.mark.parametrize(("version", "name"), [("4.23.0", "name"), ("4.20.0", "name"), ("4.19.0", "network_name")])
def test_the_second_argument_of_create_infer_model_has_the_name_of_its_version(
    tmp_path: Path, version: str, name: str
) -> None:
    with runtime.installed(tmp_path, version=version):
        api = importlib.import_module("hailo_platform")
        assert api.__version__ == version
        assert list(inspect.signature(api.VDevice.create_infer_model).parameters)[2] == name


def test_a_vdevice_does_not_work_in_another_process(api: Any, errors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with api.VDevice() as vdevice:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(errors.HailoRTException, match="process"):
            vdevice.get_physical_devices()


def test_one_vdevice_holds_a_chip_unless_a_group_shares_it(api: Any, errors: Any) -> None:
    with api.VDevice(), pytest.raises(errors.HailoRTException, match="74"):
        api.VDevice()
    with api.VDevice(), pytest.raises(errors.HailoRTException, match="73"):
        api.VDevice(device_ids=["0000:01:00.0"])
    shared = api.VDevice.create_params()
    shared.group_id = "SHARED"
    with api.VDevice(shared), api.VDevice(shared), pytest.raises(errors.HailoRTException, match="74"):
        api.VDevice()
    api.VDevice().release()


def test_its_log_falls_into_the_working_directory_unless_the_environment_says_where(
    tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    patch.chdir(tmp_path / "here")
    patch.delenv("HAILORT_LOGGER_PATH")
    assert runtime.PACKAGE not in sys.modules
    importlib.import_module(runtime.PACKAGE)
    assert (tmp_path / "here" / "hailort.log").is_file()


def test_an_unknown_switch_is_an_error(tmp_path: Path) -> None:
    with runtime.installed(tmp_path, colour="red"), pytest.raises(TypeError, match="colour"):
        importlib.import_module(runtime.PACKAGE)


def test_two_models_on_one_vdevice_share_the_chip_and_it_takes_time_to_change_hands(
    api: Any, hef: str, patch: Any
) -> None:
    runtime.switch(patch, Path(hef).parent, frame_ms=2, switch_ms=5)
    with api.VDevice(scheduled(api)) as vdevice:
        models = [vdevice.create_infer_model(hef) for _ in range(2)]
        with models[0].configure() as one, models[1].configure() as other:
            start = time.perf_counter()
            for _ in range(3):
                for model, configured in zip(models, (one, other), strict=True):
                    configured.run_async([bindings(model, configured)]).wait(1000)
            assert time.perf_counter() - start >= 6 * 0.002 + 5 * 0.005
