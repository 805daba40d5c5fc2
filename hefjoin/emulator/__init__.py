"""A strict twin of the vendor's `hailo_sdk_client` on ONNX Runtime: our definition of what the compiler does.

The rule: whoever imports `hailo_sdk_client` and follows its documentation can import this instead; whoever does
not follow it finds out here, in seconds.
"""

from hefjoin.emulator import exposed_definitions
from hefjoin.emulator.archive import SDK_VERSION
from hefjoin.emulator.client_runner import ClientRunner
from hefjoin.emulator.exposed_definitions import CalibrationDataType, InferenceContext, JoinAction, States

__version__ = SDK_VERSION

__all__ = [
    "CalibrationDataType",
    "ClientRunner",
    "InferenceContext",
    "JoinAction",
    "States",
    "__version__",
    "exposed_definitions",
]
