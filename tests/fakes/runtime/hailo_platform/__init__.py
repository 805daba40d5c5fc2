"""A strict stand-in for HailoRT's Python package: the documented names and nothing else.

It has no chip: outputs are a function of the input's bytes, time passes as the switches say (`chip.Settings`, read
from FAKE_HAILORT). What the real package refuses, it refuses with the same exception.
"""

from hailo_platform.pyhailort.chip import settings
from hailo_platform.pyhailort.pyhailort import (
    HEF,
    AsyncInferJob,
    AveragingFactor,
    Device,
    DvmTypes,
    FormatOrder,
    FormatType,
    HailoCommunicationClosedException,
    HailoRTException,
    HailoRTStreamAbortedByUser,
    HailoSchedulingAlgorithm,
    MeasurementBufferIndex,
    PowerMeasurementTypes,
    SamplingPeriod,
    VDevice,
)

__version__ = settings().version
__all__ = [
    "HEF",
    "AsyncInferJob",
    "AveragingFactor",
    "Device",
    "DvmTypes",
    "FormatOrder",
    "FormatType",
    "HailoCommunicationClosedException",
    "HailoRTException",
    "HailoRTStreamAbortedByUser",
    "HailoSchedulingAlgorithm",
    "MeasurementBufferIndex",
    "PowerMeasurementTypes",
    "SamplingPeriod",
    "VDevice",
]
