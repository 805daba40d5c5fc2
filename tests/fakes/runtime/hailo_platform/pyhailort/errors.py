"""The exceptions of the package; `pyhailort` is where users find them."""

from __future__ import annotations

from hailo_platform.pyhailort import _pyhailort


class HailoRTException(Exception):
    pass


class HailoRTTimeout(HailoRTException):
    pass


class HailoRTInvalidArgumentException(HailoRTException):
    pass


class HailoRTInvalidOperationException(HailoRTException):
    pass


class HailoRTFirmwareControlFailedException(HailoRTException):
    pass


class HailoRTInvalidHEFException(HailoRTException):
    pass


class HailoRTDriverOperationFailedException(HailoRTException):
    pass


class HailoRTUnsupportedOpcodeException(HailoRTException):
    pass


class HailoRTNotFoundException(HailoRTException):
    pass


class HailoCommunicationClosedException(HailoRTException):
    pass


class HailoRTStreamAborted(HailoRTException):
    pass


class HailoRTStreamAbortedByUser(HailoRTException):
    pass


class HailoRTNetworkGroupNotActivatedException(HailoRTException):
    pass


class HailoRTHEFNotCompatibleWithDevice(HailoRTException):
    pass


class HailoStatusInvalidValueException(Exception):
    pass


CLASSED: dict[int, tuple[type[HailoRTException], str]] = {
    2: (HailoRTInvalidArgumentException, "Invalid argument. See hailort.log for more information"),
    4: (HailoRTTimeout, "Received a timeout - hailort has failed because a timeout had occurred"),
    6: (HailoRTInvalidOperationException, "Invalid operation. See hailort.log for more information"),
    18: (HailoRTFirmwareControlFailedException, "libhailort control operation failed"),
    26: (HailoRTInvalidHEFException, "Invalid HEF. See hailort.log for more information"),
    36: (HailoRTDriverOperationFailedException, "Failure in hailort driver ioctl. run 'dmesg | grep hailo'"),
    48: (HailoRTUnsupportedOpcodeException, "HailoRT has failed because an unsupported opcode was sent to device"),
    61: (HailoRTNotFoundException, "Item not found. See hailort.log for more information"),
    62: (HailoCommunicationClosedException, "Communication to device has been closed"),
    63: (HailoRTStreamAborted, "Stream was aborted"),
    69: (HailoRTNetworkGroupNotActivatedException, "Network group is not activated"),
    93: (HailoRTHEFNotCompatibleWithDevice, "HEF file is not compatible with device"),
}


def error_of(status: int) -> HailoRTException:
    """Return what the package raises for a status: of a class of its own without the number, or plain with it."""
    if status in CLASSED:
        kind, text = CLASSED[status]
        return kind(text)
    return HailoRTException(f"libhailort failed with error: {status} ({_pyhailort.STATUSES[status]})")
