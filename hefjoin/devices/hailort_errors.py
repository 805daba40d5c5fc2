"""What HailoRT raises, said in our words.

The rule: HailoRT says a status in three ways, as a class of its own, as `74 (HAILO_OUT_OF_PHYSICAL_DEVICES)` in the
text, as bare digits from calls that it does not wrap; one table answers for all three. Statuses and classes are those
of hailo-ai/hailort v4.23.0 (`hailort.h`, `pyhailort.py`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from hefjoin.errors import DeviceError

LOG_FOLDER = "HAILORT_LOGGER_PATH"
"""HailoRT's environment variable: where hailort.log goes; unset, it falls into the working directory."""
TIMEOUT = 4
OUT_OF_PHYSICAL_DEVICES = 74
IN_USE = 73

STATUS_OF_CLASS = {
    "HailoRTInvalidArgumentException": 2,
    "HailoRTTimeout": TIMEOUT,
    "HailoRTInvalidOperationException": 6,
    "InvalidProtocolVersionException": 15,
    "HailoRTFirmwareControlFailedException": 18,
    "HailoRTInvalidHEFException": 26,
    "HailoRTDriverOperationFailedException": 36,
    "HailoRTPCIeDriverException": 36,
    "HailoRTUnsupportedOpcodeException": 48,
    "HailoCommunicationClosedException": 62,
    "HailoRTStreamAborted": 63,
    "HailoRTHEFNotCompatibleWithDevice": 93,
}
"""Classed exceptions carry a fixed sentence without their status."""
NO_DEVICE_TEXT = "device not found in the system"
_NUMBERED = re.compile(r"\b(\d{1,4}) \(HAILO_\w+\)")
_DIGITS = re.compile(r"\d{1,4}")


class Cause(NamedTuple):
    """What a status means for a build."""

    reason: str
    """One word of `DeviceError.reason`."""
    is_transient: bool
    says: str
    next_step: str


CAUSES = {
    TIMEOUT: Cause("failed", True, "it did not answer in time", "try again; if it stays, reset it: `hailortcli "
                   "fw-control reset`"),
    15: Cause("version", False, "its firmware speaks another protocol", "install the firmware of this HailoRT"),
    18: Cause("failed", True, "its firmware refused a command", "see `dmesg | grep hailo`; a reset may help"),
    26: Cause("refused", False, "HailoRT takes the HEF for invalid", "compile it again"),
    36: Cause("failed", False, "the driver refused; often this user may not open /dev/hailo0",
              "see `ls -l /dev/hailo*` and `dmesg | grep hailo`; let the user read and write the device"),
    62: Cause("failed", True, "the connection to it was lost", "see `dmesg | grep hailo`"),
    63: Cause("failed", True, "it aborted a stream", "see `dmesg | grep hailo`"),
    IN_USE: Cause("busy", True, "another program holds the chip", "end that program, or wait for it"),
    OUT_OF_PHYSICAL_DEVICES: Cause("missing", False, "HailoRT finds no device",
                                   "plug it in, load its driver, then look with `hailortcli scan`"),
    76: Cause("version", False, "the driver is of another version than the library",
              "install the driver of this HailoRT and load it"),
    91: Cause("refused", False, "HailoRT takes the HEF for damaged", "get the file again, or compile it again"),
    92: Cause("version", False, "this HailoRT cannot read the HEF: it is too new or too old for it, or no HEF",
              "install the HailoRT that was published with its compiler"),
    93: Cause("architecture", False, "the HEF is for another chip", "compile it for this one (hw_arch)"),
}  # fmt: skip
OTHER = Cause("failed", False, "HailoRT failed", "see `dmesg | grep hailo` and the log")


def device_error(error: BaseException, what: str, *, is_seen: bool = False) -> DeviceError:
    """Return our error for one of HailoRT's.

    Args:
        error: What HailoRT raised.
        what: What was tried, as the message begins.
        is_seen: The device was listed a moment ago: then `no device` means that another program holds it, because
            HailoRT passes over chips that are in use.
    """
    status = status_of(error)
    if is_seen and status == OUT_OF_PHYSICAL_DEVICES:
        status = IN_USE
    cause = OTHER if status is None else CAUSES.get(status, OTHER)
    log = Path(os.environ.get(LOG_FOLDER, ".")) / "hailort.log"
    return DeviceError(
        f"{what}: {cause.says} ({type(error).__name__}: {error}). Next: {cause.next_step}. HailoRT's log is {log}",
        reason=cause.reason,
        is_transient=cause.is_transient,
    )


def status_of(error: BaseException) -> int | None:
    """Return the HailoRT status of an exception; None where it does not say one.

    >>> status_of(Exception("libhailort failed with error: 73 (HAILO_DEVICE_IN_USE)")), status_of(Exception("36"))
    (73, 36)
    """
    for kind in type(error).__mro__:
        if kind.__name__ in STATUS_OF_CLASS:
            return STATUS_OF_CLASS[kind.__name__]
    text = str(error)
    if found := _NUMBERED.search(text):
        return int(found[1])
    if _DIGITS.fullmatch(text):
        return int(text)
    return OUT_OF_PHYSICAL_DEVICES if NO_DEVICE_TEXT in text else None
