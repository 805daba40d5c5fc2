"""What is a compiled extension in the real package: statuses, enums, the raw exception; it also opens the log."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

STATUSES = {
    2: "HAILO_INVALID_ARGUMENT",
    4: "HAILO_TIMEOUT",
    6: "HAILO_INVALID_OPERATION",
    13: "HAILO_OPEN_FILE_FAILURE",
    18: "HAILO_FW_CONTROL_FAILURE",
    26: "HAILO_INVALID_HEF",
    36: "HAILO_DRIVER_OPERATION_FAILED",
    48: "HAILO_UNSUPPORTED_OPCODE",
    61: "HAILO_NOT_FOUND",
    62: "HAILO_COMMUNICATION_CLOSED",
    63: "HAILO_STREAM_ABORT",
    69: "HAILO_NETWORK_GROUP_NOT_ACTIVATED",
    73: "HAILO_DEVICE_IN_USE",
    74: "HAILO_OUT_OF_PHYSICAL_DEVICES",
    76: "HAILO_INVALID_DRIVER_VERSION",
    77: "HAILO_RPC_FAILED",
    82: "HAILO_QUEUE_IS_FULL",
    91: "HAILO_HEF_FILE_CORRUPTED",
    92: "HAILO_HEF_NOT_SUPPORTED",
    93: "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
}


class HailoRTStatusException(Exception):
    """A status as bare digits; outside the tree of HailoRTException."""


class FormatType(Enum):
    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class FormatOrder(Enum):
    AUTO = 0
    NHWC = 1
    NHCW = 2
    FCR = 3
    F8CR = 4
    NHW = 5
    NC = 6
    HAILO_NMS_BY_CLASS = 22


class SchedulingAlgorithm(Enum):
    NONE = 0
    ROUND_ROBIN = 1


class DvmTypes(Enum):
    AUTO = 2147483647
    VDD_CORE = 0
    OVERCURRENT_PROTECTION = 9


class PowerMeasurementTypes(Enum):
    AUTO = 2147483647
    POWER = 2
    CURRENT = 3


class SamplingPeriod(Enum):
    PERIOD_140us = 0
    PERIOD_1100us = 4


class AveragingFactor(Enum):
    AVERAGE_1 = 0
    AVERAGE_256 = 5


class MeasurementBufferIndex(Enum):
    MEASUREMENT_BUFFER_INDEX_0 = 0


def _open_log() -> None:
    folder = os.environ.get("HAILORT_LOGGER_PATH", ".")
    if folder != "NONE":
        with (Path(folder) / "hailort.log").open("a", encoding="utf-8") as log:
            log.write("[HailoRT] [info] opened\n")


_open_log()
