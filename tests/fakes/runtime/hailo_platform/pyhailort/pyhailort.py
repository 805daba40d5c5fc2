"""The documented part of HailoRT's Python API, and the VDevice, which holds the chip."""

from __future__ import annotations

import os
from types import TracebackType

from hailo_platform.pyhailort import chip
from hailo_platform.pyhailort._pyhailort import (
    AveragingFactor,
    DvmTypes,
    FormatOrder,
    FormatType,
    MeasurementBufferIndex,
    PowerMeasurementTypes,
    SamplingPeriod,
)
from hailo_platform.pyhailort._pyhailort import SchedulingAlgorithm as HailoSchedulingAlgorithm
from hailo_platform.pyhailort.device import Device, DeviceArchitectureTypes
from hailo_platform.pyhailort.errors import (
    HailoCommunicationClosedException,
    HailoRTDriverOperationFailedException,
    HailoRTException,
    HailoRTFirmwareControlFailedException,
    HailoRTHEFNotCompatibleWithDevice,
    HailoRTInvalidArgumentException,
    HailoRTInvalidHEFException,
    HailoRTInvalidOperationException,
    HailoRTNetworkGroupNotActivatedException,
    HailoRTNotFoundException,
    HailoRTStreamAborted,
    HailoRTStreamAbortedByUser,
    HailoRTTimeout,
    HailoRTUnsupportedOpcodeException,
    HailoStatusInvalidValueException,
    error_of,
)
from hailo_platform.pyhailort.hef import HEF
from hailo_platform.pyhailort.inference import AsyncInferJob, ConfiguredInferModel, InferModel

__all__ = [
    "HAILO_UNIQUE_VDEVICE_GROUP_ID",
    "HEF",
    "AsyncInferJob",
    "AveragingFactor",
    "ConfiguredInferModel",
    "Device",
    "DeviceArchitectureTypes",
    "DvmTypes",
    "FormatOrder",
    "FormatType",
    "HailoCommunicationClosedException",
    "HailoRTDriverOperationFailedException",
    "HailoRTException",
    "HailoRTFirmwareControlFailedException",
    "HailoRTHEFNotCompatibleWithDevice",
    "HailoRTInvalidArgumentException",
    "HailoRTInvalidHEFException",
    "HailoRTInvalidOperationException",
    "HailoRTNetworkGroupNotActivatedException",
    "HailoRTNotFoundException",
    "HailoRTStreamAborted",
    "HailoRTStreamAbortedByUser",
    "HailoRTTimeout",
    "HailoRTUnsupportedOpcodeException",
    "HailoSchedulingAlgorithm",
    "HailoStatusInvalidValueException",
    "InferModel",
    "MeasurementBufferIndex",
    "PowerMeasurementTypes",
    "SamplingPeriod",
    "VDevice",
    "VDeviceParams",
]

HAILO_UNIQUE_VDEVICE_GROUP_ID = "UNIQUE"
VERSION = tuple(int(part) for part in chip.settings().version.split("."))


class VDeviceParams:
    __slots__ = ("_algorithm", "device_count", "device_ids", "group_id", "multi_process_service")

    def __init__(self) -> None:
        self.device_ids: list[str] = []
        self.device_count = 1
        self.group_id = HAILO_UNIQUE_VDEVICE_GROUP_ID
        self.multi_process_service = False
        self._algorithm = HailoSchedulingAlgorithm.NONE

    @property
    def scheduling_algorithm(self) -> int:
        return self._algorithm.value

    @scheduling_algorithm.setter
    def scheduling_algorithm(self, algorithm: HailoSchedulingAlgorithm) -> None:
        if not isinstance(algorithm, HailoSchedulingAlgorithm):
            raise TypeError(f"incompatible function arguments: {algorithm!r}")
        self._algorithm = algorithm


class VDevice:
    def __init__(self, params: VDeviceParams | None = None, *, device_ids: list[str] | None = None) -> None:
        if params is not None and params.device_ids and device_ids:
            raise error_of(6)
        if device_ids or params is None:
            params, ids = VDeviceParams(), device_ids or []
        else:
            ids = params.device_ids
        if params.multi_process_service:
            raise error_of(2 if params.scheduling_algorithm == HailoSchedulingAlgorithm.NONE.value else 6)
        self._has_scheduler = params.scheduling_algorithm != HailoSchedulingAlgorithm.NONE.value
        self._group, self._pid, self._is_released = params.group_id, os.getpid(), False
        self._id = _claimed(ids, self._group)

    @staticmethod
    def create_params() -> VDeviceParams:
        return VDeviceParams()

    def __enter__(self) -> VDevice:
        return self

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> None:
        if not self._is_released:
            self._is_released = True
            chip.let_go(self._id, self._group)

    def get_physical_devices(self) -> list[Device]:
        self._check()
        return [Device(self._id)]

    def get_physical_devices_ids(self) -> list[str]:
        self._check()
        return [self._id]

    if VERSION >= (4, 20):

        def create_infer_model(self, hef_source: str | bytes, name: str = "") -> InferModel:
            return self._infer_model(hef_source)

    else:

        def create_infer_model(self, hef_source: str | bytes, network_name: str = "") -> InferModel:
            return self._infer_model(hef_source)

    def _infer_model(self, hef_source: str | bytes) -> InferModel:
        self._check()
        return InferModel(HEF(hef_source), self)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise HailoRTException("VDevice can only be used from the process it was created in.")
        if self._is_released:
            raise error_of(6)


def _claimed(ids: list[str], group: str) -> str:
    switches = chip.settings()
    if switches.vanishes or not (ids or switches.devices):
        raise error_of(74)
    if any(each not in switches.devices for each in ids):
        raise error_of(2)
    if not switches.permission:
        raise error_of(36)
    if not switches.is_driver_right:
        raise error_of(76)
    for device_id in ids or switches.devices:
        if chip.claim(device_id, group):
            return device_id
    raise error_of(73 if ids else 74)
