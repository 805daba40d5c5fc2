"""Decides whether a HEF goes to a device, before the device is opened and before anything is sent to it.

The rules:

1. `admit` looks at the file alone, `refuse_mismatch` at the file and the device; each names everything that is wrong.
2. What is unknown is no mismatch: HailoRT has the last word.
3. Versions, and which HEFs a chip takes, come from `compatibility.toml`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from hefjoin.artifacts import Record
from hefjoin.compatibility import is_in, minor, table
from hefjoin.errors import DeviceError
from hefjoin.formats import hef as hef_file
from hefjoin.formats.hef import Hef

HAILO8L_NUMBER = 3
DRIVER = "sys/module/hailo_pci/version"
DEVICE = "HEFJOIN_HAILO_DEVICE"
"""Environment variable that names the device to measure on, as HailoRT lists it; the first one without it."""

Reason = Literal["architecture", "version"]
Mismatch = tuple[Reason, str]


class Host(Record):
    """A device and what drives it; empty where it is not known."""

    device_id: str
    """As HailoRT lists it: `0000:01:00.0`."""
    architecture: str = ""
    """As HailoRT prints it: `HAILO8`, `HAILO8L`."""
    hailort: str = ""
    """Version of the library."""
    driver: str = ""
    firmware: str = ""

    @property
    def versions(self) -> dict[str, str]:
        """The versions that are known, by part."""
        parts = {"HailoRT": self.hailort, "driver": self.driver, "firmware": self.firmware}
        return {part: version for part, version in parts.items() if version}


def driver_version(root: Path = Path("/")) -> str:
    """Return the version of the loaded PCIe driver; empty where none is loaded or it does not say.

    Args:
        root: Where `/sys` is.
    """
    try:
        return (root / DRIVER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def chosen(device_ids: Sequence[str]) -> str:
    """Return the device to use: the one that `HEFJOIN_HAILO_DEVICE` names, else the first.

    Args:
        device_ids: The devices that HailoRT lists, busy ones too.

    Raises:
        DeviceError: There is none, or none of that name.
    """
    wanted = os.environ.get(DEVICE, "")
    if not device_ids:
        raise DeviceError(
            "HailoRT lists no Hailo device on this machine: seat a Hailo-8, load its driver (modprobe hailo_pci), look "
            "at `dmesg | grep -i hailo`",
            reason="missing",
            is_transient=False,
        )
    if wanted and wanted not in device_ids:
        raise DeviceError(
            f"{DEVICE} is {wanted}, HailoRT lists {_listed(device_ids)}: name one of these, or none for the first",
            reason="missing",
            is_transient=False,
        )
    return wanted or device_ids[0]


def admit(path: Path) -> Hef:
    """Return the description of a HEF that may go to a Hailo-8, its checksum compared.

    Raises:
        InputError: It is no HEF, truncated, damaged, or without a context.
        DeviceError: The emulator made it, it has another number of network groups than one, or it is for a chip
            of another line.
    """
    hef = hef_file.read(path, verify=True)
    if hef.is_emulated:
        raise DeviceError(
            f"{path.name} was made by the emulator ({hef.sdk_version}): it holds no microcode and runs on the emulated "
            "device only. Compile it with the DFC",
            reason="refused",
            is_transient=False,
        )
    problems: list[tuple[str, str]] = []
    if len(hef.groups) != 1:
        names = ", ".join(group.name for group in hef.groups) or "none"
        problems.append(
            ("refused", f"it has {len(hef.groups)} network groups ({names}), one is run: join the networks first")
        )
    takes = table().takes
    if all(hef.hw_arch_number not in numbers for numbers in takes.values()):
        problems.append(
            (
                "architecture",
                f"it is for a {hef.hw_arch} (hw_arch {hef.hw_arch_number}, DFC {hef.sdk_version}), "
                f"{_listed(takes)} take hw_arch {_listed(sorted(set().union(*takes.values())))}: "
                "compile it with a DFC of the 3.x line and hw_arch hailo8 or hailo8l",
            )
        )
    if problems:
        raise _refusal(f"{path.name} does not run on a Hailo-8", problems)
    return hef


def refuse_mismatch(hef: Hef, host: Host) -> None:
    """Compare a HEF with the device it is meant for and with what drives that device.

    Raises:
        DeviceError: They do not fit; every mismatch is listed with what mends it.
    """
    problems = [*_architecture(hef, host), *_versions(hef, host)]
    if problems:
        raise _refusal(f"{hef.groups[0].name} does not run on device {host.device_id}", problems)


def notes(hef: Hef, host: Host) -> tuple[str, ...]:
    """Return what does not keep a HEF from its device but deserves a word beside its figures."""
    supported, rules, found = table().supported, table().runtime, []
    if host.architecture == "HAILO8" and hef.hw_arch_number == HAILO8L_NUMBER:
        found.append(
            "the HEF is for a HAILO8L and uses a part of this HAILO8 only: compile it with hw_arch hailo8 for the "
            "whole chip"
        )
    if _is_known(host.firmware) and _is_known(host.hailort) and minor(host.firmware) != minor(host.hailort):
        found.append(f"firmware {host.firmware}, HailoRT {host.hailort}: {rules.firmware_same_minor}")
    if is_in(host.hailort, supported.hailo8_hailort) and not is_in(host.hailort, supported.hailort):
        found.append(f"HailoRT {host.hailort} is untested: hefjoin is written for {supported.hailort}")
    return tuple(found)


def _architecture(hef: Hef, host: Host) -> Iterator[Mismatch]:
    taken = table().takes.get(host.architecture, ())
    if not host.architecture or hef.hw_arch_number in taken:
        return
    said = f"the HEF is for a {hef.hw_arch} (hw_arch {hef.hw_arch_number}), the device is a {host.architecture}"
    if taken:
        yield "architecture", f"{said}, which takes hw_arch {_listed(taken)}: compile with hw_arch hailo8l"
    else:
        yield "architecture", f"{said}: run it on a {_listed(table().takes, ' or ')}"


def _versions(hef: Hef, host: Host) -> Iterator[Mismatch]:
    supported, rules = table().supported, table().runtime
    least = table().least_hailort(hef.sdk_version)
    right = least or supported.hailort
    if _is_known(host.hailort) and not is_in(host.hailort, supported.hailo8_hailort):
        yield (
            "version",
            f"HailoRT {host.hailort} does not serve a Hailo-8, which needs {supported.hailo8_hailort}: "
            f"install HailoRT {right} with its driver and firmware",
        )
    elif least and is_in(host.hailort, f"<{least}"):
        yield (
            "version",
            f"the HEF was made by DFC {hef.sdk_version}, which goes with HailoRT {least}; HailoRT {host.hailort} is "
            f"older and may not read it: install HailoRT {least} or a newer 4.x with its driver and firmware",
        )
    elif (reads := table().reads(hef.container_version)) and _is_known(host.hailort) and not is_in(host.hailort, reads):
        yield (
            "version",
            f"the HEF has container version {hef.container_version}, which HailoRT {reads} reads, here is "
            f"{host.hailort}: compile it with the DFC that goes with this HailoRT",
        )
    if _is_known(host.hailort) and _is_known(host.driver) and host.driver != host.hailort:
        yield (
            "version",
            f"driver {host.driver}, HailoRT {host.hailort}: {rules.driver_equals_library}: install the driver of "
            f"HailoRT {host.hailort} and load it",
        )


def _refusal(what: str, problems: Sequence[tuple[str, str]]) -> DeviceError:
    """Return one error for all problems; its reason is that of the first."""
    lines = "".join(f"\n  {text}" for _, text in problems)
    return DeviceError(f"{what}:{lines}", reason=problems[0][0], is_transient=False)


def _is_known(version: str) -> bool:
    return is_in(version, ">=0")


def _listed(values: Mapping[str, object] | Sequence[object], last: str = " and ") -> str:
    """Return `1, 2 and 3`.

    >>> _listed((1, 2, 3))
    '1, 2 and 3'
    """
    words = [str(value) for value in values]
    return last.join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
