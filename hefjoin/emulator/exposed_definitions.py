"""The enumerations of the DFC's API, with its spelling.

Source: the public uses of `hailo_sdk_client.exposed_definitions` in hailo_model_zoo and the vendor's tutorials.
Members that no public source shows are left out: a twin that accepts them would hide mistakes.
"""

from __future__ import annotations

from enum import Enum

SUPPORTED_HW_ARCHS = ("hailo8", "hailo8l")


class States(Enum):
    """The life of a model; the value is what a HAR's metadata stores."""

    UNINITIALIZED = "uninitialized"
    HAILO_MODEL = "hailo_model"
    FP_OPTIMIZED_MODEL = "fp_optimized_model"
    QUANTIZED_MODEL = "quantized_model"
    COMPILED_MODEL = "compiled_model"


class JoinAction(Enum):
    """How two networks are wired by `ClientRunner.join`."""

    NONE = "none"
    AUTO_JOIN_INPUTS = "auto_join_inputs"
    CUSTOM = "custom"


class JoinOutputLayersOrder(Enum):
    """Where the outputs of the second network stand when they are chained to an output of the first."""

    NEW_OUTPUTS_IN_PLACE = "new_outputs_in_place"


class InferenceContext(Enum):
    """Which form of the network `ClientRunner.infer` runs."""

    SDK_NATIVE = "sdk_native"
    SDK_FP_OPTIMIZED = "sdk_fp_optimized"
    SDK_QUANTIZED = "sdk_quantized"


class CalibrationDataType(Enum):
    """How `ClientRunner.optimize` reads its data."""

    auto = "auto"
    np_array = "np_array"
    npy_file = "npy_file"
