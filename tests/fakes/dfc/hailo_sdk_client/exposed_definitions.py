"""The enumerations of the API: the members that public code shows, and no other."""

from enum import Enum

from fake_dfc.switches import switches
from hailo_sdk_common.states.states import States as States

SUPPORTED_HW_ARCHS = ["hailo8", "hailo8l", "hailo8r"]


class InferenceContext(Enum):
    """Which form of a network runs."""

    SDK_NATIVE = "sdk_native"
    SDK_FP_OPTIMIZED = "sdk_fp_optimized"
    SDK_QUANTIZED = "sdk_quantized"
    SDK_BIT_EXACT = "sdk_bit_exact"
    SDK_HAILO_HW = "sdk_hailo_hw"


class CalibrationDataType(Enum):
    """How a data set is to be read."""

    auto = "auto"
    np_array = "np_array"
    npy_file = "npy_file"


class JoinOutputLayersOrder(Enum):
    """In which order the outputs of a custom join stand."""

    NEW_OUTPUTS_IN_PLACE = "new_outputs_in_place"


class _JoinAction(Enum):
    NONE = "none"
    AUTO_JOIN_INPUTS = "auto_join_inputs"
    CUSTOM = "custom"


_JoinAction.__name__ = _JoinAction.__qualname__ = "JoinAction"
if not switches().join_action_at_root_only:
    JoinAction = _JoinAction
